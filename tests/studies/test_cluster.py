"""Studies on a cluster: each run is a job, which is submitted once, and goes on where it was when queued again."""

import json
import os
import shutil
import signal
import subprocess
import time

import fake_slurm
import pytest
import submitit
from omegaconf import OmegaConf, open_dict
from submitit.slurm.slurm import SlurmInfoWatcher
from test_study import SEEDS, behave, calls, composed, folder_of, program_in, study, tools  # noqa: F401 - a fixture

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.studies.search.search import run_search
from mnv2_tasks.studies.study import cluster
from mnv2_tasks.studies.study.jobs import make_jobs, run_jobs
from mnv2_tasks.studies.study.plan import plan_runs, study_from
from mnv2_tasks.studies.study.run_state import next_step

pytestmark = pytest.mark.slow

ONE = {**SEEDS, "seeds": [0]}
RUN = "classification-seed0"


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "EVERY", 0.1)
    monkeypatch.setattr(submitit.SlurmJob, "watcher", SlurmInfoWatcher())  # which remembers each job by its number
    return fake_slurm.install(tmp_path, monkeypatch)


@pytest.fixture
def submit(tmp_path, tools):  # noqa: F811
    """What a call of the study does with its one run: it is submitted or found; and waited for, if `wait`."""
    runs = plan_runs(study_from(ONE))
    folder = folder_of(tmp_path, RUN).parent

    def call(wait=True):
        place = cluster.Cluster(
            composed("cluster=slurm").cluster, [runs[0].config], folder / "cluster", program_in(tools)
        )
        (job,) = make_jobs(runs, folder)
        if wait:
            run_jobs([job], slots=[None], place=place, on_event=lambda job: None, on_tick=lambda: None)
        else:
            place.start(job, next_step(job.run, job.folder))
        return job

    return call


def wait_for(there, patience=120):
    deadline = time.monotonic() + patience
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def submitted(queue):
    return len(list(queue.glob("*.sh")))


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    "queued, own, message",
    [
        ('{"executor": "local", "job": "3937"}', [], "is job 3937 of cluster=local. Say cluster=local to wait for it"),
        ('{"executor": "slurm", "job": "7"}', ["cluster=local"], "is job 7 of cluster=slurm. Say cluster=slurm"),
        ('{"executor": "slurm"}', ["cluster=local"], "queued.json: is damaged"),
        ("", ["cluster=local"], "queued.json: is damaged"),
        ("", [], "queued.json: is damaged"),
        ("[1]", [], "queued.json: is damaged"),
    ],
)
def test_a_run_that_is_anothers_job_is_left_alone(tmp_path, tools, queued, own, message):  # noqa: F811
    run = folder_of(tmp_path, RUN)
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_text("half")
    (run / cluster.QUEUED).write_text(queued)
    before = files_in(tmp_path / "runs")
    with pytest.raises(ConfigError, match=message) as told:
        study(tmp_path, tools, ONE, *own)
    assert "\n" not in str(told.value) and "remove " in str(told.value)
    assert files_in(tmp_path / "runs") == before and not calls(tools)


def test_a_trial_that_is_a_job_is_left_alone(tmp_path):
    config = compose("search", ["search={lr: [0.1, 0.2]}", f"runs={tmp_path}"])
    trial = tmp_path / "studies" / "search" / "shapes-classification" / "trial-000"
    trial.mkdir(parents=True)
    (trial / cluster.QUEUED).write_text('{"executor": "local", "job": "3937"}')
    before = files_in(tmp_path)
    with pytest.raises(ConfigError, match="is job 3937 of cluster=local. Say cluster=local to wait for it"):
        run_search(config, ["task=classification"])
    assert files_in(tmp_path) == before


def test_a_run_that_is_done_is_kept_though_its_job_was_not_waited_for(tmp_path, tools):  # noqa: F811
    run = folder_of(tmp_path, RUN)
    run.mkdir(parents=True)
    (run / "metrics.json").write_text('{"top1": 0.5, "top5": 0.9}')
    (run / cluster.QUEUED).write_text('{"executor": "local", "job": "3937"}')
    assert study(tmp_path, tools, ONE)[0] and not calls(tools)


def test_jobs_of_this_machine_train_a_study(tmp_path, tools):  # noqa: F811
    done, printed = study(tmp_path, tools, ONE, "cluster=local")
    assert done, printed
    assert [(call["tool"], call["folder"]) for call in calls(tools)] == [("train", RUN)]
    assert f"{RUN}: train as job " in printed and "1 done" in printed
    assert not (folder_of(tmp_path, RUN) / cluster.QUEUED).exists()
    assert "1 of 1 runs are done" in (folder_of(tmp_path, "report") / "README.md").read_text()


