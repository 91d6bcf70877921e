"""A command that is asked to end ends, quietly, and its exit code says by what."""

import os
import signal
import subprocess
import sys
import time

import pytest

SIGPIPE = 13
COMMAND = """
import os, sys, time
from mnv2_tasks.runs.stopping import ends_when_asked
with ends_when_asked():
    try:
        for number in range(600):
            print(number, flush=True)
            time.sleep(0.05)
    finally:
        print("saved", file=sys.stderr)
"""


def started(code, **more):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes, **more)


@pytest.mark.parametrize("number, name", [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_ends_a_command_after_saving_with_the_shells_code(number, name):
    process = started(COMMAND)
    assert process.stdout.readline() == "0\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors.splitlines() == ["saved", f"stopped by {name}"]


def test_output_that_nobody_reads_ends_a_command_quietly():
    process = started(COMMAND)
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + SIGPIPE and errors == "saved\n"


def test_a_reader_of_one_line_ends_a_verb_without_a_traceback():
    command = f"{sys.executable} -m mnv2_tasks data --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] in ("0", str(128 + SIGPIPE)) and done.stderr == ""


def test_closed_output_is_refused_before_anything_begins(tmp_path):
    command = f"{sys.executable} -m mnv2_tasks train task=classification runs={tmp_path} >&-"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert "standard output is closed; to go without it, say > /dev/null" in done.stderr
    assert "Traceback" not in done.stderr


LOADING = """
import os, signal, time
from mnv2_tasks.runs.stopping import end_together, hear
end_together()
undo = hear(lambda number: os._exit(9))
child = os.fork()
if child == 0:
    time.sleep(60)
time.sleep(0.3)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
time.sleep(1)  # and the thread that sees to the end has heard nothing
"""


def test_a_process_that_loads_images_is_ended_without_ending_the_others():
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "143\n", "")


SEVERAL = """
import os, subprocess, sys, time
from mnv2_tasks.runs import stopping
stopping.PATIENCE = 4.0
first = os.environ.setdefault("LOCAL_RANK", "0") == "0"
if first:
    subprocess.Popen([sys.executable, *sys.argv], env=os.environ | {"LOCAL_RANK": "1"})
with stopping.ends_when_asked():
    stopping.end_together()
    print(os.getpid(), flush=True)
    if sys.argv[1] == "stuck":  # in a library that waits for another process, say: no handler runs
        import ctypes
        library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        library.pthread_mutex_lock(lock)
        library.pthread_mutex_lock(lock)
    time.sleep(60)
"""


@pytest.mark.parametrize("stuck", ["stuck", "waiting"])
@pytest.mark.parametrize("which", [0, 1])
def test_asking_one_of_several_processes_ends_them_all_with_the_reason(which, stuck, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SEVERAL)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "TORCHELASTIC", "LOCAL_RANK"))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, script, stuck], env=clean, **pipes)
    others = {int(process.stdout.readline()) for _ in range(2)} - {process.pid}
    asked = [process.pid, *others][which]
    os.kill(asked, signal.SIGTERM)
    began = time.monotonic()
    _, errors = process.communicate(timeout=30)  # until both have closed their output
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - began < 20
    assert "SIGTERM" in errors and "Traceback" not in errors
