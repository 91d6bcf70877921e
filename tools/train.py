"""python tools/train.py task=<task> [data=<data>] [backbone=<backbone>] [key=value ...]"""

from mnv2_tasks.config.compose import launch


def run(config):
    from mnv2_tasks.training.train import train  # after the command line was found to be right

    train(config)


if __name__ == "__main__":
    launch("train", run)
