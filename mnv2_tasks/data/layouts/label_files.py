"""Which label files are a picture's, by their names."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mnv2_tasks.data.layouts.strays import HASH
from mnv2_tasks.data.reading.folders import PICTURES, spelled
from mnv2_tasks.wording import counted


class Paired(NamedTuple):
    labels: list[list[str]]  # of each picture: none, one, or several, of which nobody knows which is meant
    left: list[str]  # label files of no picture, sorted
    found: list[str]  # pictures whose label file is called otherwise


def paired_by_name(pictures: Sequence[str], labels: Mapping[str, list[str]]) -> Paired:
    """Label files of equal names; then, of what is left, those that tools and systems call otherwise.

    Args:
        pictures: places below their folder, such as "x/a.jpg"; one may be there twice.
        labels: {place below theirs, without the ending: files}.
    """
    names = [os.path.splitext(picture)[0] for picture in pictures]
    known = set(names)
    of = [list(labels.get(name, [])) for name in names]
    left = {name: files for name, files in labels.items() if name not in known}
    found: list[str] = []

    def take(ours: Sequence[str], theirs: Callable[[str], str]) -> None:
        """Give label files to pictures without any; where all have some, to all of that name: which one is meant?"""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(ours):
            places.setdefault(name, []).append(place)
        bare = {place for place, files in enumerate(of) if not files}
        for name in [name for name in left if theirs(name) in places]:
            those = places[theirs(name)]
            files = left.pop(name)
            for place in [place for place in those if place in bare] or those:
                of[place].extend(files)
                found.append(pictures[place])

    take(pictures, str)  # a.jpg.txt
    take(names, _without_hash)
    take([spelled(name) for name in names], lambda name: spelled(_without_picture_ending(name)))
    return Paired(of, sorted(file for files in left.values() for file in files), list(dict.fromkeys(found)))


def _without_hash(name: str) -> str:
    place, slash, own = name.rpartition("/")
    return place + slash + HASH.sub("", own)


def _without_picture_ending(name: str) -> str:
    base, ending = os.path.splitext(name)
    return base if ending.lower() in PICTURES else name


def found_note(found: Sequence[str]) -> list[str]:
    return [f"labels of {counted(len(found), 'picture')} found by name: {found[0]}"] if found else []
