"""python tools/predict.py [weights=<name or path>] [source=<images, video, camera, shards or ->] [key=value ...]"""

import sys

from mnv2_tasks.__main__ import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
