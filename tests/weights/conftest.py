import os

import pytest


@pytest.fixture(scope="session")
def tf():
    """TensorFlow, quiet; tests that need it are skipped where it is missing."""
    import torch._dynamo  # noqa: F401  before TensorFlow, see weights/importers/tensorflow.py

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before its import
    return pytest.importorskip("tensorflow")
