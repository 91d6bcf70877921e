"""Kill training, export and packing at random moments, go on, and compare with what nothing killed.

    python tests/kills.py 30 [seed]

Of every ten kills six hit a run (training, validation, final evaluation, results), two an export, two a packing. After
each no file may be half-written under a final name; then the same is called again, with resume= where a run has begun,
and must end equal: weights, metrics, outcomes of every image, pictures; exported files and shards byte by byte.
"""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from mnv2_tasks.__main__ import main
from mnv2_tasks.data_tool import verbs  # noqa: F401  imported once, for all that is forked
from mnv2_tasks.export import export  # noqa: F401
from mnv2_tasks.training import train
from mnv2_tasks.training.module import TasksModule

FORKED = multiprocessing.get_context("fork").Process

TRAIN = [
    "task=classification", "data.source.train_size=24", "data.source.val_size=96", "imgsz=64", "batch=4", "epochs=3",
    "workers=0", "width=0.35", "weights=none", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "trainer.save_every_steps=2",
]  # fmt: skip
READ = {
    ".json": lambda path: json.loads(path.read_text()),
    ".yaml": lambda path: path.read_text().rindex("\n"),
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": load_file,
    ".npz": lambda path: dict(np.load(path)),
    ".png": lambda path: Image.open(path).load(),
    ".csv": lambda path: list(csv.DictReader(path.open())),
}


def mnv2(arguments, folder):
    """The command, as a process of its own that notes what it is about."""
    os.chdir(folder)
    os.environ["MNV2_CACHE"] = str(folder / "cache")
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["mnv2", *arguments]
    torch.set_num_threads(1)

    def note(owner, name, before, after=None):
        function = getattr(owner, name)

        def noting(*args, **more):
            (folder / "phase").write_text(before)
            try:
                return function(*args, **more)
            finally:
                (folder / "phase").write_text(after or before)

        setattr(owner, name, noting)

    note(train, "fit", "training")
    note(train, "score_network", "final evaluation", "results")
    note(TasksModule, "on_validation_epoch_start", "validation")
    note(TasksModule, "on_validation_epoch_end", "validation", "training")
    main(arguments)


def start(arguments, folder):
    process = FORKED(target=mnv2, args=(arguments, folder))  # with all that is to be imported
    process.start()
    return process


def run(arguments, folder):
    process = start(arguments, folder)
    process.join()
    if process.exitcode:
        raise SystemExit(f"{arguments}: exit code {process.exitcode}, see {folder}/log")


def wait_for(sign, process):
    while process.exitcode is None and not sign():
        time.sleep(0.005)
    return time.monotonic()


def kill(arguments, folder, sign, seconds):
    """Whether it was still there to be killed, so many seconds after the sign."""
    process = start(arguments, folder)
    begun = wait_for(sign, process)
    while process.exitcode is None and time.monotonic() < begun + seconds:
        time.sleep(0.002)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def half_written(folder):
    found = []
    for path in folder.rglob("*"):
        if path.suffix in READ and not any(".part" in part for part in path.parts):
            try:
                READ[path.suffix](path)
            except Exception as error:  # whatever the format's reader says
                found.append(f"{path}: {error}")
    return found


def same_arrays(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


class Training:
    def __init__(self, folder):
        self.folder = folder
        self.arguments = ["train", *TRAIN, "runs=runs"]

    def sign(self):
        return (self.folder / "phase").exists()

    def run_folder(self):
        return max(self.folder.glob("runs/classification/*"), default=None)

    def go_on(self):
        found = self.run_folder()
        resumable = found is not None and (found / "checkpoints" / "last.ckpt").is_file()
        if not resumable:
            shutil.rmtree(self.folder / "runs", ignore_errors=True)
        elif "result" in json.loads((found / "run.json").read_text()):
            return  # it had ended
        run(["train", f"resume={found}"] if resumable else self.arguments, self.folder)

    def equal(self, whole):
        one, two = self.run_folder(), whole.run_folder()
        bytewise = (
            "metrics.json",
            "plots/curves.png",
            "plots/confusion.png",
            "samples/validation.png",
            "samples/worst.png",
        )
        return (
            all((one / name).read_bytes() == (two / name).read_bytes() for name in bytewise)
            and same_arrays(*(load_file(path / "weights.safetensors") for path in (one, two)))
            and same_arrays(*(dict(np.load(path / "per_image.npz")) for path in (one, two)))
            and "result" in json.loads((one / "run.json").read_text())
            and not list(one.rglob("*.part"))
        )

    def phase(self):
        return (self.folder / "phase").read_text() or "training"


class Writing:
    """An export or a packing into `out`."""

    def __init__(self, folder, name, arguments, out):
        self.folder, self.name, self.out = folder, name, out
        self.arguments = [*arguments, f"out=out/{out}"]

    def sign(self):
        return bool(list(self.folder.glob("out/*.part")))

    def go_on(self):
        if not (self.folder / "out" / self.out).exists():
            run(self.arguments, self.folder)

    def equal(self, whole):
        one, two = (
            {str(path.relative_to(w.folder)): path.read_bytes() for path in w.folder.glob("out/**/*") if path.is_file()}
            for w in (self, whole)
        )
        return one == two

    def phase(self):
        return self.name


def pictures(folder):
    random_pixels = np.random.default_rng(0)
    for split, count in (("train", 1500), ("val", 300)):
        for index in range(count):
            path = folder / split / f"class{index % 3}" / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random_pixels.integers(0, 255, (96, 96, 3), np.uint8)).save(path)
    return folder


def kill_all(number, seed):
    chance, root = random.Random(seed), Path(tempfile.mkdtemp(prefix="kills-"))
    photos = pictures(root / "photos")
    weights = f"weights={root}/train/runs/classification/shapes-mobilenet_v2-1"
    pack = ["data", "pack", "task=classification", "data=folder", f"data.root={photos}"]
    make = {
        "train": Training,
        "onnx": lambda folder: Writing(folder, "export", ["export", weights, "format=onnx"], "m.onnx"),
        "openvino": lambda folder: Writing(folder, "export", ["export", weights, "format=openvino"], "m.xml"),
        "pack": lambda folder: Writing(folder, "pack", pack, "shards"),
    }
    whole, seconds = {}, {}
    for name, maker in make.items():
        (root / name).mkdir()
        whole[name] = maker(root / name)
        process = start(whole[name].arguments, root / name)
        begun = wait_for(whole[name].sign, process)
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name}: see {root / name}/log")
        seconds[name] = time.monotonic() - begun
        print(f"{name}: {seconds[name]:.1f} s", flush=True)

    hit, halves, unequal, done = Counter(), [], [], 0
    kinds = ["train", "train", "train", "onnx", "pack", "train", "train", "train", "openvino", "pack"]
    while done < number:
        kind = kinds[done % len(kinds)]
        folder = root / f"{kind}-{done}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        work = make[kind](folder)
        if not kill(work.arguments, folder, work.sign, chance.uniform(0, seconds[kind])):
            continue  # it was faster this time
        phase = work.phase()
        hit[phase] += 1
        halves += half_written(folder)
        work.go_on()
        equal = work.equal(whole[kind])
        unequal += [] if equal else [str(folder)]
        done += 1
        print(f"{done}/{number} {kind}, killed in {phase}: {'equal' if equal else 'NOT EQUAL'}", flush=True)
        if equal:
            shutil.rmtree(folder)
    print(f"{number} kills: {dict(hit)}; {number - len(unequal)} ended equal, {len(halves)} files half-written")
    print("\n".join(halves + unequal))
    sys.exit(bool(halves or unequal))


if __name__ == "__main__":
    kill_all(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
