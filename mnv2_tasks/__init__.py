import os

# OpenCV refuses to decode more pixels; it asks once, when it is first imported. The same as in data/images/limits.py
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "178956970")

__version__ = "0.2.0"
