"""python tools/paper.py [figures=[1,7]] [weights=<name or path>] [images=<folder>] [key=value ...]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["paper", *sys.argv[1:]])
