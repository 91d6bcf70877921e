"""Parameter groups, TF's RMSProp, and learning-rate schedules per step."""

# pyright: reportPrivateImportUsage=false
# torch._foreach_*: what torch.optim's own optimizers are made of

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from mnv2_tasks.errors import ConfigError


def parameter_groups(
    modules: dict[nn.Module, float], weight_decay: float, *, decay_depthwise: bool = True, decay_norms: bool = False
) -> list[dict]:
    """Weight decay on matrices and kernels, none on norms and biases unless it is wanted.

    Args:
        modules: {module: its learning rate as a factor on the optimizer's}.
        decay_depthwise: also on the kernels of depthwise convolutions, which TF slim leaves alone.
        decay_norms: also on the scales and shifts of norms and on biases, as torch's own optimizers do.
    """
    groups = []
    for module, factor in modules.items():
        parameters = [p for p in module.parameters() if p.requires_grad]
        decayed = {p for p in parameters if (decay_depthwise or not _is_depthwise(p)) and (decay_norms or p.ndim > 1)}
        for decay, members in (
            (weight_decay, [p for p in parameters if p in decayed]),
            (0.0, [p for p in parameters if p not in decayed]),
        ):
            if members:
                groups.append({"params": members, "weight_decay": decay, "lr_factor": factor})
    return groups


def _is_depthwise(kernel: Tensor) -> bool:
    return kernel.ndim == 4 and kernel.shape[1] == 1 and kernel.shape[2] > 1


def scale_rates(optimizer: torch.optim.Optimizer, images: int, reference_batch: int) -> str:
    """Multiply every learning rate by images / reference_batch, before a schedule reads it, and say so.

    Larger steps for larger batches (Goyal et al. 2017: linear, behind a warm-up).

    Args:
        images: of one optimizer step, over all processes and accumulated batches.
        reference_batch: the images of a step that the rates are stated for.
    """
    if reference_batch < 1:
        raise ConfigError(f"reference_batch={reference_batch}: expected a number of images, or null to leave lr alone")
    before = optimizer.param_groups[0]["lr"]
    for group in optimizer.param_groups:
        group["lr"] *= images / reference_batch
    after = optimizer.param_groups[0]["lr"]
    return f"lr {before:.4g} x {images} images of a step / reference_batch {reference_batch} = {after:.4g}"


class TFRMSProp(torch.optim.Optimizer):
    """RMSProp as TensorFlow defines it, which the paper's rates are tuned for.

    Against torch.optim.RMSprop: epsilon lies inside the square root, the mean square starts at 1, and the rate is
    applied before the momentum.

    Args:
        decay: of the mean square, 0.9 in the paper.
        eps: 1.0 in the paper's SSDLite recipe.
    """

    def __init__(self, params: Iterable, *, lr: float, decay: float, momentum: float, eps: float):
        super().__init__(params, {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if p not in self.state:
                    self.state[p] = {"mean_square": torch.ones_like(p), "velocity": torch.zeros_like(p)}
            squares = [self.state[p]["mean_square"] for p in parameters]
            velocities = [self.state[p]["velocity"] for p in parameters]
            # all tensors at once: one by one, launching them takes a GPU longer than computing
            grads = [p.grad for p in parameters]
            if group["weight_decay"]:
                grads = torch._foreach_add(grads, parameters, alpha=group["weight_decay"])
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, grads, grads, value=1 - group["decay"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_addcdiv_(velocities, grads, roots, value=group["lr"])
            torch._foreach_sub_(parameters, velocities)
        return loss


# A schedule maps the fraction of training done, in [0, 1], to a factor on the learning rate.


def cosine(done: float, *, final: float = 0.0) -> float:
    """From 1 to `final` along half a cosine."""
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def poly(done: float, *, power: float = 0.9) -> float:
    """DeepLab's (1 - done)^0.9."""
    return (1 - done) ** power


def exponential(done: float, *, ratio_per_epoch: float, epochs: int) -> float:
    """The paper's decay (section 6.1): 0.98 per epoch, applied per step."""
    return ratio_per_epoch ** (done * epochs)


def multistep(
    done: float, *, at: Sequence[float], scales: Sequence[float], burn_in: float = 0.0, power: float = 4.0
) -> float:
    """Darknet's: multiplied by each of `scales` from its share of training in `at` on.

    Args:
        burn_in: share of training at whose start the rate rises from 0, with `power` of what is done of it.
    """
    if len(at) != len(scales):
        raise ConfigError(f"schedule.shape: at has {len(at)} places, scales {len(scales)}: expected as many")
    if done < burn_in:
        return (done / burn_in) ** power
    return math.prod(scale for share, scale in zip(at, scales) if done >= share)


def per_step(
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[float], float],
    *,
    warmup: float,
    steps: int,
    warmup_start: float = 0.0,
) -> LambdaLR:
    """`schedule` over all `steps`, behind a linear warm-up over the first `warmup` share of them.

    Args:
        warmup_start: the share of the rate that it rises from.

    Raises:
        ConfigError: `warmup` is not in [0, 1), or `warmup_start` not in [0, 1].
    """
    if not 0 <= warmup < 1:
        raise ConfigError(f"schedule.warmup={warmup}: expected a share of training in [0, 1)")
    if not 0 <= warmup_start <= 1:
        raise ConfigError(f"schedule.warmup_start={warmup_start}: expected a share of the rate in [0, 1]")
    warmup_steps = round(warmup * steps)

    def factor(step: int) -> float:
        ramp = min(1.0, (step + 1) / (warmup_steps + 1))
        return (warmup_start + (1 - warmup_start) * ramp) * schedule(min(1.0, step / max(1, steps)))

    factors = [group.get("lr_factor", 1.0) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [lambda step, own=own: own * factor(step) for own in factors])
