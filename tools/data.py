"""python tools/data.py download|check|show|pack|anchors data=<data> data.root=<folder> [task=<task>] [key=value ...]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["data", *sys.argv[1:]])
