"""bench(config): what is fast, measured beside what people would use instead, in one run and by turns.

Each part is a module of this package, `measure(config) -> Iterable[Table]`; its name is `what=`.
"""

import logging
from importlib import import_module
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from mnv2_tasks.drawing.table import Table
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.network.machine import machine
from mnv2_tasks.runs.run_folder import make_folder
from mnv2_tasks.whole_files import write_json, write_text
from mnv2_tasks.wording import nearest

log = logging.getLogger(__name__)

PARTS = {
    "train": "images per second of a training step, and of the whole loop",
    "data": "images per second from files to batches",
    "eval": "COCO's numbers, mean IoU",
    "infer": "latency and memory of every task in every runtime",
    "predict": "photos per second from files to drawn pictures, beside ultralytics",
    "startup": "seconds to --help and to the first training step",
    "scale": "time and memory as images, batches, classes, objects and annotations grow",
    "files": "files a second, and memory, of sets of a thousand to a million pictures",
    "gpu": "what waits for a GPU in a step, and images per second there, beside torchvision's --amp",
    "memory": "activations with bottlenecks in shares, counted, and measured in PyTorch and ONNX Runtime",
    "learn": "scores after training on real data, beside torchvision's reference training",
}


def bench(config: DictConfig) -> list[Table]:
    """Measure one part, print its tables, and write them into a folder, each as soon as it is measured.

    Raises:
        ConfigError: there is no such part.
    """
    if config.what is None:
        raise ConfigError(f"say what to measure: {', '.join(f'what={name} ({what})' for name, what in PARTS.items())}")
    if config.what not in PARTS:
        raise ConfigError(f"what={config.what}: unknown. {nearest(str(config.what), list(PARTS))}")
    if config.threads is not None:
        if config.threads < 1:
            raise ConfigError(f"threads={config.threads}: expected at least 1")
        torch.set_num_threads(config.threads)
    out = make_folder(config.out, Path("runs/bench"))
    heading = f"{machine()}; {'quick: shows that it runs, not how fast' if config.quick else PARTS[config.what]}"
    console = Console(markup=False)
    console.print(heading, highlight=False)
    tables: list[Table] = []
    for table in import_module(f"mnv2_tasks.bench.{config.what}").measure(config):
        tables.append(table)
        table.show(console)
        text = "\n".join([f"# bench what={config.what}", "", heading, "", *(table.to_markdown() for table in tables)])
        write_text(out / f"{config.what}.md", text)
        found = {"machine": machine(), "tables": [table.to_json() for table in tables]}
        write_json(out / f"{config.what}.json", found)
    log.info("written to %s: %s", out, ", ".join(sorted(file.name for file in out.iterdir())))
    return tables
