"""python tools/study.py study=<study> [axis=[values]] [key=value ...]"""

import sys

from mnv2_tasks.config.compose import launch

AXES = ("tasks", "backbones", "widths", "sizes", "seeds")
OWN = ("study", "runs", "ablations", "jobs", "dry", "retrain", "debug")


def sort_arguments(arguments):
    """Those for the study, those for every run, and whether an axis but the seeds was given."""
    own, passed, narrowed = [], [], False
    for argument in arguments:
        key = argument.partition("=")[0]
        if key in AXES:
            own.append(f"study.{argument}")
            narrowed |= key != "seeds"
        else:
            (own if key in OWN or key.startswith("-") else passed).append(argument)
    return own, passed, narrowed


def main():
    own, passed, narrowed = sort_arguments(sys.argv[1:])
    sys.argv[1:] = own

    def run(config):
        from mnv2_tasks.studies.study.study import run_study  # after the command line was found to be right

        if not run_study(config, passed, narrowed=narrowed):
            sys.exit(1)  # so that a script can rely on it

    launch("study", run)


if __name__ == "__main__":
    main()
