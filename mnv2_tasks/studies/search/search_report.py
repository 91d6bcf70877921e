"""What a search found: its best trial as a command and as a recipe, a table and a picture of all of them."""

import math
import shlex
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from mnv2_tasks.config.compose import compose
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.shipped import as_called_here
from mnv2_tasks.studies.search.recipe_of import recipe_of
from mnv2_tasks.studies.search.search_figure import Scale, TrialPoint, plot_search
from mnv2_tasks.studies.search.space import Choice, in_words
from mnv2_tasks.studies.search.trials import Trials, name_of, overrides_of
from mnv2_tasks.whole_files import write_text
from mnv2_tasks.wording import visible

STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
ENOUGH = 10  # trials that are done, of which importances are told


def write_search_report(trials: Trials, title: str, console: Console) -> bool:
    """Write <folder>/report/: README.md, search.png and the recipe of the best trial.

    Returns:
        Whether any trial has a score.
    """
    out = trials.folder / "report"
    out.mkdir(exist_ok=True)
    ended = [trial for trial in trials.study.get_trials() if trial.state in STATES]
    done = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    count = ", ".join(f"{sum(STATES[t.state] == word for t in ended)} {word}" for word in STATES.values())
    parts = [f"# {title}: {trials.folder.name}", f"{len(ended)} trials in `{trials.folder}`: {count}."]
    if done:
        parts += _best(trials, out)
        shown = [_shown(trial) for trial in ended if _score(trial) is not None]
        plot_search(shown, _scales(trials, done), out / "search.png")
        parts.append("![val/score of the trials, in order and against each key](search.png)")
    parts += [_space(trials).to_markdown(), _table(trials, ended).to_markdown()]
    path = out / "README.md"
    write_text(path, "\n\n".join(part.strip() for part in parts) + "\n")
    if done:
        best = trials.study.best_trial
        console.print(f"best: {best.value:.4f}, {name_of(best)}: {' '.join(overrides_of(best, trials.space))}")
        console.print(_command(trials, best))
    console.print(f"report: {path}", markup=False)
    return bool(done)


def _best(trials: Trials, out: Path) -> list[str]:
    """The best trial, as a command and as a recipe, which is written."""
    best = trials.study.best_trial
    config = compose("train", trials.all_overrides(best))
    found = f"{name_of(best)} of a search, val/score {best.value:.4f}"
    recipe = recipe_of(trials.all_overrides(best), config, trials.folder.parent.name, [found])
    conf = out / "conf"
    (conf / "recipe").mkdir(parents=True, exist_ok=True)
    path = conf / "recipe" / f"{recipe.name}.yaml"
    write_text(path, recipe.text)
    short = as_called_here(f"MNV2_CONF={shlex.quote(str(conf))} python tools/train.py {shlex.join(recipe.beside)}")
    return [
        f"The best is {name_of(best)}, with val/score **{best.value:.4f}**. To train it again:",
        f"```\n{_command(trials, best)}\n```",
        f"The same as a recipe, [`{recipe.name}.yaml`]({path.relative_to(out).as_posix()}); copied into `recipe/` of a "
        f"folder of your own choices, it is `recipe={recipe.name}` there:",
        f"```\n{short}\n```",
    ]


def _command(trials: Trials, trial: FrozenTrial) -> str:
    return as_called_here(f"python tools/train.py {shlex.join(trials.all_overrides(trial))}")


def _score(trial: FrozenTrial) -> float | None:
    """The best of its validations."""
    finite = [score for score in trial.intermediate_values.values() if math.isfinite(score)]
    return max(finite) if finite and trial.state != TrialState.FAIL else None


def _shown(trial: FrozenTrial) -> TrialPoint:
    return TrialPoint(trial.number, STATES[trial.state], _score(trial) or 0.0, trial.params)


def _scales(trials: Trials, done: list[FrozenTrial]) -> list[Scale]:
    shares = optuna.importance.get_param_importances(trials.study) if len(done) >= ENOUGH else {}
    scales = []
    for key, one in trials.space.items():
        words, log = (one.values, False) if isinstance(one, Choice) else (None, one.log)
        scales.append(Scale(key, words, log, shares.get(key)))
    return scales


def _space(trials: Trials) -> Table:
    table = Table("Space", ["key", "values"], text_columns=2)
    table.rows = [[key, in_words(one)] for key, one in trials.space.items()]
    table.notes = [f"Every trial: `{' '.join(trials.common)}`"]
    return table


def _table(trials: Trials, ended: list[FrozenTrial]) -> Table:
    """Best first; what has no score last."""
    table = Table("Trials", ["trial", "state", *trials.space, "epochs", "val/score"], text_columns=2)
    scores = {trial.number: _score(trial) for trial in ended}
    for trial in sorted(ended, key=lambda trial: scores[trial.number] or -math.inf, reverse=True):
        score = scores[trial.number]
        values = [word.partition("=")[2] for word in overrides_of(trial, trials.space)]
        shown = "" if score is None else f"{score:.4f}"
        table.rows.append([name_of(trial), STATES[trial.state], *values, len(trial.intermediate_values), shown])
    table.notes = [f"{name_of(t)} failed: {_reason(t)}" for t in ended if t.state == TrialState.FAIL]
    return table


def _reason(trial: FrozenTrial) -> str:
    """How its process ended, and the last that it printed."""
    lines = str(trial.user_attrs.get("reason", "")).splitlines()
    return visible(": ".join([*lines[:1], *(line.strip() for line in lines[1:][-1:])]))