def test_a_run_in_the_queue_is_not_submitted_twice(tmp_path, queue, submit):
    (queue / "hold").touch()
    first, second = submit(wait=False), submit(wait=False)
    assert (
        submitted(queue) == 1
        and second.note == f"{first.note}, which is there already" == "as job 1, which is there already"
    )
    assert json.loads((folder_of(tmp_path, RUN) / cluster.QUEUED).read_text()) == {"executor": "slurm", "job": "1"}
    (queue / "hold").unlink()
    assert submit().state == "done" and submitted(queue) == 1
    script = (queue / "1.sh").read_text()
    for line in ("--time=240", "--mem=32GB", "--gpus-per-node=1", "--cpus-per-task=8", f"--job-name={RUN}", "USR2@180"):
        assert line in script


def test_a_run_whose_time_is_up_is_queued_again_and_resumed(tmp_path, tools, queue, submit):  # noqa: F811
    behave(tools, **{RUN: "wait"})
    submit(wait=False)
    wait_for((folder_of(tmp_path, RUN) / "waiting").exists)
    behave(tools)
    os.kill(int((queue / "1.pid").read_text()), signal.SIGUSR2)  # as SLURM does
    job = submit()
    assert job.state == "done" and submitted(queue) == 1
    assert ["resume" in call for call in calls(tools)] == [False, True]


def test_a_job_that_is_ended_from_outside_is_gone_on_with_by_the_next_call(tmp_path, tools, queue, submit):  # noqa: F811
    behave(tools, **{RUN: "wait"})
    submit(wait=False)
    wait_for((folder_of(tmp_path, RUN) / "waiting").exists)
    subprocess.run(["scancel", "1"], check=True)
    wait_for((queue / "1.state").exists)
    behave(tools)
    assert submit().state == "done" and submitted(queue) == 2
    assert ["resume" in call for call in calls(tools)] == [False, True]


def test_a_run_that_fails_there_is_told_as_here(tmp_path, tools, queue):  # noqa: F811
    behave(tools, **{RUN: "fail"})
    done, printed = study(tmp_path, tools, ONE, "cluster=slurm")
    assert not done and "1 failed" in printed and "the loss is not finite at step 2" in printed


def test_what_sbatch_refuses_is_told_in_one_line(queue, submit):
    (queue / "refuse").write_text("sbatch: error: invalid partition specified: gpus\n")
    with pytest.raises(ConfigError, match=rf"^{RUN}: slurm does not take it: .*invalid partition specified: gpus$"):
        submit()


@pytest.mark.parametrize(
    "own, passed, message",
    [
        (["cluster=slurm"], [], "cluster=slurm: there is no sbatch here"),
        (["cluster=local", "cluster.timeout_min=-5"], [], "cluster.timeout_min=-5: expected at least 1"),
        (["cluster=local", "cluster.gpus_per_node=-1"], [], "cluster.gpus_per_node=-1: expected 0 or more"),
        (["cluster=local"], ["trainer.nodes=2"], "a job of a study is one machine"),
        (["cluster=local"], ["trainer.devices=-1"], "say a number"),
        (["cluster=local"], [], 'cluster=local: needs submitit: pip install "mnv2-tasks.slurm."'),
    ],
)
def test_what_no_cluster_can_do_is_told_first(tmp_path, tools, monkeypatch, own, passed, message):  # noqa: F811
    if "pip install" in message:
        monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=message) as told:
        study(tmp_path, tools, ONE, *own, passed=passed)
    assert "\n" not in str(told.value) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("tool", ["srun", "sacct", "scancel"])
def test_each_of_slurms_tools_that_is_needed_is_looked_for(monkeypatch, tool):
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else name)
    with pytest.raises(ConfigError, match=f"there is no {tool} here"):
        cluster.check_cluster(composed("cluster=slurm").cluster, [])


def test_settings_of_a_cluster_are_checked_by_name():
    with pytest.raises(ConfigError, match="no key 'partitoin' in cluster. Did you mean partition"):
        compose("study", ["study=ablations", "cluster=slurm", "cluster.partitoin=gpu"])
    with pytest.raises(ConfigError, match="partition=gpu: there is no cluster to have it; say cluster=slurm too"):
        compose("study", ["study=ablations", "cluster.partition=gpu"])
    with pytest.raises(ConfigError, match="cluster=slrum: unknown cluster. Did you mean slurm"):
        compose("study", ["study=ablations", "cluster=slrum"])


def test_a_choice_of_ones_own_may_name_whatever_sbatch_takes(tmp_path, queue):
    settings = OmegaConf.create({"executor": "slurm", "gpus_per_node": 4, "qos": "long"})
    configs = [run.config for run in plan_runs(study_from(ONE))]
    made = cluster.Cluster(settings, configs, tmp_path / "logs", [])
    assert made.executor.parameters["qos"] == "long" and made.executor.parameters["gpus_per_node"] == 4
    with open_dict(settings):
        settings.queue = "long"
    with pytest.raises(ConfigError, match="cluster=slurm: Unknown argument 'queue'"):
        cluster.Cluster(settings, configs, tmp_path / "logs", [])


def test_a_search_on_a_cluster_is_asked_how_many_trials_learn_from_each_other():
    config = compose("search", ["search={lr: [0.1, 0.2]}", "cluster=local"])
    with pytest.raises(ConfigError, match="cluster=local: say jobs=<trials at a time>"):
        run_search(config, ["task=classification"])
