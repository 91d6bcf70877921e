"""python tools/bench.py what=train|data|eval|infer|predict|startup|scale|files|gpu|learn [key=value ...]"""

from mnv2_tasks.config.compose import launch


def run(config):
    from mnv2_tasks.bench.bench import bench  # after the command line was found to be right

    bench(config)


if __name__ == "__main__":
    launch("bench", run)
