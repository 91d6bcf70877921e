import pytest
import torch

from mnv2_tasks.boxes.anchors import grid_anchors
from mnv2_tasks.boxes.cells import decode_region, encode_region, reorg, responsible
from mnv2_tasks.boxes.matching import UNMATCHED

GRID, SIZES = (5, 4), [(0.1, 0.2), (0.4, 0.3)]
ANCHORS = grid_anchors([GRID], [SIZES])


def reorganised_as_darknet(x, side):
    """blas.c, reorg_cpu with forward=0, over memory as C has it; one image."""
    channels, height, width = x.shape
    memory, out = x.flatten().tolist(), [0.0] * x.numel()
    groups = channels // side**2
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                row = j * side + (k // groups) // side
                column = i * side + (k // groups) % side
                out[i + width * (j + height * k)] = memory[column + width * side * (row + height * side * (k % groups))]
    return torch.tensor(out).view(channels * side**2, height // side, width // side)


@pytest.mark.parametrize("shape", [(8, 4, 6), (4, 2, 2), (64, 8, 4)])
def test_reorg_is_darknets_not_space_to_depth(shape):
    x = torch.arange(torch.tensor(shape).prod().item(), dtype=torch.float32).view(shape)
    ours = reorg(x[None].to(memory_format=torch.channels_last), 2)[0]
    assert torch.equal(ours, reorganised_as_darknet(x, 2))
    if shape != (4, 2, 2):
        assert not torch.equal(ours, torch.nn.functional.pixel_unshuffle(x, 2))


def test_a_box_is_decoded_from_the_corner_of_its_cell_and_the_size_of_its_anchor():
    deltas = torch.zeros(len(ANCHORS), 4)
    at = (2 * GRID[1] + 3) * len(SIZES) + 1  # row 2, column 3, second anchor
    deltas[at] = torch.tensor([0.25, 0.75, 0.0, 0.0]).logit().nan_to_num(0, 0, 0)
    deltas[at, 2:] = torch.tensor([2.0, 0.5]).log()
    x, y, width, height = (3 + 0.25) / 4, (2 + 0.75) / 5, 2 * 0.4, 0.5 * 0.3
    expected = torch.tensor([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    torch.testing.assert_close(decode_region(deltas, ANCHORS, GRID)[at], expected)


def test_encode_then_decode_returns_the_boxes():
    generator = torch.Generator().manual_seed(0)
    deltas = torch.randn(3, len(ANCHORS), 4, generator=generator)
    again = encode_region(decode_region(deltas, ANCHORS, GRID), ANCHORS, GRID)
    torch.testing.assert_close(
        again, torch.cat([deltas[..., :2].sigmoid(), deltas[..., 2:]], dim=-1), atol=1e-5, rtol=0
    )


def test_the_last_of_two_objects_has_the_anchor_that_answers_for_both():
    boxes = torch.tensor([[[0.5, 0.5, 0.6, 0.7], [0.51, 0.51, 0.61, 0.71], [0.0, 0.7, 0.45, 1.0], [0, 0, 0, 0]]])
    owner = responsible(boxes, torch.tensor([[True, True, True, False]]), ANCHORS, GRID)[0]
    assert sorted(owner[owner != UNMATCHED].tolist()) == [1, 2]
    assert owner[(3 * GRID[1] + 2) * len(SIZES)] == 1  # centre (0.56, 0.61): column 2, row 3; the narrow anchor
    assert owner[(4 * GRID[1] + 0) * len(SIZES) + 1] == 2


def test_an_object_on_the_far_edge_belongs_to_the_last_cell():
    boxes = torch.tensor([[[0.9, 0.9, 1.1, 1.1]]])
    owner = responsible(boxes, torch.ones(1, 1, dtype=torch.bool), ANCHORS, GRID)[0]
    assert owner.argmax() // len(SIZES) == GRID[0] * GRID[1] - 1
