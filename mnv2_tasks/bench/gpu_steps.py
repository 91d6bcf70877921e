"""Training steps whose batches lie on the GPU from the start: ours as tools/train.py runs them, and torchvision's."""

import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models import mobilenet_v2

from mnv2_tasks.bench.contestants import (
    CLASSES,
    SIZES,
    moved,
    noise,
    our_batch,
    our_config,
    our_network,
    their_batch,
    their_loss,
)
from mnv2_tasks.bench.peaks import device
from mnv2_tasks.bench.torchvision_networks import mobile_deeplabv3, ssdlite
from mnv2_tasks.bench.train import Contest, RepeatedBatch, fit_as_train_does
from mnv2_tasks.contracts import Batch
from mnv2_tasks.network.devices import choose_precision
from mnv2_tasks.network.network import Network
from mnv2_tasks.training.callbacks import CompiledTraining

SETTLING = 3  # steps before those in which nothing may wait
OUR_CLASSES = CLASSES | {"yolov2": 20}
MORE = {"yolov2": ["multi_scale.least=64"]}  # small pictures too


THEIR_NETWORKS: dict[str, Callable[[], nn.Module]] = {  # by task
    "classification": mobilenet_v2,
    "ssdlite": partial(ssdlite, SIZES["ssdlite"], CLASSES["ssdlite"]),
    "mobile_deeplabv3": partial(mobile_deeplabv3, CLASSES["mobile_deeplabv3"]),
}


def train_ours(contest: Contest, turns: Iterable[None], *, mode: str | None, steps: int, watched: bool = False) -> None:
    """A contestant: the loop of tools/train.py.

    Args:
        mode: of torch.compile; None: eager.
        steps: of each turn.
        watched: what waits for the GPU within a step ends it with an error that says where.
    """
    config = contest_config(contest)
    network = our_network(config, OUR_CLASSES)
    first, *others = (moved(batch) for batch in _batches(config, contest.batch).values())
    items = _watched(turns) if watched else (None for _ in turns for _ in range(steps))
    loaders = [
        RepeatedBatch(first, _marked(items)),
        *(RepeatedBatch(batch, itertools.repeat(None)) for batch in others),
    ]
    try:
        fit_as_train_does(config, network, dict(zip(config.tasks, loaders)), [CompiledTraining(mode)] if mode else [])
    except RuntimeError as error:
        if watched:
            raise RuntimeError(f"{error} at {place(error)}") from error
        raise


def contest_config(contest: Contest) -> DictConfig:
    overrides = f"data={contest.data}", f"batch={contest.batch}", "train_imgsz=null", "epochs=1", "trainer.devices=1"
    return our_config(contest.task, contest.size, *overrides, *MORE.get(contest.task, []))


def _batches(config: DictConfig, count: int) -> dict[str, Batch]:
    """{task: so many images}."""
    return {task: our_batch(task, noise(count, config.imgsz, OUR_CLASSES[task])) for task in config.tasks}


def _marked(items: Iterable[None]) -> Iterator[None]:
    """Tells CUDA graphs where a step begins, in which they may write over the results of the last."""
    for _ in items:
        torch.compiler.cudagraph_mark_step_begin()
        yield


def _watched(turns: Iterable[None]) -> Iterator[None]:
    """Between one turn and the next, torch refuses whatever waits for the GPU; the first ones settle in."""
    for number, _ in enumerate(turns):
        torch.cuda.set_sync_debug_mode("error" if number >= SETTLING else "default")
        yield
        torch.cuda.set_sync_debug_mode("default")


def place(error: BaseException) -> str:
    """The line of ours, else of whomever, in which what went wrong first was raised."""
    while error.__context__ and "synchronizing" in str(error.__context__):  # what clears up after it waits, too
        error = error.__context__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "mnv2_tasks" in frame.filename and frame.filename != __file__]
    frame = (own or list(frames))[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} ({frame.line})"


def train_theirs(contest: Contest, turns: Iterable[None], *, steps: int) -> None:
    """A contestant: a step of torchvision's references with --amp: float16, and gradients that are scaled for it."""
    on_gpu = device().type == "cuda"
    torch.backends.cudnn.benchmark = True  # as they have it
    model = THEIR_NETWORKS[contest.task]().to(device()).train()
    images, targets = moved(their_batch(contest.task, noise(contest.batch, contest.size, CLASSES[contest.task])))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=4e-5)
    scaler = torch.amp.GradScaler(device().type, enabled=on_gpu)
    for _ in turns:
        for _ in range(steps):
            with torch.autocast(device().type, torch.float16, enabled=on_gpu):
                loss = their_loss(contest.task, model, images, targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            loss.item()  # for their log


def bytes_of_an_image(contest: Contest) -> float:
    """That the operators of our eager step read and write for an image of each task, by counting them."""
    config = contest_config(contest)
    network = our_network(config, OUR_CLASSES).to(device()).to(memory_format=torch.channels_last).train()
    counted = []
    for count in (2, 4):  # what they differ in belongs to images, the rest to weights
        batches = {task: moved(batch) for task, batch in _batches(config, count).items()}
        with Traffic() as traffic, torch.autocast(device().type, torch.bfloat16, enabled=_in_bf16()):
            _loss(network, batches).backward()
        counted.append(traffic.bytes)
    return (counted[1] - counted[0]) / 2


def _in_bf16() -> bool:
    return choose_precision("auto") == "bf16-mixed"


def _loss(network: Network, batches: dict[str, Batch]) -> Tensor:
    terms = network.loss(network.outputs(batches), batches)
    return torch.stack([term for of_task in terms.values() for term in of_task.values()]).sum()


class Traffic(TorchDispatchMode):
    """Bytes of the tensors that operators take and return, but for those that only look at them otherwise."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.bytes += sum(
                min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()) for tensor in tensors
            )
        return result
