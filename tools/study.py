"""python tools/study.py study=<study> [axis=[values]] [key=value ...]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["study", *sys.argv[1:]])
