"""Which anchor answers for which object (SSD paper, section 2.2), for a whole batch at once."""

import torch
from torch import Tensor

UNMATCHED = -1
TOGETHER = 256  # anchors at a time: memory for the overlaps of all with padded objects would be large, and slower
BIDDERS = 32  # objects of the whole batch that bid again at a time: few lose their best anchor to another


def match_anchors(boxes: Tensor, valid: Tensor, anchors: Tensor, iou_threshold: float) -> Tensor:
    """Give every anchor the object it overlaps most, if by `iou_threshold`, and every object its best anchor.

    The forced matches are made greedily, best pair first, each anchor serving one object, as in the SSD authors' code:
    taking every object's arg max at once would let the later of two objects steal the earlier one's only anchor. Of
    equal pairs the first object's comes first, and of that the first anchor's.

    Args:
        boxes: (B, N, 4) float32 xyxy fractions; N may be 0.
        valid: (B, N) bool; the other boxes are padding.
        anchors: (A, 4) xyxy fractions.

    Returns:
        (B, A) int64: index of the object, or UNMATCHED.
    """
    images, count = valid.shape
    if count == 0:
        return torch.full((images, len(anchors)), UNMATCHED, dtype=torch.int64, device=anchors.device)
    boxes = boxes * valid[..., None]  # padding overlaps nothing
    of_anchors, of_objects = [], []  # the best overlaps and whose they are
    for chunk in anchors.split(TOGETHER):
        iou = overlaps(boxes, chunk)  # (B, N, a)
        of_anchors.append(iou.max(dim=1))
        of_objects.append(iou.max(dim=2))
    best, match = (torch.cat(parts, dim=1) for parts in zip(*of_anchors))  # (B, A)
    match = torch.where((best >= iou_threshold) & valid.gather(1, match), match, UNMATCHED)

    best, anchor = (torch.stack(parts) for parts in zip(*of_objects))  # (parts, B, N)
    best, part = best.max(dim=0)
    anchor = anchor.gather(0, part[None])[0] + part * TOGETHER  # (B, N)
    anchor = best_pairs_first(boxes, valid, anchors, best, anchor)
    objects = torch.arange(count, device=boxes.device).expand(images, -1)
    forced = match.new_full((images, len(anchors) + 1), UNMATCHED).scatter(1, anchor, objects)[:, :-1]
    return torch.where(forced != UNMATCHED, forced, match)


def overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(..., A) intersection over union of (..., 4) boxes, as torchvision's box_iou has it, in half the time or less."""
    left, top, right, bottom = boxes[..., None].unbind(-2)  # (..., 1)
    anchor_left, anchor_top, anchor_right, anchor_bottom = anchors.unbind(-1)  # (A,)
    width = torch.minimum(right, anchor_right).sub_(torch.maximum(left, anchor_left)).clamp_(min=0)
    height = torch.minimum(bottom, anchor_bottom).sub_(torch.maximum(top, anchor_top)).clamp_(min=0)
    shared = width.mul_(height)
    areas = (right - left) * (bottom - top) + (anchor_right - anchor_left) * (anchor_bottom - anchor_top)
    return shared.div_(areas.sub_(shared))


