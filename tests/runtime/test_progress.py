import logging

import numpy as np
import pytest

from rcdp_hpc.runtime.progress import Progress, time_left


def test_lines_have_rates_in_units_and_bytes(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("rcdp_hpc.runtime.progress.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO), Progress("shards", 40, unit_bytes=2**19) as bar:
        now[0] += 1
        bar.advance(10)
        now[0] += 4
        bar.advance(10)
    assert [record.getMessage() for record in caplog.records] == [
        "shards: 20 of 40 rows, 4 per second, 2 MiB per second"
    ]


def test_nothing_is_logged_if_progress_is_off(caplog):
    with caplog.at_level(logging.INFO), Progress("shards", 2, enabled=False, interval=0) as bar:
        bar.advance(2)
    assert bar.done == 2
    assert not caplog.records


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7.4, "7 s left"), (100, "2 min left"), (5399, "90 min left"), (5400, "1.5 h left"), (np.inf, "")],
)
def test_units_of_the_remaining_time(seconds, words):
    assert time_left(seconds) == words
