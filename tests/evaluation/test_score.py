import io
from types import SimpleNamespace

import pytest
from lightning.fabric.utilities import rank_zero_only
from rich.console import Console

from mnv2_tasks.evaluation.score import score


class Count:
    def reset(self):
        self.seen = 0

    def update(self, predictions, batch):
        self.seen += predictions

    def compute(self):
        return {"seen": self.seen}


@pytest.mark.parametrize("bars, rank, shown", [(True, 0, True), (False, 0, False), (True, 1, False)])
def test_bars_are_drawn_by_the_first_process_alone_and_not_within_another_display(bars, rank, shown, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(
        "mnv2_tasks.evaluation.score.Console", lambda **_: Console(file=terminal, force_terminal=True, width=80)
    )
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    batches = [SimpleNamespace(images=None, frames=None)] * 3
    found = score(lambda task, images, frames: 1, {"a": SimpleNamespace(metric=Count())}, {"a": batches}, bars=bars)
    assert found == {"a": {"seen": 3}}
    assert bool(terminal.getvalue()) == shown