@torch.library.custom_op("mnv2_tasks::best_pairs_first", mutates_args=())
def best_pairs_first(boxes: Tensor, valid: Tensor, anchors: Tensor, best: Tensor, anchor: Tensor) -> Tensor:
    """The anchor of each object where pairs are taken best first, each anchor serving one object.

    Every object bids for its best anchor. Who is outbid, bids for the best anchor that it can still win, which may
    outbid another one there, until nobody is (deferred acceptance, Gale and Shapley 1962). Since objects and anchors
    rank a pair by the same number, this ends where best first does, in few rounds. It is an operator, for how many
    rounds it takes depends on the data: a trace holds a single call.

    Args:
        best, anchor: (B, N) the largest overlap of each object, and with which anchor.

    Returns:
        (B, N) int64 in [0, A); A where there is none: of padding, and of the objects that are more than the anchors.
    """
    images, count = valid.shape
    objects = torch.arange(count, device=boxes.device)
    rows = boxes.flatten(0, 1)  # (B * N, 4)

    def bids(overlaps: Tensor, objects: Tensor) -> Tensor:
        """By the overlap, of equal ones by the object: floats that are not negative sort as their bits do."""
        return overlaps.view(torch.int32).to(torch.int64) * count + (count - 1 - objects)

    anchor = torch.where(valid, anchor, len(anchors))
    bid = torch.where(valid, bids(best, objects), 0)
    while True:
        highest = bid.new_full((images, len(anchors) + 1), -1).scatter_reduce_(1, anchor, bid, "amax")
        outbid = highest.gather(1, anchor) > bid
        if not outbid.any():
            return anchor
        loses, bidder = outbid.flatten().int().topk(min(BIDDERS, images * count))
        offers = bids(overlaps(rows[bidder], anchors), (bidder % count)[:, None])  # (bidders, A)
        offer, wanted = torch.where(offers > highest[bidder // count, :-1], offers, -1).max(dim=1)
        wanted = torch.where(offer >= 0, wanted, len(anchors))  # more objects than anchors
        for settled, changed in ((bid, offer.clamp(min=0)), (anchor, wanted)):
            flat = settled.view(-1)
            flat[bidder] = torch.where(loses > 0, changed, flat[bidder])


@best_pairs_first.register_kernel("cuda")
def best_pairs_in_rounds(boxes: Tensor, valid: Tensor, anchors: Tensor, best: Tensor, anchor: Tensor) -> Tensor:
    """The same without a number that the host would wait for: as many rounds as an image may need.

    Each round settles at least the best pair of those that are left. Of N objects, one of whose N best anchors is
    always free, all bid at once.
    """
    images, count = valid.shape
    lowest = len(anchors) - 1
    keys = []  # of pairs: by the overlap, of equal ones by the anchor
    for place, chunk in zip(torch.arange(lowest, -1, -1, device=boxes.device).split(TOGETHER), anchors.split(TOGETHER)):
        key = overlaps(boxes, chunk).view(torch.int32).to(torch.int64) * len(anchors) + place  # (B, N, a)
        keys.append(key.topk(min(count, len(chunk)), dim=2).values)
    key = torch.cat(keys, dim=2).topk(min(count, len(anchors)), dim=2).values  # (B, N, M), the best first
    wanted = lowest - key % len(anchors)
    behind = torch.arange(count - 1, -1, -1, device=boxes.device)[:, None]  # of equal offers the first object's counts
    offers = torch.where(valid[..., None], key // len(anchors) * count + behind, -1)
    turns = torch.arange(key.shape[2], 0, -1, device=boxes.device)

    anchor, bid = torch.where(valid, wanted[..., 0], len(anchors)), offers[..., 0].clamp(min=0)
    for _ in range(count):
        highest = bid.new_full((images, len(anchors) + 1), -1).scatter_reduce_(1, anchor, bid, "amax")
        outbid = highest.gather(1, anchor) > bid
        winnable = offers > highest.gather(1, wanted.flatten(1)).view_as(wanted)
        turn = torch.where(winnable, turns, 0).amax(dim=2, keepdim=True)
        first = (len(turns) - turn).clamp(max=len(turns) - 1)
        wins = outbid & (turn[..., 0] > 0)
        anchor = torch.where(wins, wanted.gather(2, first)[..., 0], torch.where(outbid, len(anchors), anchor))
        bid = torch.where(wins, offers.gather(2, first)[..., 0], torch.where(outbid, 0, bid))
    return anchor


@best_pairs_first.register_fake
def _(boxes: Tensor, valid: Tensor, anchors: Tensor, best: Tensor, anchor: Tensor) -> Tensor:
    return torch.empty_like(anchor)
