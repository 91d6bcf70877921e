"""An export of weights that a GPU trained, and on a machine that has one. MNV2_TEST_GPU=cpu tries it without one."""

import numpy as np
import pytest
import torch
from conftest import TINY

from mnv2_tasks.build import load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import Frames
from mnv2_tasks.export.export import export
from mnv2_tasks.runtimes.exported import Exported
from mnv2_tasks.training.train import train

pytestmark = pytest.mark.slow


def test_a_file_of_a_run_there_gives_what_the_network_gives_there(gpu, tmp_path):
    words = ["task=classification", *TINY, f"runs={tmp_path}", f"trainer.accelerator={gpu}", "logger=none"]
    run = train(compose("train", words))
    file = export(compose("export", [f"weights={run}", "format=torch", f"out={tmp_path / 'model.pt2'}", "count=8"]))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8))
    sizes = torch.full((2, 2), 64)
    frames = Frames((64, 64), sizes, sizes)
    network = load_network(str(run / "weights.safetensors"))[0].eval().to(gpu)
    with torch.inference_mode():
        there = network.predict_task("classification", images.to(gpu), frames)
    of_file = Exported(file, trust=True).predict_task("classification", images, frames)
    torch.testing.assert_close(of_file, there.cpu(), atol=1e-3, rtol=0)
