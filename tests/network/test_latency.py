"""Calls that take turns, by a clock of the test's own."""

from mnv2_tasks.network import latency


def test_calls_take_turns_and_pauses_between_them_are_not_counted(monkeypatch):
    now, order = [0.0], []

    def take(seconds, name=""):
        now[0] += seconds
        order.append(name)

    monkeypatch.setattr(latency.time, "sleep", lambda seconds: take(seconds, "pause"))
    calls = {"a": lambda: take(2, "a"), "b": lambda: take(3, "b")}
    seconds = latency.by_turns(calls, rounds=2, warmup=1, pause=50, clock=lambda: now[0])
    assert seconds == {"a": [2, 2], "b": [3, 3]}
    assert order == ["pause", "a", "pause", "b"] * 3
