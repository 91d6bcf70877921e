"""python tools/train.py task=<task> [data=<data>] [backbone=<backbone>] [key=value ...]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
