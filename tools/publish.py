"""python tools/publish.py run=<run folder> [out=<folder>] [license=<licence>] [to=<owner>/<name>]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["publish", *sys.argv[1:]])
