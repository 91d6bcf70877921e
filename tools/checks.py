"""python tools/checks.py"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["checks", *sys.argv[1:]])
