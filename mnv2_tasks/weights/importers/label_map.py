"""The Object Detection API's label maps (.pbtxt), which say the id and the name of each class of a detector."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.plain_data import decoded, read_bytes, read_start
from mnv2_tasks.stored.checked_passport import LONGEST_NAME
from mnv2_tasks.wording import brief, visible

MOST_BYTES = 4 << 20
LOOKED_AT = 4096
ITEM = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|#[^\n]*\n)*item\s*:?\s*[{<]")  # behind comments
AN_ITEM = re.compile(r"^\s*item\b", re.MULTILINE)


class LabelMap(NamedTuple):
    path: Path
    names: dict[int, str]  # {id: name}, ids ascending; 0 is the background's, which is left out

    def check(self, most: int) -> None:
        """Raise a ConfigError unless every id is a class of a network that has so many."""
        if beyond := [id_ for id_ in self.names if id_ > most]:
            raise ConfigError(
                f"{self.path}: gives the id {beyond[0]} to {brief(self.names[beyond[0]])}, but the network has {most} "
                f"classes: is it of another one?"
            )


def label_map_beside(weights: Path) -> LabelMap | None:
    """The label map of the weights' own name, else the only one that there is and that bears no other graph's name.

    Raises:
        ConfigError: there are several, or it is damaged.
    """
    files = [file for file in sorted(weights.parent.glob("*.pbtxt")) if file.is_file()]
    found = [file for file in files if ITEM.match(read_start(file, LOOKED_AT))]
    own = weights.with_suffix(".pbtxt")
    others = [file for file in found if not file.with_suffix(".pb").exists()]
    if own not in found and len(others) > 1:
        names = ", ".join(visible(file.name) for file in others[:3])
        raise ConfigError(f"{weights}: there are several label maps beside it, {names}: call its own one {own.name}")
    chosen = own if own in found else others[0] if others else None
    return chosen and read_label_map(chosen)


def read_label_map(path: Path) -> LabelMap:
    """What a label map says: of `display_name` and `name` the first that there is.

    Raises:
        ConfigError: it is no text of this kind, or an item lacks its id or name, or has another one's id.
    """
    from google.protobuf import text_format

    text, message = decoded(read_bytes(path, most_bytes=MOST_BYTES), str(path)), _message()()
    try:
        text_format.Parse(text, message, allow_unknown_field=True)  # such as keypoints
    except text_format.ParseError as error:
        what = re.sub(r"^\d+:\d+ : ", "", str(error))  # the place, again
        raise ConfigError(f"{path}, line {error.GetLine()}: is no label map: {brief(what)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is no label map: it is nested too deeply") from None
    names: dict[int, str] = {}
    for index, item in enumerate(message.item):
        name, problem = item.display_name or item.name, None
        if not item.HasField("id") or item.id < 0:
            problem = "has no id of 0 or more"
        elif item.id in names:
            problem = f"has the id {item.id}, which {brief(names[item.id])} has too"
        elif not name or len(name) > LONGEST_NAME or visible(name) != name:
            problem = "has no name that can be shown"
        if problem:
            starts = [match.end() for match in AN_ITEM.finditer(text)]  # items of their own lines, as tools write them
            lines = [text.count("\n", 0, start) + 1 for start in starts]
            where = f", line {lines[index]}" if len(lines) == len(message.item) else ""
            raise ConfigError(f"{path}{where}: item {index + 1} {problem}")
        names[item.id] = name
    names.pop(0, None)
    if not names:
        raise ConfigError(f"{path}: names no class but the background")
    return LabelMap(path, dict(sorted(names.items())))


@cache
def _message() -> Any:
    """The class of the API's string_int_label_map.proto, as far as it is used."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="label_map.proto", package="mnv2_tasks", syntax="proto2")
    kinds, label = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    item = file.message_type.add(name="Item")
    for number, (name, kind) in enumerate(
        [("name", kinds.TYPE_STRING), ("id", kinds.TYPE_INT32), ("display_name", kinds.TYPE_STRING)], start=1
    ):
        item.field.add(name=name, number=number, type=kind, label=label)
    items = file.message_type.add(name="LabelMap").field.add(name="item", number=1, type=kinds.TYPE_MESSAGE)
    items.label, items.type_name = kinds.LABEL_REPEATED, ".mnv2_tasks.Item"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mnv2_tasks.LabelMap"))
