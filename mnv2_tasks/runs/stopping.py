"""Being asked to end: Ctrl-C, SIGTERM, and output that nobody reads any more, as with `| head -1`.

Who has something to save says so with `hear`; else the process ends where it is. Its exit code is the shell's: 128 and
the number of the signal.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mnv2_tasks.runs.processes import started_by_the_first

SIGPIPE = 13  # which Windows does not name
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", SIGPIPE: "closed output"}
PATIENCE = 20.0  # seconds that one of several processes has to end by itself


class Stopped(SystemExit):
    """Ends the process, as it was asked to."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {NAMES.get(self.number, self.number)}"


def stop(number: int) -> None:
    raise Stopped(number)


_hears: Callable[[int], None] = stop  # what to do now when the process is asked to end


def hear(do: Callable[[int], None]) -> Callable[[], None]:
    """Have `do` called, with the number of the signal, when the process is asked to end; returns what undoes it."""
    global _hears
    before, _hears = _hears, do
    owner = os.getpid()

    def on_signal(number: int, _: Any) -> None:
        if os.getpid() == owner:
            do(number)
        elif number == signal.SIGTERM:  # a process that loads images has inherited this
            os._exit(128 + number)

    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def undo() -> None:
        global _hears
        _hears = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
        handlers.clear()

    return undo


def say(text: str) -> None:
    """To the terminal, from within a signal's handler: Python's streams may be in the middle of a write."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


@contextmanager
def ends_when_asked() -> Iterator[None]:
    """Around a whole command: signals and closed output end it, quietly and with their codes."""
    undo, output = hear(stop), sys.stdout
    sys.stdout = _Output(output)
    if started_by_the_first():
        end_together()
    try:
        yield
        sys.stdout.flush()
    except Stopped as stopped:
        if stopped.number != SIGPIPE:
            say(str(stopped))
        if started_by_the_first():  # which Lightning would kill before it has saved, if this one ended before it
            _wait_for_the_first()
        raise
    finally:
        sys.stdout = output
        undo()


class _Output:
    """Standard output, whose closing is a signal to end."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, do: Callable, *args: Any) -> None:
        try:
            do(*args)
        except BrokenPipeError:
            if threading.current_thread() is not threading.main_thread():
                return  # the main one will meet it as well
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what is flushed later must not fail
            os.close(nowhere)
            _hears(SIGPIPE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_together = False


def end_together() -> None:
    """In each of several processes of a job: none is left behind when one is asked to end.

    One that was started by the first passes the signal on to it, and ends when the first has ended. One that does not
    end in time, because it waits for another or validates for long, is ended. A thread sees to that: while Python
    waits in a library, its handlers of signals do not run.
    """
    global _together
    if _together or threading.current_thread() is not threading.main_thread():
        return
    _together = True
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # signals of processes that load images are their own affair
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_see_to_the_end, args=(read,), daemon=True).start()


def _see_to_the_end(signals: int) -> None:
    first = os.getppid() if started_by_the_first() else None
    patience = PATIENCE + 2 if first else PATIENCE  # Lightning kills the first where another has ended before it
    number, deadline = 0, float("inf")
    while time.monotonic() < deadline:
        if select.select([signals], [], [], 0.5)[0]:
            heard = os.read(signals, 1)[0]
            if heard in NAMES and not number:
                number, deadline = heard, time.monotonic() + patience
                say(f"process {os.getpid()} was asked to stop by {NAMES[heard]}; the others of this job stop with it")
                if first:
                    with suppress(OSError):
                        os.kill(first, heard)
        if first and os.getppid() != first and not number:
            number, deadline = signal.SIGTERM, time.monotonic() + PATIENCE / 4
            say(f"process {os.getpid()} stops: {first}, which started it, has ended")
    say(f"process {os.getpid()} stops where it is, before what it does is done; what was saved stands")
    os._exit(128 + number)


def _wait_for_the_first() -> None:
    first, deadline = os.getppid(), time.monotonic() + PATIENCE + 2
    while os.getppid() == first and time.monotonic() < deadline:
        time.sleep(0.1)
