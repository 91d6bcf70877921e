"""python tools/demo.py [weights=<name, path, run folder, or folder of format=web>] [port=8000]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["demo", *sys.argv[1:]])
