"""python tools/export.py weights=<name, path or run folder> format=<format> [precision=<precision>] [out=<file>]"""

from mnv2_tasks.config.compose import launch


def run(config):
    from mnv2_tasks.export.export import export  # after the command line was found to be right

    export(config)


if __name__ == "__main__":
    launch("export", run)
