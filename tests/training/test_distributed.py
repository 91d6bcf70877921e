"""Two processes on one machine measure what one measures, and train together."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[2] / "tools"
VAL_SIZE, BATCH = 22, 4  # six batches, the last one half full
KINDS = ("classification", "detection", "segmentation")

# a tool that writes down what each process validates on; Lightning starts the second process with the same command
RECORDING = """
import os
from pathlib import Path
from mnv2_tasks.loading.loaders import ValidationSet

def recorded(self, key, read=ValidationSet.__getitem__):
    with (Path(os.environ["RECORDS"]) / os.environ.get("LOCAL_RANK", "0")).open("a") as file:
        file.write(f"{self.source.kind} {key[1]}\\n")
    return read(self, key)

ValidationSet.__getitem__ = recorded
exec(compile(Path(os.environ["TOOL"]).read_text(), os.environ["TOOL"], "exec"))
"""


def run_tool(tool, folder, *overrides):
    """Run a tool with its output in `folder`; what each process read is in `folder / <rank>`."""
    folder.mkdir()
    script = folder / "recording.py"
    script.write_text(RECORDING)
    inherited = {name: value for name, value in os.environ.items() if name not in ("MASTER_PORT", "MNV2_RUN_FOLDER")}
    settings = {"TOOL": str(TOOLS / tool), "RECORDS": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), *overrides, f"runs={folder}"],
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def only_file(folder, name):
    (path,) = folder.glob(f"*/*/{name}")
    return path


def read_by(folder, rank):
    """{kind of task: indices of the validation images in the order that this process read them}"""
    rows = [line.split() for line in (folder / str(rank)).read_text().splitlines()]
    return {kind: [int(index) for of, index in rows if of == kind] for kind in KINDS}


def test_two_processes_measure_exactly_what_one_does_and_see_every_image_once(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, number in (
        (one, 1),
        (two, 2),
    ):  # the shipped weights do all three tasks, and well: nothing is all zeros
        run_tool(
            "eval.py", folder, "weights=multitask_shapes", f"data.source.val_size={VAL_SIZE}", f"batch={BATCH}",
            "workers=0", "trainer.precision=32-true", "trainer.accelerator=cpu", f"trainer.devices={number}",
        )  # fmt: skip
    metrics = json.loads(only_file(two, "metrics.json").read_text())
    assert {"classification/top1", "ssdlite/AP", "mobile_deeplabv3/mIoU"} <= set(metrics)
    assert metrics["classification/images"] == VAL_SIZE
    for name in ("metrics.json", "ssdlite_results.json"):
        assert only_file(two, name).read_text() == only_file(one, name).read_text()
    for kind in KINDS:
        first, second = (read_by(two, rank)[kind] for rank in (0, 1))
        assert len(first) == 12 and len(second) == 10, kind  # three batches each
        assert sorted(first + second) == read_by(one, 0)[kind] == list(range(VAL_SIZE)), kind


def test_two_processes_train_into_one_run_folder(tmp_path):
    folder = tmp_path / "trained"
    run_tool("train.py", folder, "task=ssdlite", *TINY, "trainer.devices=2")
    weights = only_file(folder, "weights.safetensors")  # of one run, and no second one beside it
    run = weights.parent
    assert [path.name for path in run.parent.iterdir()] == ["shapes-mobilenet_v2-1"]
    assert load_file(weights) and (run / "checkpoints" / "last.ckpt").is_file()
    with (run / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["val/AP"]) == pytest.approx(json.loads((run / "metrics.json").read_text())["AP"], abs=1e-6)
    validated = [set(read_by(folder, rank)["detection"]) for rank in (0, 1)]
    assert validated == [set(range(4)), set(range(4, 8))]  # batches of 4


def proc(name):
    return Path("/proc", name).read_text(encoding="utf-8", errors="replace")


def listening(process):
    """Addresses, in hexadecimal, that a process can be reached at."""
    links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir() if link.exists() or link.is_symlink()]
    rows = [row.split() for kind in ("tcp", "tcp6") for row in proc(f"net/{kind}").splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux who listens where")
def test_two_processes_meet_on_the_loopback_and_sigterm_to_one_saves_and_ends_both(tmp_path):
    inherited = {name: value for name, value in os.environ.items() if name not in ("MASTER_PORT", "MNV2_RUN_FOLDER")}
    more = ["epochs=500", "trainer.devices=2", f"runs={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, str(TOOLS / "train.py"), "task=classification", *TINY, *more],
        env=inherited | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    children = proc(f"{process.pid}/task/{process.pid}/children").split()
    (other,) = [pid for pid in children if "LOCAL_RANK=1" in proc(f"{pid}/environ")]
    assert listening(process.pid) | listening(other) == {"0100007F"}
    began = time.monotonic()
    os.kill(int(other), signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)  # until both have closed their output
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - began < 30
    assert f"process {other} was asked to stop by SIGTERM" in printed and "Traceback" not in printed
    (run,) = tmp_path.glob("*/*")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] > 2 and f"resume={run}" in printed
