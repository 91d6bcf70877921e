"""The command mnv2, and python -m mnv2_tasks: the tools by their verbs, each imported when it is called."""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pkgutil import resolve_name

from mnv2_tasks import __version__
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.runs.stopping import ends_when_asked
from mnv2_tasks.shipped import as_called_here, module_missing
from mnv2_tasks.whole_files import explained
from mnv2_tasks.wording import visible_lines

VERBS = {
    "train": "a network on a task and a data set; go on with a run, or repeat one",
    "eval": "a run, or weights on a data set: COCO's numbers, mean IoU, top-1",
    "predict": "what a network finds in images: pictures, masks and results.json",
    "export": "a network into one file: ONNX, OpenVINO, ExecuTorch, LiteRT or torch, or a page for browsers",
    "demo": "what a network sees, in your browser",
    "publish": "a run as a folder for others, or onto Hugging Face's hub",
    "compare": "runs on one page: scores with intervals, costs, pictures side by side",
    "study": "train the runs that a study lacks, then compare them; or search hyper-parameters",
    "data": "download, check, show or pack a data set",
    "bench": "what is fast, beside what people would use instead",
    "scorecard": "the paper's numbers that need no data, ours beside them",
    "paper": "the paper's figures that need no training, its claims beside what comes out",
    "checks": "what is installed and found here, for bug reports",
    "version": "of this package",
}
WITH_CONFIG = {  # called with conf/<verb>.yaml, composed with the arguments
    "train": "mnv2_tasks.training.train:train",
    "eval": "mnv2_tasks.evaluation.evaluate:evaluate",
    "predict": "mnv2_tasks.prediction.predict:predict",
    "export": "mnv2_tasks.export.export:export",
    "demo": "mnv2_tasks.demo.demo:demo",
    "publish": "mnv2_tasks.publish.publish:publish",
    "bench": "mnv2_tasks.bench.bench:bench",
    "scorecard": "mnv2_tasks.scorecard.scorecard:scorecard",
    "paper": "mnv2_tasks.paper.paper:paper",
}
WITH_ARGUMENTS = {  # take some for themselves
    "compare": "mnv2_tasks.studies.compare.options:from_command_line",
    "study": "mnv2_tasks.studies.command_line:from_command_line",
    "data": "mnv2_tasks.data_tool.usage:from_command_line",
    "checks": "mnv2_tasks.checks.checks:from_command_line",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Do what a command line says.

    Args:
        argv: a verb and its arguments; None takes what Python was called with.
    """
    _occupy_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook has others
            stream.reconfigure(errors="replace")  # names of files and classes may have signs that the console lacks
    verb, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        if sys.stdout is None:
            raise ConfigError("standard output is closed; to go without it, say > /dev/null")
        with ends_when_asked():
            _call(verb, arguments)
    except (ConfigError, DataError, OSError, ModuleNotFoundError) as error:
        if {"debug=true", "debug=True"} & set(arguments):
            raise
        if isinstance(error, ModuleNotFoundError):
            error = module_missing(error)
        if isinstance(error, OSError):
            error = explained(error)
        sys.exit(as_called_here(f"\nerror: {visible_lines(str(error))}\n(debug=true shows where in the code)"))


def _occupy_closed_streams() -> None:
    """The next file that is opened would get the number of a closed stream, and what libraries print into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _call(verb: str, arguments: Sequence[str]) -> None:
    if verb in ("-h", "--help"):
        print(_usage())
    elif verb in ("version", "--version"):
        print(__version__)
    elif verb in WITH_CONFIG:
        from mnv2_tasks.config.compose import launch

        launch(verb, lambda config: resolve_name(WITH_CONFIG[verb])(config), arguments)
    elif verb in WITH_ARGUMENTS:
        resolve_name(WITH_ARGUMENTS[verb])(arguments)
    else:
        from mnv2_tasks.config.words import nearest

        sys.exit(f"\nerror: {verb}: unknown verb. {nearest(verb, VERBS)}")


def _usage() -> str:
    lines = [f"  mnv2 {verb:10} {what}" for verb, what in VERBS.items()]
    return "\n".join(
        ["mnv2 <verb> [key=value ...]", "", *lines, "", "mnv2 <verb> --help shows its keys and examples, such as", ""]
        + ["  mnv2 train task=ssdlite    trains a detector on scenes that are drawn, in a few minutes"]
        + ["  mnv2 predict               shows what the shipped network finds"]
    )


if __name__ == "__main__":
    main()
