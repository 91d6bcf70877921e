import os

# OpenCV refuses to decode more pixels; it asks once, when it is first imported. The same as in data/images/limits.py
_pixels = os.environ.get("MNV2_MOST_PIXELS", "")
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", _pixels if _pixels.isdecimal() else "178956970")
os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")  # what it cannot decode is Pillow's, or told in our own words

__version__ = "0.2.0"
