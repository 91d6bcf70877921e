"""Text without places on the user's machine: what is published tells no names of its folders, nor of its user."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

HUB = "hf_hub:"
# an absolute path, as far as it can be told from prose: those with spaces have to be named
PLACE = re.compile(r"(?<![\w:/.])(?:~|[A-Za-z]:)?[\\/][^\s,;:()'\"]+|[A-Za-z]:[\\/]\S*|\w+://\S+")


def without_places(text: str, *known: str) -> str:
    """A text that names the last part of each path and address, in place of the whole.

    Args:
        known: paths that may stand in it, with spaces or relative.
    """
    for place in sorted(known, key=len, reverse=True):
        if ("/" in place or "\\" in place) and not place.startswith(HUB):
            text = text.replace(place, last_part(place))
    return PLACE.sub(lambda found: last_part(found[0]), text)


def last_part(place: str) -> str:
    """The name of a file, a folder, or what an address ends in; without what is asked of a server."""
    path = urlsplit(place).path if "://" in place else place
    return PureWindowsPath(PurePosixPath(path).name).name or "..."
