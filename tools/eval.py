"""python tools/eval.py run=<run folder>, or: task=<task> data=<data> weights=<name or path>"""

from mnv2_tasks.config.compose import launch


def run(config):
    from mnv2_tasks.evaluation.evaluate import evaluate

    evaluate(config)


if __name__ == "__main__":
    launch("eval", run)
