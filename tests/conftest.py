import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before anything imports albumentations

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)  # the suite's tensors are small; two threads on busy cores only wait for each other

TINY = [
    "data.source.train_size=16", "data.source.val_size=8", "imgsz=64", "batch=4", "epochs=1", "workers=0",
    "width=0.35", "weights=none", "ema=0.5", "trainer.precision=32-true", "trainer.accelerator=cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Charts and samples would take a second of every run that a test makes: those who look at them are marked."""
    if "draws" not in request.keywords:
        for tool in ("training.conclude", "evaluation.evaluate"):
            monkeypatch.setattr(f"mnv2_tasks.{tool}.write_pictures", lambda *_, **__: None)


@pytest.fixture
def lean(monkeypatch):
    """Without what a run draws, prints and counts beside training."""
    for name in ("conclude.plot_curves", "conclude.write_pictures", "conclude.print_metrics", "train._banner"):
        monkeypatch.setattr(f"mnv2_tasks.training.{name}", lambda *_, **__: None)


@pytest.fixture
def tiny(tmp_path):
    """Overrides that make any task train in a second or two, into this test's own folder."""
    return [*TINY, f"runs={tmp_path}"]


@pytest.fixture
def gpu():
    """Lightning's name of it; tests that need one are skipped where there is none, unless they shall be tried there."""
    name = os.environ.get("MNV2_TEST_GPU", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return name


@pytest.fixture
def photo(tmp_path):
    """A 40 x 30 JPEG, black but for a red left upper corner, with some noise so that it has bytes to lose."""
    pixels = np.random.default_rng(0).integers(0, 60, (30, 40, 3), np.uint8)
    pixels[:15, :20] = (250, 10, 10)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    return path


@pytest.fixture(scope="session")
def tf():
    """TensorFlow, quiet; tests that need it are skipped where it is missing."""
    import torch._dynamo  # noqa: F401  before TensorFlow, see weights/importers/tensorflow.py

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before its import
    return pytest.importorskip("tensorflow")
