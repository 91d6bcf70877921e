"""All processes of a job agree on one run folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runs.processes import check_machines, decide, place_in_job, place_on_machine, wait_for_all
from mnv2_tasks.runs.run_folder import run_folder_of

SCRIPT = """
import os, sys
from pathlib import Path
from mnv2_tasks.runs.processes import decide
rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
answers = [decide(lambda: f"{rank} decided {number}", Path(sys.argv[1]), patience=60) for number in range(2)]
(Path(sys.argv[1]) / f"heard-{rank}").write_text(str(answers))
"""


def environment(**changes):
    launchers = ("SLURM", "TORCHELASTIC", "MNV2_RUN", "RANK", "WORLD", "MASTER")
    return {k: v for k, v in os.environ.items() if not k.startswith(launchers)} | {"OMP_NUM_THREADS": "1", **changes}


def heard(folder):
    return {path.name: path.read_text() for path in folder.glob("heard-*")}


def test_processes_of_torchrun_follow_the_first(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, script, tmp_path], env=environment(), check=True, timeout=120, capture_output=True)
    assert heard(tmp_path) == {f"heard-{rank}": "['0 decided 0', '0 decided 1']" for rank in (0, 1)}


def test_processes_of_slurm_follow_the_first_in_whatever_order_they_start(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = [
        subprocess.Popen(
            [sys.executable, script, tmp_path],
            env=environment(SLURM_JOB_ID="7", SLURM_STEP_ID="0", SLURM_NTASKS="2", SLURM_PROCID=rank),
        )
        for rank in ("1", "0")
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    assert heard(tmp_path) == {f"heard-{rank}": "['0 decided 0', '0 decided 1']" for rank in (0, 1)}


def test_who_waits_in_vain_says_so(tmp_path, monkeypatch):
    for name, value in {"JOB_ID": "8", "NTASKS": "2", "PROCID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(ConfigError, match=r"named no run folder within 0 s.*all machines share"):
        decide(lambda: "never asked", tmp_path, patience=0.2)


def test_a_process_of_its_own_decides_by_itself(tmp_path):
    assert decide(lambda: "mine", Path("/nowhere")) == "mine"


def test_several_machines_without_a_launcher_are_refused(tmp_path):
    config = compose("train", ["task=ssdlite", "trainer.nodes=2", f"runs={tmp_path}"])
    with pytest.raises(ConfigError, match=r"trainer.nodes=2: start a process for each device.*torchrun"):
        run_folder_of(config)


SHARING = """
import sys, time
from pathlib import Path
from mnv2_tasks.runs.processes import place_in_job, place_on_machine, wait_for_all
number, count = place_in_job()
if number == 0:
    time.sleep(1)
    (Path(sys.argv[1]) / "done").write_text(f"{number} of {count}, {place_on_machine()} here")
wait_for_all()
sys.exit(number)
"""


def test_a_process_of_torchrun_that_failed_waits_for_the_others(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SHARING)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, script, tmp_path], env=environment(), timeout=120, capture_output=True)
    assert done.returncode == 1 and (tmp_path / "done").read_text() == "0 of 2, 0 here"


def test_a_process_of_its_own_waits_for_nobody_and_counts_as_one():
    wait_for_all()
    assert place_in_job() == (0, 1) and place_on_machine() == 0


def test_a_process_of_several_that_would_train_alone_is_refused(tmp_path, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    settings = compose("train", ["task=ssdlite", f"runs={tmp_path}"]).trainer
    with pytest.raises(ConfigError, match=r"trainer.devices=1 trainer.nodes=1: 2 processes were started. Say how many"):
        check_machines(settings)
    for devices, nodes in [(2, 1), (1, 2), (-1, 1)]:
        settings.devices, settings.nodes = devices, nodes
        check_machines(settings)
