"""Time and waiting, by stage and by rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from rcdp_hpc.evaluation.report.charts import Bars, Line, bar_chart, line_chart, side_by_side
from rcdp_hpc.evaluation.report.html import Html, join, paragraph, percent, table, tag
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.search import search_time
from rcdp_hpc.evaluation.report.text import STAGE_NAMES, duration

Record = dict[str, Any]
PARTS = {"computing": "compute_seconds", "waiting": "wait_seconds", "communicating": "communicate_seconds"}
# Up to this number of ranks, each has a bar and a row; of more, the smallest, median and largest are given.
MOST_RANKS = 32


def timing(files: RunFiles) -> Html:
    """Return the section about time and waiting."""
    rows = []
    known = [files.states[stage].get("seconds") for stage in files.stages]
    total = sum(seconds for seconds in known if seconds is not None)
    for stage, seconds in zip(files.stages, known, strict=True):
        share = percent(seconds / total) if seconds is not None and total else None
        rows.append(
            (STAGE_NAMES[stage], files.status(stage), files.states[stage].get("ranks"), duration(seconds), share)
        )
    rows.append(("all stages", "", None, duration(total), None))
    header = ("stage", "status", "ranks", "time", "share")
    stages = table("Time of each stage, earlier starts that it was resumed from included", header, rows, words=(1,))
    return join(stages, search_time(files), _training(files))


def _training(files: RunFiles) -> Html:
    """Return how the ranks spent the time of the training."""
    result = files.states["train"].get("result") or {}
    seconds = {name: result.get(key) or _summed(files.metrics, key) for name, key in PARTS.items()}
    if not seconds["computing"]:
        return Html("")
    ranks = len(seconds["computing"])
    times = np.array(list(seconds.values()), float)
    totals = times.sum(0)
    shares = times.sum(1) / max(totals.sum(), 1e-300)
    text = f"In the steps of the training, ranks computed {percent(shares[0])} of the time, waited "
    text += (
        f"{percent(shares[1])} and communicated {percent(shares[2])}. A rank waits if it reaches a sum before others."
    )
    parts = [tag("h3", "Training"), paragraph(text)]
    if ranks > 1:
        slowest = int(times[0].argmax())
        fact = (
            f"Time of each rank in training: they waited {percent(shares[1])} of it; rank {slowest} computed longest, "
        )
        fact += f"{duration(times[0, slowest])}."
        pictures = [_waiting(files.metrics)]
        if ranks <= MOST_RANKS:
            bars = [Bars(name, row.tolist()) for name, row in zip(PARTS, times, strict=True)]
            names = [f"rank {rank}" for rank in range(ranks)]
            pictures.insert(
                0, bar_chart(fact, "Time of each rank in the steps of the training.", "seconds", names, bars)
            )
        parts += [side_by_side(*pictures), _rank_table(times)]
    return join(*parts)


def _summed(metrics: list[Record], key: str) -> list[float]:
    """Return the seconds of each rank over all epochs; empty if the number of ranks changed."""
    rows = [epoch.get(key) or [] for epoch in metrics]
    if not rows or len({len(row) for row in rows}) != 1:
        return []
    return [float(total) for total in np.sum(rows, axis=0)] if rows[0] else []


def _waiting(metrics: list[Record]) -> Html:
    """Return the share of waiting over the epochs; empty if it is not recorded."""
    epochs, shares = [], []
    for epoch in metrics:
        spent = [sum(epoch.get(key) or ()) for key in PARTS.values()]
        if sum(spent) > 0:
            epochs.append(epoch["epoch"] + 1)
            shares.append(100 * spent[1] / sum(spent))
    if not epochs:
        return Html("")
    fact = f"Waiting over the epochs: between {min(shares):.1f} and {max(shares):.1f} % of the time of all ranks."
    line = Line("waiting", epochs, shares)
    return line_chart(fact, "Waiting in each epoch, of the time of all ranks.", "epoch", "% waiting", [line], zero=True)


def _rank_table(times: np.ndarray[Any, Any]) -> Html:
    ranks = times.shape[1]
    header = ("rank", *PARTS)
    if ranks <= MOST_RANKS:
        rows = [(str(rank), *map(duration, times[:, rank])) for rank in range(ranks)]
        return table("Time of each rank in the steps of the training", header, rows)
    measures: dict[str, Any] = {"smallest": np.min, "median": np.median, "largest": np.max}
    rows = [(name, *(duration(float(measure(row))) for row in times)) for name, measure in measures.items()]
    return table(f"Time of the {ranks} ranks in the steps of the training", header, rows)
