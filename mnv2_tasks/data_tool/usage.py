"""The command line of `data`: its first word says what to do with the data set."""

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from mnv2_tasks.config.compose import launch
from mnv2_tasks.shipped import as_called_here

VERBS = ("download", "check", "show", "pack", "anchors")
USAGE = """error: say what to do:
  python tools/data.py download data=coco data.root=<folder>      fetch, verify and unpack: coco, voc, imagenet
  python tools/data.py check data=folder data.root=<folder>       all that is wrong with a data set, and what is in it
  python tools/data.py show data=folder data.root=<folder>        a page of annotated pictures
  python tools/data.py pack data=imagenet data.root=<folder> out=<shards>    into large files, for data=shards
  python tools/data.py anchors data=folder data.root=<folder> k=5    YOLOv2's, of the shapes of your boxes
(--help shows every key)"""


def from_command_line(arguments: Sequence[str]) -> None:
    """Do it, with conf/data_tool.yaml composed with the other arguments."""
    verb, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in VERBS else (None, arguments)
    if verb is None and not {"-h", "--help"} & set(arguments):
        sys.exit(as_called_here(USAGE))

    def run(config: DictConfig) -> None:
        from mnv2_tasks.data_tool import verbs  # after the command line was found to be right

        getattr(verbs, str(verb))(config)

    launch("data_tool", run, rest)
