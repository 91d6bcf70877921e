"""python tools/eval.py run=<run folder>, or: task=<task> data=<data> weights=<name or path>"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["eval", *sys.argv[1:]])
