"""python tools/scorecard.py [out=<folder>]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["scorecard", *sys.argv[1:]])
