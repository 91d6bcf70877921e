"""Trials of a search: Optuna proposes, each is a run of its own, and its scores are told as they come."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.studies.search.space import Choice, Range, Space, override, value_of_recipe
from mnv2_tasks.studies.study.jobs import Job
from mnv2_tasks.studies.study.plan import PlannedRun, build_on_meta, merge_overrides
from mnv2_tasks.studies.study.run_state import (
    changed_settings,
    epochs_done,
    flat_settings,
    read_record,
    validation_scores,
)
from mnv2_tasks.wording import brief, counted, visible

JOURNAL = "trials.jsonl"  # Optuna's, which its dashboard reads too
NAME = "search"  # of Optuna's study in it
ASKED = "asked"  # what all trials have in common, kept there
REMEDY = "Put a copy of the file there, or choose another place with runs=<folder>"


class Trials:
    """
    Args:
        folder: of the search, which this process holds.
        space: what is chosen.
        common: overrides of every trial.
        base: composed of them; its seed is that of the proposals, too.
        prune: whether trials that are behind are stopped.

    Raises:
        ConfigError: the trials so far had another space or other settings, so that their scores do not compare.
    """

    def __init__(self, folder: Path, space: Space, common: Sequence[str], base: DictConfig, *, prune: bool):
        self.folder, self.space, self.common, self.base, self.prune = folder, space, common, base, prune
        self.distributions = {key: distribution_of(one) for key, one in space.items()}
        self.storage = open_journal(folder)
        self.study = optuna.create_study(
            storage=self.storage, study_name=NAME, direction="maximize", load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(),
        )  # fmt: skip
        self.jobs: list[Job] = []  # of this call
        self.trials: dict[str, Trial] = {}  # of them
        self._check_space()
        self._settle({"space": describe(space), **flat_settings(OmegaConf.to_container(base))})
        if not self.study.get_trials(deepcopy=False):
            known = {key: value_of_recipe(key, one, base, common) for key, one in space.items()}
            self.study.enqueue_trial({key: value for key, value in known.items() if value is not None})

    def coming(self, until: int) -> Iterator[Job]:
        """Jobs of interrupted trials, then of new ones until there are so many; each is proposed when it is asked for.

        A proposal depends on the seed, the trial's number, and what is known by then: a search that was killed goes on
        as it would have without.
        """
        for known in self.study.get_trials(states=(TrialState.RUNNING,)):
            if self._is_whole(known):
                yield from self._jobs_of(self._trial(known.number))
            else:
                self._propose_anew(known)
        while (number := len(self._proposed())) < until:
            seed = int(np.random.SeedSequence((self.base.seed, number)).generate_state(1)[0])
            self.study.sampler = optuna.samplers.TPESampler(seed=seed)
            yield from self._jobs_of(self.study.ask(self.distributions))

    def left(self, until: int) -> int:
        """Trials that are still to be made, or to be ended."""
        return until - sum(trial.state.is_finished() for trial in self._proposed())

    def watch(self) -> None:
        """Tell the scores that are new, and stop the trials that are behind."""
        for job in self.jobs:
            if job.state == "running" and self._told(job) and epochs_done(job.folder) < job.run.config.epochs:
                trial = self.trials[job.run.name]
                if self.prune and trial.should_prune():
                    epochs = counted(max(validation_scores(job.folder)), "epoch")
                    job.stop(f"behind the others after {epochs}")

    def event(self, job: Job) -> None:
        """Of a job that has started say what it tries; of one that has ended tell how it came out."""
        trial = self.trials[job.run.name]
        if job.state == "running":
            job.note = " ".join([*overrides_of(trial, self.space), *filter(None, [job.note])])
            return
        self._told(job)
        finite = [score for score in validation_scores(job.folder).values() if math.isfinite(score)]
        if job.state == "done" and not finite:
            job.state, job.reason = "failed", "its score is not a number"
        if job.state == "done":
            self.study.tell(trial, max(finite))
            best = self.study.best_trial
            job.note = f"with {max(finite):.4f} (best: {best.value:.4f}, {name_of(best)})"
        elif job.state == "stopped":
            self.study.tell(trial, state=TrialState.PRUNED)
        elif job.state == "failed":
            trial.set_user_attr("reason", job.reason)
            self.study.tell(trial, state=TrialState.FAIL)

    def all_overrides(self, trial: Trial | FrozenTrial) -> list[str]:
        """Of its run, for tools/train.py."""
        return merge_overrides([*self.common, *overrides_of(trial, self.space)])

    def _told(self, job: Job) -> bool:
        """Tell the scores of a job that are not known yet; whether there were any."""
        trial = self.trials[job.run.name]
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        new = {epoch: score for epoch, score in validation_scores(job.folder).items() if epoch not in known}
        for epoch, score in new.items():
            trial.report(score, epoch)
        return bool(new)

    def _jobs_of(self, trial: Trial) -> Iterator[Job]:
        """Its job, or none where no run could have what was proposed."""
        try:
            overrides = self.all_overrides(trial)
            config = compose("train", overrides)
            build_on_meta(config)
        except ValueError as error:
            trial.set_user_attr("reason", str(error))
            self.study.tell(trial, state=TrialState.FAIL)
            return
        name = name_of(trial)
        job = Job(run=PlannedRun(name, tuple(overrides), "", {}, config), folder=self.folder / name)
        if changed := changed_settings(job.run, job.folder):
            raise ConfigError(
                f"{job.folder}: was trained with other settings than {JOURNAL} has of this trial: "
                f"{visible('; '.join(changed[:4]))}{'; ...' if len(changed) > 4 else ''}. "
                f"Move the folder away, or choose another place with runs=<folder>"
            )
        job.seconds = read_record(job.folder).get("seconds", 0.0)
        self.jobs.append(job)
        self.trials[name] = trial
        yield job

    def _settle(self, asked: Mapping[str, Any]) -> None:
        """Note what all trials have in common, or find that it is what was noted."""
        before = self.study.user_attrs.get(ASKED)
        if before is None:
            return self.study.set_user_attr(ASKED, dict(asked))
        if not isinstance(before, dict):
            raise ConfigError(f"{self.folder / JOURNAL}: what its trials have in common is damaged. {REMEDY}")
        keys = sorted(key for key in {*before, *asked} if before.get(key) != asked.get(key))
        if keys:
            changed = "; ".join(f"{key}: {brief(before.get(key))} -> {brief(asked.get(key))}" for key in keys[:4])
            raise ConfigError(
                f"{self.folder}: its trials have another space or other settings: {changed}"
                f"{'; ...' if len(keys) > 4 else ''}. "
                f"Choose another place with runs=<folder>, or another name of the file"
            )

    def _check_space(self) -> None:
        for trial in self.study.get_trials(deepcopy=False):
            if strange := next((key for key in trial.params if key not in self.space), None):
                raise ConfigError(
                    f"{self.folder / JOURNAL}: {name_of(trial)} has a value of {visible(strange)}, which the space "
                    f"lacks. {REMEDY}"
                )

    def _trial(self, number: int) -> Trial:
        study = self.storage.get_study_id_from_name(NAME)
        return Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(study, number))

    def _proposed(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if self._is_whole(trial)]

    def _is_whole(self, trial: FrozenTrial) -> bool:
        """Whether all of what it tries is in the journal, which has a line for each value."""
        return trial.distributions == self.distributions

    def _propose_anew(self, trial: FrozenTrial) -> None:
        """Of a search that was killed between two values."""
        if values := trial.system_attrs.get("fixed_params"):
            self.study.enqueue_trial(values)
        self._trial(trial.number).set_user_attr("reason", "the search was killed while it was proposed")
        self.study.tell(trial.number, state=TrialState.FAIL)


def open_journal(folder: Path) -> JournalStorage:
    """That of a search, which this process holds; it is made where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / JOURNAL
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is not a file, as the journal of the trials is. Move it away")
    lock = JournalFileOpenLock(str(path))
    Path(f"{path}.lock").unlink(missing_ok=True)  # of a process that was killed: Optuna would wait for it
    _cut_after_last_line(path)
    _check_lines(path)
    journal = _Journal(str(path), lock_obj=lock)
    try:
        return JournalStorage(journal)
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError):  # no check of its own
        raise damaged(path, journal.line) from None


