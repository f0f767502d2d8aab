"""The short table at the end of a training: what each rank's time went into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np


def sum_by_rank(reports: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return the sum over epochs for each rank; epochs before a resume may have had fewer or more ranks."""
    by_rank = zip_longest(*(report[name] for report in reports), fillvalue=0.0)
    return [float(sum(epochs)) for epochs in by_rank]


def summary_table(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table: a line for each rank, and one for all; of a single rank the latter alone.

    Parameters
    ----------
    reports : sequence of mapping
        Lines of ``metrics.jsonl``.
    """
    ranks = max(len(report["bytes_sent"]) for report in reports)
    rates = [report["samples_per_second"] for report in reports]
    percents = [[report["cpu_percent"][rank] for report in reports if rank < len(report["cpu_percent"])]
                for rank in range(ranks)]  # fmt: skip
    memory = [max(report["memory_mib"][rank] for report in reports if rank < len(report["memory_mib"]))
              for rank in range(ranks)]  # fmt: skip
    percent = np.mean(np.concatenate(percents))
    speed = f"{np.median(rates):,.0f} samples per second (median epoch), processor {percent:.0f} % of a core"
    if ranks == 1:
        return [f"{speed}, {memory[0]:.0f} MiB"]
    kinds = ("compute_seconds", "wait_seconds", "communicate_seconds")
    seconds = [sum_by_rank(reports, name) for name in kinds]
    sent = sum_by_rank(reports, "bytes_sent")
    lines = ["rank  computing  waiting  communicating      sent   processor    memory"]
    for rank, (compute, wait, communicate) in enumerate(zip(*seconds, strict=True)):
        lines.append(
            f"{rank:4d} {compute:8.1f} s {wait:6.1f} s {communicate:12.1f} s {sent[rank] / 2**20:5.0f} MiB "
            f"{np.mean(percents[rank]):9.0f} % {memory[rank]:5.0f} MiB"
        )
    spread = np.mean([report["cpu_percent_deviation"] for report in reports])
    return [*lines, speed, f"  (standard deviation between ranks {spread:.1f} %)"]
