"""python tools/compare.py <run folder> ... [out=<folder>] [title=<text>]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
