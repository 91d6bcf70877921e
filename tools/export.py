"""python tools/export.py weights=<name, path or run folder> format=<format> [precision=<precision>] [out=<file>]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
