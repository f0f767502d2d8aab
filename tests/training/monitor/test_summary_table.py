from __future__ import annotations

from rcdp_hpc.training.monitor.summary_table import sum_by_rank, summary_table


def epoch(ranks: int, **keys) -> dict:
    lists = ("compute_seconds", "wait_seconds", "communicate_seconds", "bytes_sent", "cpu_percent", "memory_mib")
    values = {name: [float(10 * rank + place) for rank in range(ranks)] for place, name in enumerate(lists, start=1)}
    return {**values, "samples_per_second": 1000.0, "cpu_percent_deviation": 2.0, **keys}


def test_sums_are_by_rank_if_the_number_of_ranks_changes():
    assert sum_by_rank([epoch(1), epoch(3), epoch(2)], "compute_seconds") == [3.0, 22.0, 21.0]


def test_the_table_has_a_line_for_each_rank_and_one_for_all():
    header, first, second, last, deviation = summary_table([epoch(1), epoch(2, bytes_sent=[2.0**20, 2.0**21])])
    assert header.split()[:4] == ["rank", "computing", "waiting", "communicating"]
    assert first.split() == ["0", "2.0", "s", "4.0", "s", "6.0", "s", "1", "MiB", "5", "%", "6", "MiB"]
    assert second.split() == ["1", "11.0", "s", "12.0", "s", "13.0", "s", "2", "MiB", "15", "%", "16", "MiB"]
    assert last == "1,000 samples per second (median epoch), processor 8 % of a core"
    assert "2.0 %" in deviation
    assert max(map(len, (header, first, second, last, deviation))) <= 80


def test_one_rank_has_no_table_of_ranks():
    assert summary_table([epoch(1), epoch(1)]) == [
        "1,000 samples per second (median epoch), processor 5 % of a core, 6 MiB"
    ]
