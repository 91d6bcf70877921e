import pytest
import torch
from torch import nn

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.optim import TFRMSProp, cosine, exponential, parameter_groups, per_step, poly, scale_rates


def test_norms_and_biases_do_not_decay():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, free = parameter_groups({module: 1.0}, 0.1)
    assert decayed["weight_decay"] == 0.1 and [p.ndim for p in decayed["params"]] == [4]
    assert free["weight_decay"] == 0.0 and [p.ndim for p in free["params"]] == [1, 1, 1]


def test_kernels_of_depthwise_convolutions_are_left_alone_on_wish():
    depthwise, pointwise = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1)
    module = nn.Sequential(depthwise, pointwise, nn.Conv2d(1, 4, 1))  # the last only looks like one: a 1x1 kernel
    for wish, count in ((True, 3), (False, 2)):
        decayed, free = parameter_groups({module: 1.0}, 0.1, decay_depthwise=wish)
        assert len(decayed["params"]) == count and len(decayed["params"]) + len(free["params"]) == 6
        assert any(p is depthwise.weight for p in decayed["params"]) == wish


def test_norms_and_biases_decay_on_wish_as_torchs_own_optimizers_have_it():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    (decayed,) = parameter_groups({module: 1.0}, 0.1, decay_norms=True)
    assert decayed["weight_decay"] == 0.1 and len(decayed["params"]) == 4


def test_rates_follow_the_images_of_a_step_and_the_schedule_starts_from_there():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [weight], "lr_factor": 0.5}], lr=0.5)
    said = scale_rates(optimizer, 2048, 1024)
    assert said == "lr 0.5 x 2048 images of a step / reference_batch 1024 = 1"
    per_step(optimizer, lambda done: 1.0, warmup=0.0, steps=10)
    assert optimizer.param_groups[0]["lr"] == 0.5  # 1.0, at half for this group
    with pytest.raises(ConfigError, match=r"reference_batch=0"):
        scale_rates(optimizer, 8, 0)


def test_rmsprop_follows_tensorflows_formula():
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = TFRMSProp([weight], lr=0.1, decay=0.9, momentum=0.5, eps=1.0)
    square, velocity, value = torch.ones(2), torch.zeros(2), weight.detach().clone()
    for grad in (torch.tensor([0.5, 1.0]), torch.tensor([-1.0, 2.0])):
        weight.grad = grad.clone()
        optimizer.step()
        square = 0.9 * square + 0.1 * grad**2
        velocity = 0.5 * velocity + 0.1 * grad / (square + 1.0).sqrt()
        value = value - velocity
    torch.testing.assert_close(weight.detach(), value)


def factors(schedule, steps=100, **warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = per_step(optimizer, schedule, steps=steps, **{"warmup": 0.0, **warmup})
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_schedules_reach_their_published_values():
    assert factors(cosine)[50] == pytest.approx(0.5)
    assert factors(poly)[50] == pytest.approx(0.5**0.9)
    assert factors(lambda d: exponential(d, ratio_per_epoch=0.98, epochs=10))[50] == pytest.approx(0.98**5)


def test_warm_up_is_linear_and_then_the_schedule():
    values = factors(lambda done: 1.0, warmup=0.1)
    assert values[0] == pytest.approx(1 / 11) and values[4] == pytest.approx(5 / 11)
    assert values[10] == values[99] == 1.0
    values = factors(lambda done: 1.0, warmup=0.1, warmup_start=0.25)
    assert values[0] == pytest.approx(0.25 + 0.75 / 11) and values[10] == values[99] == 1.0


def test_impossible_warm_up_is_refused():
    with pytest.raises(ConfigError, match=r"warmup=1.0.*\[0, 1\)"):
        factors(cosine, warmup=1.0)
    with pytest.raises(ConfigError, match=r"warmup_start=2: expected a share of the rate"):
        factors(cosine, warmup_start=2)
