"""Eight small sets of drawn pictures, trained on as a user would: is what a run delivers as good as what it could have?

python tests/small_sets.py [key=value ...]    (minutes; the keys go to tools/train.py)

Each run's delivered weights, its averaged weights at the end and those of its last step are scored on 500 further
pictures. Exits with 1 where the delivered ones are more than 2 points below the better of the others.
"""

import contextlib
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image

from mnv2_tasks.build import build_fit, load_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.scenes import CLASS_NAMES, draw_scene
from mnv2_tasks.prediction.predictor import predict_images
from mnv2_tasks.training.train import train

SETS = [(32, 2), (32, 4), (64, 3), (64, 8), (128, 5), (128, 10), (256, 6), (256, 10)]  # training pictures, classes
FURTHER, SIDE, ALLOWED = 500, 96, 0.02
START = ["weights=shapes_backbone", "width=0.35", "imgsz=64", "input.resize=73", "workers=0", "trainer.accelerator=cpu"]


def pictures(seed: int, split: str, count: int, classes: int):
    """(class, (96, 96, 3) uint8), by turns; beyond the eight shapes a class is the negative of one."""
    wanted, index = 0, 0
    while wanted < count:
        label = wanted % classes
        sample = draw_scene(seed, split, index, SIDE)
        index += 1
        if sample.label == label % len(CLASS_NAMES):
            wanted += 1
            yield label, 255 - sample.image if label >= len(CLASS_NAMES) else sample.image


def write(folder: Path, drawn) -> None:
    for number, (label, image) in enumerate(drawn):
        path = folder / f"class_{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def top1(network, fit, seen) -> float:
    network.eval()
    right = 0
    for start in range(0, len(seen), 50):
        labels, images = zip(*seen[start : start + 50])
        results = predict_images(network, images, fit)
        right += sum(int(r["classification"].argmax()) == label for r, label in zip(results, labels))
    return right / len(seen)


def scores(seed: int, count: int, classes: int, folder: Path, overrides: list[str]) -> list[float]:
    """Top-1 of the delivered, the averaged and the last weights of a run."""
    held_out = max(16, count // 4)
    validation = list(pictures(seed, "val", held_out + FURTHER, classes))
    write(folder / "data" / "train", pictures(seed, "train", count, classes))
    write(folder / "data" / "val", validation[:held_out])
    words = ["task=classification", "data=folder", f"data.root={folder / 'data'}", f"runs={folder / 'runs'}"]
    with contextlib.redirect_stdout(io.StringIO()):
        run = train(compose("train", [*words, "logger=none", *START, *overrides]))
    network, passport = load_network(str(run / "weights.safetensors"))
    fit, further = build_fit(DictConfig(passport["config"])), validation[held_out:]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    found = [top1(network, fit, further)]
    for key in ("state_dict", "current_model_state"):
        state = checkpoint.get(key, checkpoint["state_dict"])  # ema=0 has no other
        network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
        found.append(top1(network, fit, further))
    return found


def main() -> None:
    print("| pictures | classes | delivered | averaged | last | delivered to the better |\n|---|---|---|---|---|---|")
    gaps = []
    for seed, (count, classes) in enumerate(SETS):
        with TemporaryDirectory() as folder:
            found = scores(seed, count, classes, Path(folder), sys.argv[1:])
        gaps.append(found[0] - max(found[1:]))
        numbers = [f"{value:.3f}" for value in found]
        print(f"| {count} | {classes} | {' | '.join(numbers)} | {gaps[-1]:+.3f} |", flush=True)
    sys.exit(int(np.min(gaps) < -ALLOWED))


if __name__ == "__main__":
    main()
