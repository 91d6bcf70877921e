"""Yes or no, as annotation tools write it: VOC's <difficult>, COCO's iscrowd."""

from typing import Any

YES, NO = ("1", "true", "yes"), ("0", "false", "no", "", "unspecified", "none", "null")


def is_marked(said: Any) -> bool:
    """What is not said is not so.

    Raises:
        ValueError, TypeError: it is neither yes nor no nor a number.
    """
    if isinstance(said, str):
        text = said.strip().lower()
        return text in YES if text in (*YES, *NO) else float(text) != 0
    return said is not None and float(said) != 0
