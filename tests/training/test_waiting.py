"""No step waits for the host: what leaves the device, counted on one that has no numbers to give.

The meta device stands for a GPU. Whatever would have the host wait for a GPU is refused: numbers that are read, shapes
that depend on them, copies that do not go by themselves.
"""

import copy
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mnv2_tasks.boxes.matching import best_pairs_in_rounds
from mnv2_tasks.boxes.suppression import survivors_at_once
from mnv2_tasks.config.compose import compose
from mnv2_tasks.metrics.mean_iou import counted_at_once
from mnv2_tasks.training.averaging import Averaging
from mnv2_tasks.training.prepared_run import prepare
from mnv2_tasks.weights.weight_files import save_weights

aten, DEVICE = torch.ops.aten, torch.device("meta")
READS = {
    aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select, aten.bincount,
    aten._unique2, aten.unique_dim, aten.unique_consecutive,
}  # fmt: skip
OPERATORS = {  # what they do on a GPU
    torch.ops.mnv2_tasks.best_pairs_first: best_pairs_in_rounds,
    torch.ops.mnv2_tasks.survivors: survivors_at_once,
}


class Waits(Exception):
    pass


def on_device(value):
    return isinstance(value, torch.Tensor) and value.device == DEVICE


class _Copies(TorchFunctionMode):
    """`torch.tensor(..., device=)` is a copy that no dispatch mode sees."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and on_device(result):
            raise Waits(f"{func.__name__} copies numbers of the host's")
        return result


class _Reads(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.left = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in OPERATORS:
            with self:
                return OPERATORS[packet](*args, **kwargs)
        tensors = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        if any(map(on_device, tensors)) and packet in READS:
            raise Waits(f"{func} reads numbers of the device's")
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_) and on_device(args[0]):
            if any(index is not None and (index.dtype == torch.bool or not on_device(index)) for index in args[1]):
                raise Waits(f"{func}: how much it picks, or the copy of an index, is waited for")
        if packet is aten._to_copy:
            there = torch.device(kwargs.get("device") or args[0].device)
            if on_device(args[0]) and there != DEVICE:
                self.left += 1
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            if there == DEVICE and not on_device(args[0]) and not kwargs.get("non_blocking"):
                raise Waits("a copy to the device is waited for")
        if packet is aten.copy_ and on_device(args[0]) != on_device(args[1]):
            raise Waits("copy_ between host and device")
        return func(*args, **kwargs)


@contextmanager
def leaving():
    """Counts copies to the CPU; all else that is waited for is refused."""
    reads = _Reads()
    with _Copies(), reads:
        yield reads


def prepared(tiny, task, *more):
    """The module on the device, and its data."""
    config = compose("train", [f"task={task}", *tiny, *more])
    if config.distillation.teacher == "itself":
        config.distillation.teacher = None
        ready = prepare(config)
        config.distillation.teacher = f"{config.runs}/teacher.safetensors"
        save_weights(Path(config.distillation.teacher), ready.network.state_dict(), ready.module.passport)
    ready = prepare(config)
    module = ready.module.to(DEVICE)
    if module.distillation:
        module.distillation.teacher.to(DEVICE)  # as the first step does, and waits
    module._trainer = SimpleNamespace(global_step=3, estimated_stepping_batches=100, world_size=1)
    module.log_dict = lambda *_, **__: None
    return module, ready.data


def first(loader):
    return next(iter(loader))


STEPS = {
    "classification": ["classification"],
    "mixed": ["classification", "mixing.mixup=0.2", "mixing.cutmix=1.0"],
    "ssdlite": ["ssdlite"],
    "ssdlite, sigmoid": ["ssdlite", "tasks.ssdlite.scores=sigmoid", "tasks.ssdlite.max_per_class=20"],
    "yolov2": ["yolov2", "multi_scale.least=32"],
    "mobile_deeplabv3": ["mobile_deeplabv3"],
    "multitask": ["multitask", "task_weighting=uncertainty"],
    "auxiliary": ["classification", "backbone=nasnet_mobile", "imgsz=96", "width=0.25", "auxiliary=0.4"],
    **{f"{task}, distilled": [task, "distillation.teacher=itself"] for task in ("multitask", "yolov2")},
}


@pytest.mark.parametrize("task", STEPS)
def test_nothing_leaves_the_device_in_a_training_step(task, tiny):
    module, data = prepared(tiny, *STEPS[task])
    batches = {name: first(loader) for name, loader in data.train_dataloader().items()}
    optimizer = module.optimisation.build_optimizer(
        module.network.backbone, module.network.get_submodule("tasks"), module.task_weights
    )
    for group in optimizer.param_groups:
        group["fused"] = False  # torch has no such kernel for the stand-in
    with leaving() as reads:
        loss = module.training_step(data.transfer_batch_to_device(batches, DEVICE, 0), 0)["loss"]
        loss.backward()
        module.configure_gradient_clipping(optimizer, 1.0)
        optimizer.step()
        averaged = SimpleNamespace(module=copy.deepcopy(module.network), n_averaged=torch.zeros((), device=DEVICE))
        Averaging(0.9, warmup=True)._update(averaged, module.network, 3)
    assert reads.left == 0


@pytest.mark.parametrize("task", STEPS)
def test_results_of_a_validation_batch_leave_the_device_at_once(task, tiny):
    module, data = prepared(tiny, *STEPS[task])
    module.eval()
    for index, loader in enumerate(data.val_dataloader()):
        with torch.no_grad(), leaving() as reads:
            batch = data.transfer_batch_to_device(first(loader), DEVICE, index)
            module.validation_step(batch, 0, index)
        assert reads.left == 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor([1.0], device=x.device),
        lambda x: x + x.new_tensor([1.0]),
        lambda x: x + torch.ones(1).to(x.device),
        lambda x: torch.bincount(x[0].long()),
    ],
    ids=["item", "bool", "mask", "nonzero", "tensor", "new_tensor", "to", "bincount"],
)
def test_what_waits_is_refused(wait):
    x = torch.ones(2, 3, device=DEVICE)
    with pytest.raises(Waits), leaving():
        wait(x)


@pytest.mark.parametrize("leave", [lambda x: x.cpu(), lambda x: x.tolist(), lambda x: x.to("cpu", non_blocking=True)])
def test_what_leaves_is_counted(leave):
    with leaving() as reads:
        leave(torch.ones(2, 3, device=DEVICE))
    assert reads.left == 1


def test_a_step_that_reads_its_loss_is_refused(tiny):
    module, data = prepared(tiny, "classification")
    batches = {name: first(loader) for name, loader in data.train_dataloader().items()}
    weigh = module.task_weights.forward
    module.task_weights.forward = lambda losses: weigh(losses) * losses["classification"].item()
    with pytest.raises(Waits, match="_local_scalar_dense"), leaving():
        module.training_step(data.transfer_batch_to_device(batches, DEVICE, 0), 0)


def test_pixels_counted_where_they_are_equal_those_counted_by_numpy():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 5, (20, 30), generator=generator).to(torch.uint8)
    truth[:3] = 255
    predicted = torch.randint(0, 5, (20, 30), generator=generator)
    pairs = torch.stack([truth, predicted])[:, 3:].flatten(1).tolist()
    expected = torch.zeros(5, 5, dtype=torch.int64)
    for row, column in zip(*pairs):
        expected[row, column] += 1
    assert torch.equal(counted_at_once(truth, predicted, 5), expected)