class _Journal(JournalFileBackend):
    line = 0  # the last that was read, from 1

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        for self.line, log in enumerate(super().read_logs(log_number_from), log_number_from + 1):
            yield log


def damaged(path: Path, line: int) -> ConfigError:
    return ConfigError(f"{path}: line {line} is damaged. {REMEDY}")


def _check_lines(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("rb") as journal:
        for number, line in enumerate(journal, 1):
            try:
                known = isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                known = False
            if not known:
                raise damaged(path, number)


def _cut_after_last_line(path: Path) -> None:
    """Where a full disk or a power cut has left half of one, Optuna could read nothing more."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("r+b") as journal:
            journal.truncate(content.rfind(b"\n") + 1)


def overrides_of(trial: Trial | FrozenTrial, space: Space) -> list[str]:
    """What was proposed, for tools/train.py."""
    return [override(key, space[key], value) for key, value in trial.params.items()]


def name_of(trial: Trial | FrozenTrial) -> str:
    """That of its run folder."""
    return f"trial-{trial.number:03}"


def distribution_of(one: Choice | Range) -> BaseDistribution:
    if isinstance(one, Choice):
        return CategoricalDistribution(one.values)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def describe(space: Space) -> dict[str, Any]:
    """As plain data, which JSON gives back as it was."""
    return json.loads(json.dumps({key: one._asdict() for key, one in space.items()}))
