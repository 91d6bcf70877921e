"""sbatch, srun, sacct, scancel and scontrol of a queue on this machine, as far as submitit calls them.

The folder in FAKE_SLURM holds, of each job, its script, the process that runs it, and how it ended. A file `hold` there
keeps jobs pending; what a file `refuse` holds is sbatch's error.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def install(folder: Path, monkeypatch) -> Path:
    """Put the commands first in PATH; returns the queue's folder."""
    bin, queue = folder / "bin", folder / "queue"
    bin.mkdir()
    queue.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel", "scontrol"):
        (bin / name).write_text(f'#!/bin/sh\nexec {sys.executable} -S {Path(__file__)} {name} "$@"\n')
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(queue))
    return queue


def sbatch(queue, script):
    if (queue / "refuse").exists():
        sys.exit((queue / "refuse").read_text())
    job = 1 + len(list(queue.glob("*.sh")))
    (queue / f"{job}.sh").write_text(Path(script).read_text(encoding="utf-8"))
    command = [sys.executable, "-S", __file__, "keep", str(job)]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"Submitted batch job {job}")


def keep(queue, job):
    """Run a job, and again when it is queued again."""
    names = {"JOB_ID": job, "NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_NUM_NODES": 1}
    environment = os.environ | {f"SLURM_{name}": str(value) for name, value in names.items()}
    while True:
        while (queue / "hold").exists():
            time.sleep(0.05)
        code = subprocess.call(["bash", str(queue / f"{job}.sh")], env=environment)
        if not (queue / f"{job}.again").exists():
            break
        (queue / f"{job}.again").unlink()
    state = "CANCELLED" if (queue / f"{job}.cancelled").exists() else "FAILED" if code else "COMPLETED"
    (queue / f"{job}.state").write_text(state)


def srun(queue, *arguments):
    """--unbuffered --output <out> --error <err> <command>"""
    job = os.environ["SLURM_JOB_ID"]
    out, err, command = arguments[2], arguments[4], arguments[5:]
    (queue / f"{job}.pid").write_text(str(os.getpid()))
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path.replace("%j", job).replace("%t", "0"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.execvp(command[0], command)


def sacct(queue, *arguments):
    print("JobID|State|NodeList")
    for job in (arguments[i + 1] for i, word in enumerate(arguments) if word == "-j"):
        ended = queue / f"{job}.state"
        state = ended.read_text() if ended.exists() else "RUNNING" if (queue / f"{job}.pid").exists() else "PENDING"
        print(f"{job}|{state}|here")


def scancel(queue, job):
    (queue / f"{job}.cancelled").touch()
    os.kill(int((queue / f"{job}.pid").read_text()), signal.SIGTERM)


def scontrol(queue, what, job):
    assert what == "requeue"
    (queue / f"{job}.again").touch()


if __name__ == "__main__":
    commands = {one.__name__: one for one in (sbatch, keep, srun, sacct, scancel, scontrol)}
    commands[sys.argv[1]](Path(os.environ["FAKE_SLURM"]), *sys.argv[2:])
