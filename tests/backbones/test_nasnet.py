"""NASNet-A (4 @ 1056): the size that is published, its two stems, drop path. (Parity: tests/weights.)"""

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from mnv2_tasks.backbones.nasnet import FactorizedReduction, NASNetMobile, SameAveragePool
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.heads.linear import LinearHead
from mnv2_tasks.layers import batch_norm
from mnv2_tasks.network.cost import model_cost


def nasnet(*, taps=("final",), output_stride=32, width=1.0, **options):
    with torch.device("meta"):
        return NASNetMobile(taps=taps, output_stride=output_stride, width=width, **options)


@pytest.mark.parametrize(
    "num_classes, params, madds",  # paper: 5.3M, 564M
    [(1000, 5_289_978, 563_638_816), (1001, 5_291_035, 563_639_872)],  # the second with TF's background class
)
def test_classifier_has_the_size_that_the_paper_prints(num_classes, params, madds):
    backbone = nasnet()
    with torch.device("meta"):
        head = LinearHead(features=backbone.features, num_classes=num_classes, dropout=0.5)
    cost = model_cost(nn.Sequential(backbone, head), 224)
    assert (cost.params, cost.madds) == (params, madds)


def test_width_multiplies_the_filters_of_every_cell():
    features = nasnet(width=0.5, taps=["c1", "c2", "c3", "c4", "c5"]).features
    assert [spec.channels for spec in features.values()] == [32, 24, 144, 288, 576]  # of 6 filters, not 5.5
    assert nasnet(width=0.35).features["final"].channels == 384


@pytest.mark.parametrize(
    "taps, options, cells",
    [
        (["final"], {}, 111),
        (["final", "auxiliary"], {}, 111),
        (["final"], {"stem_padding": "same"}, 112),
        (["final", "c4_expand"], {}, 112),
        (["c5"], {}, 112),
    ],
)
def test_only_a_classifiers_stem_is_not_padded(taps, options, cells):
    assert nasnet(taps=taps, **options).stem(torch.empty(2, 3, 224, 224, device="meta")).shape[2] == cells


def test_at_even_sizes_both_stems_see_the_same_pixels():
    images = torch.randn(1, 3, 64, 64)
    valid, same = (NASNetMobile(width=0.1, output_stride=32, taps=["final"], stem_padding=p) for p in ("valid", "same"))
    same.load_state_dict(valid.state_dict())
    torch.testing.assert_close(valid.eval().stem(images), same.eval().stem(images)[:, :, :31, :31])


@pytest.mark.parametrize("side", [8, 9])
def test_average_leaves_out_what_is_padded(side):
    """As TensorFlow has it: below and on the right alone at even sizes."""
    pool, x = SameAveragePool(3, stride=2), torch.randn(1, 1, side, side)
    before = side % 2
    for row in range(4):
        for column in range(4):
            top, left = 2 * row - before, 2 * column - before
            seen = x[0, 0, max(0, top) : top + 3, max(0, left) : left + 3]
            torch.testing.assert_close(pool(x)[0, 0, row, column], seen.mean())


def test_dilated_average_leaves_out_what_is_padded():
    pool, x = SameAveragePool(3, stride=1), torch.randn(1, 2, 8, 9)
    pool.dilation = (2, 2)
    averaged = pool(x)
    for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):  # every other cell is a map of its own
        expected = nn.functional.avg_pool2d(x[:, :, rows::2, columns::2], 3, 1, 1, count_include_pad=False)
        torch.testing.assert_close(averaged[:, :, rows::2, columns::2], expected)


def test_factorized_reduction_of_stride_1_computes_the_cells_between_too():
    strided, dense = (FactorizedReduction(3, 4, norm=batch_norm()).eval() for _ in range(2))
    dense.load_state_dict(strided.state_dict())
    dense.stride = (1, 1)
    x = torch.randn(1, 3, 9, 8)
    torch.testing.assert_close(dense(x)[:, :, ::2, ::2], strided(x))


def test_drop_path_rises_with_depth_and_is_off_in_evaluation():
    plain, dropping = (NASNetMobile(width=0.1, output_stride=32, taps=["final"], drop_path=p) for p in (0.0, 0.4))
    dropping.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain.eval()(images)["final"], dropping.eval()(images)["final"])
    assert not torch.equal(dropping.train()(images)["final"], dropping(images)["final"])
    assert not any(isinstance(module, StochasticDepth) for module in plain.modules())
    chances = [{m.p for m in cell.modules() if isinstance(m, StochasticDepth)} for cell in dropping.cells]
    assert chances == [{0.4 * (number + 1) / 16} for number in range(16)]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"drop_path": 1.0}, r"drop_path=1.0: expected a probability in \[0, 1\)"),
        ({"stem_padding": "torch"}, "stem_padding='torch': expected 'valid', 'same' or None"),
        ({"stem_padding": "valid", "taps": ["final", "c4_expand"]}, r"for a classifier.*\['c4_expand'\] need 'same'"),
    ],
)
def test_arguments_out_of_range_are_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        nasnet(**options)
