"""Loggers of Lightning that have more to them than a file in the run folder."""

import hashlib
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from mnv2_tasks.errors import ConfigError


def check_logger(config: DictConfig) -> None:
    """Refuse, before a run, a logger that could not begin.

    Raises:
        ConfigError: its package is missing, or nobody is logged in.
    """
    target = config.logger["_target_"] if config.logger else ""
    for logger, package in ((Wandb, "wandb"), (MLflow, "mlflow")):
        if target == f"{__name__}.{logger.__name__}" and not find_spec(package):
            raise ConfigError(
                f'logger={package}: needs {package}: pip install "mnv2-tasks[{package}]". '
                f"Or choose another, such as logger=csv or logger=none"
            )
    if target == f"{__name__}.{Wandb.__name__}" and not config.logger.offline:
        _check_login()


def _check_login() -> None:
    import wandb  # pyright: ignore[reportMissingImports]

    if os.environ.get("WANDB_MODE", "online") not in ("online", "shared"):
        return
    try:
        fault = "" if wandb.login(prompt=False) else "nobody is logged in"
    except wandb.Error as error:  # its server is asked
        fault = (str(error) or type(error).__name__).splitlines()[0]
    if fault:
        raise ConfigError(
            f"logger=wandb: {fault}: say `wandb login` first, or logger.offline=true to send the run later"
        )


class Wandb(WandbLogger):
    """A run of Weights & Biases, which a resumed one goes on with.

    Args:
        save_dir: the run folder; its own files are in `wandb` there.
        project: in which it stands; null: that of WANDB_PROJECT, or mnv2_tasks.
        offline: keep it in the run folder, until `wandb sync` sends it.
    """

    def __init__(self, *, save_dir: str, project: str | None, offline: bool):
        run = Path(save_dir)
        begun = sorted(run.glob("wandb/*run-*-*"), key=lambda folder: folder.name.rpartition("run-")[2])
        super().__init__(
            name=f"{run.parent.name}/{run.name}",
            save_dir=run,
            id=begun[-1].name.rpartition("-")[2] if begun else None,
            project=project or os.environ.get("WANDB_PROJECT", "mnv2_tasks"),
            mode="offline" if offline else None,  # Lightning's own way is a variable of the whole process
            settings=_settings(),
        )
        self._wandb_init.pop("anonymous", None)  # of which wandb warns, whatever it is

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run; else the next one of this process would write into it."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


def _settings() -> Any:
    import wandb  # pyright: ignore[reportMissingImports]

    return wandb.Settings(console="off")  # the run has its train.log


class MLflow(MLFlowLogger):
    """A run of MLflow, in `mlflow.db` of the run folder or on the server that MLFLOW_TRACKING_URI names.

    A resumed one goes on with it.

    Args:
        save_dir: the run folder.
        experiment: in which it stands.
    """

    def __init__(self, *, save_dir: str, experiment: str):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow  # noqa: F401  # pyright: ignore[reportMissingImports]  after that, and before its loggers' levels

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # tells each table that it makes
        run = Path(save_dir).absolute()
        server = os.environ.get("MLFLOW_TRACKING_URI")
        super().__init__(
            experiment_name=experiment,
            run_name=f"{run.parent.name}/{run.name}",
            tracking_uri=server or f"sqlite:///{run / 'mlflow.db'}",
            artifact_location=None if server else (run / "mlflow").as_uri(),
            tags={"run_folder": (mark := hashlib.sha256(str(run).encode()).hexdigest()[:16])},
        )
        self.begun = self._run_id = self._find(mark)

    def _find(self, mark: str) -> str | None:
        """The id of this run folder's run, if it has begun; else there is its experiment."""
        client = self._mlflow_client
        experiment = client.get_experiment_by_name(self._experiment_name)
        if experiment is None:
            if rank_zero_only.rank == 0:  # Lightning's own way is told as a warning
                client.create_experiment(self._experiment_name, artifact_location=self._artifact_location)
            return None
        found = client.search_runs([experiment.experiment_id], f"tags.run_folder = '{mark}'")
        return found[0].info.run_id if found else None

    def log_hyperparams(self, params: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Once: MLflow refuses another value."""
        if not self.begun:
            super().log_hyperparams(params)
