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


@best_pairs_first.register_fake
def _(boxes: Tensor, valid: Tensor, anchors: Tensor, best: Tensor, anchor: Tensor) -> Tensor:
    return torch.empty_like(anchor)
