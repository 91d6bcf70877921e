import pytest
import torch
import torch.nn.functional as F

from mnv2_tasks.build import build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import ClassificationBatch, Frames
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.training.assemble import build_mixing
from mnv2_tasks.training.mixing import Mixing


def batch(size=6, classes=5):
    """Image i is filled with 40 * i, so that its pixels say which images they come from."""
    images = (40 * torch.arange(size)).view(-1, 1, 1, 1).expand(-1, 3, 16, 16).to(torch.uint8)
    frames = Frames((16, 16), torch.full((size, 2), 16), torch.full((size, 2), 16))
    return ClassificationBatch(images, torch.arange(size) % classes, torch.arange(size), frames)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mixup, cutmix", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_labels_are_the_shares_of_the_images(mixup, cutmix, seed):
    torch.manual_seed(seed)
    plain = batch()
    mixed = Mixing(mixup=mixup, cutmix=cutmix, num_classes=5)(plain)
    assert mixed.labels.shape == (6, 5) and mixed.images.dtype == torch.float32
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(6))
    neighbours = plain.images.float().roll(1, 0)
    for i in range(1, 6):  # its neighbour is image i - 1, of another class
        share = mixed.labels[i, plain.labels[i]]
        wanted = share * plain.images[i].float().mean() + (1 - share) * neighbours[i].mean()
        assert mixed.images[i].mean() == pytest.approx(float(wanted), abs=1e-3)


def test_cutmix_leaves_pixels_whole_and_mixup_blends_all_of_them():
    torch.manual_seed(1)
    cut = Mixing(mixup=0.0, cutmix=1.0, num_classes=5)(batch())
    assert set(cut.images.unique().tolist()) <= {0.0, 40.0, 80.0, 120.0, 160.0, 200.0}
    blended = Mixing(mixup=1.0, cutmix=0.0, num_classes=5)(batch())
    assert all(image.unique().numel() == 1 for image in blended.images)


def test_draws_come_from_torchs_generator_alone():
    mixing = Mixing(mixup=0.2, cutmix=1.0, num_classes=5)
    state = torch.get_rng_state()
    first = [mixing(batch()) for _ in range(4)]
    torch.set_rng_state(state)
    again = [mixing(batch()) for _ in range(4)]
    for one, other in zip(first, again):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    assert len({round(float(one.labels.max(1).values.min()), 6) for one in first}) > 1


def test_loss_of_shares_is_the_mean_of_the_losses_of_both_labels():
    network = build_network(compose("train", ["task=classification", "width=0.35"]), {"classification": list("abcde")})
    task = network.eval().tasks["classification"]
    output = network.output("classification", batch().images.repeat(1, 1, 2, 2))
    one, other = torch.arange(6) % 5, torch.arange(6).roll(1) % 5
    shares = 0.3 * F.one_hot(one, 5) + 0.7 * F.one_hot(other, 5)
    losses = [task.loss(output, batch()._replace(labels=labels))["class"] for labels in (shares, one, other)]
    torch.testing.assert_close(losses[0], 0.3 * losses[1] + 0.7 * losses[2])


def test_mixing_is_refused_where_it_has_no_meaning():
    with pytest.raises(ConfigError, match=r"mixup=-1.*expected 0"):
        Mixing(mixup=-1.0, cutmix=1.0, num_classes=5)
    config = compose("train", ["task=ssdlite", "mixing.mixup=0.2"])
    network = build_network(config, {"ssdlite": ["thing"]})
    with pytest.raises(ConfigError, match=r"is for classification; ssdlite cannot use it"):
        build_mixing(config, network)
    assert build_mixing(compose("train", ["task=ssdlite"]), network) == {}
