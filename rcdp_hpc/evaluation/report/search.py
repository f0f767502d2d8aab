"""The search: its convergence, the values of its winner, and what mattered."""

from __future__ import annotations

import math
from typing import Any

from rcdp_hpc.evaluation.report.charts import Bars, Line, bar_chart, interval_chart, line_chart, scatter, side_by_side
from rcdp_hpc.evaluation.report.html import NOTHING, Html, bullets, join, number, paragraph, percent, table, tag
from rcdp_hpc.evaluation.report.importance import LEAST_CANDIDATES, Influence, influences
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import counted, duration
from rcdp_hpc.evaluation.search_lines import best_so_far, winner_of
from rcdp_hpc.search.records.best import format_value

Record = dict[str, Any]
MOST_PANELS, MOST_CHOICES = 12, 25
MOST_REASONS = 8
# The winner counts as on a bound if it is within this share of the range.
AT_BOUND = 0.01
EXPLANATION = (
    "Importance is a permutation importance: a forest of extremely randomised trees (scikit-learn) predicts the rank "
    "of the fitness from the values; on held-out candidates each value in turn is exchanged at random, and its loss "
    "of R² is given as a share of the losses of all values. Rank correlation is Spearman's with the fitness: positive "
    "if larger values were better. Candidates are dense near the winner, so both describe this search. "
)


def search(files: RunFiles) -> Html:
    """Return the section about the search."""
    if "search" not in files.stages:
        return paragraph("There was no search (search.generations = 0): the configured values were used.")
    winner = winner_of(files.complete)
    if winner is None:
        if not files.history:
            return paragraph(
                f"The search has no complete generation yet (it is {files.status('search')}).", class_="problem"
            )
        return paragraph("No candidate could be evaluated on all rows.", class_="problem")
    found, explained = influences(files.complete)
    return join(
        _description(files, winner), side_by_side(_convergence(files, winner), _importance_picture(found)),
        _values(files, winner, found), _explanation(found, explained), _panels(files, winner, found), _failures(files),
    )  # fmt: skip


def _description(files: RunFiles, winner: Record) -> Html:
    lines = files.complete
    failed = sum(line["fitness"] is None for line in lines)
    new = sum(not line.get("reused") for line in lines)
    config = files.config
    method = (
        ""
        if config is None
        else f" by {config.search.optimizer if config.search.method == 'optimizer' else 'selection'}"
    )
    text = f"{counted(len(lines), 'candidate')} were proposed{method} in "
    text += (
        f"{counted(max(line['generation'] for line in lines), 'generation')}, and {new:,} of them evaluated on all rows"
    )
    text += " (the others had values that were known already)." if new < len(lines) else "."
    text += f" {counted(failed, 'candidate')} failed." if failed else ""
    meaning = f" ({files.best.meaning})" if files.best is not None and files.best.meaning else ""
    text += f" The best fitness{meaning} is {number(winner['fitness'], 5)}, first reached in generation "
    text += str(winner["generation"])
    if winner.get("accuracy") is not None:
        text += f", with an accuracy of {percent(winner['accuracy'], 2)} on the rows that chose it"
    unfinished = (
        ""
        if files.status("search") == "done"
        else f" The search is {files.status('search')}: this is its result so far."
    )
    return paragraph(f"{text}.{unfinished}")


def _convergence(files: RunFiles, winner: Record) -> Html:
    generations, best, mean = best_so_far(files.complete)
    first, last = (number(float(value), 4) for value in (best[0], best[-1]))
    fact = f"Convergence of the search: the best fitness went from {first} in the first generation to {last}, "
    fact += f"first reached in generation {winner['generation']} of {generations[-1]}."
    lines = [
        Line("best so far", generations.tolist(), best.tolist(), steps=True),
        Line("mean of the generation", generations.tolist(), mean.tolist()),
    ]
    mark = (float(winner["generation"]), float(winner["fitness"]), "winner")
    return line_chart(fact, "Convergence. A larger fitness is better.", "generation", "fitness", lines, mark=mark)


def _importance_picture(found: list[Influence]) -> Html:
    ranked = sorted((one for one in found if math.isfinite(one.importance)), key=lambda one: -one.importance)
    if not ranked:
        return Html("")
    share = percent(ranked[0].importance, 0)
    fact = f"Importance of the searched values: {ranked[0].name} mattered most, with {share} of the loss."
    ranked = ranked[:MOST_PANELS]
    bars = [Bars("importance", [round(100 * one.importance, 1) for one in ranked])]
    caption = "Importance: share of the loss of R² if a value is exchanged between candidates."
    return bar_chart(fact, caption, "% of the loss", [one.name for one in ranked], bars)


def range_of(files: RunFiles, name: str) -> Any:
    """Return the searched range of a value; None if the configuration has none."""
    return None if files.config is None else getattr(files.config.search.space, name, None)


def bound_reached(value: Any, searched: Any) -> str:
    """Return "low" or "high" if a value is within 1 % of a bound of its range, otherwise an empty text."""
    if searched is None or searched.low is None or not isinstance(value, int | float):
        return ""
    low, high, at = (
        math.log(max(x, 1e-300)) if searched.log else float(x) for x in (searched.low, searched.high, value)
    )
    for bound, distance in (("low", at - low), ("high", high - at)):
        if distance <= AT_BOUND * (high - low):
            return bound
    return ""


def _values(files: RunFiles, winner: Record, found: list[Influence]) -> Html:
    rows, by_name = [], {one.name: one for one in found}
    for name, value in winner["values"].items():
        searched, influence = range_of(files, name), by_name[name]
        bound = bound_reached(value, searched)
        note = f"at the {bound} bound" if bound else ""
        correlation = f"{influence.correlation:+.2f}" if math.isfinite(influence.correlation) else NOTHING
        rows.append((name, _value(value), _range(searched), note, percent(influence.importance, 0), correlation))
    header = ("value", "winner", "searched", "note", "importance", "rank correlation")
    return table("The winner, and what mattered", header, rows, words=(2, 3))


def _value(value: Any) -> str:
    return format_value(value) if isinstance(value, int | float | str) else str(value)


def _range(searched: Any) -> str | None:
    if searched is None:
        return None
    if searched.choices is not None:
        return ", ".join(map(_value, searched.choices))
    return f"{searched.low:g} to {searched.high:g}{', logarithmic' if searched.log else ''}"


def _explanation(found: list[Influence], explained: float) -> Html:
    text = EXPLANATION
    if math.isnan(explained):
        text += f"With fewer than {LEAST_CANDIDATES} evaluated candidates, or equal fitness, no importance is shown."
    elif not any(math.isfinite(one.importance) for one in found):
        text += f"Here the trees do not explain held-out candidates (R² = {explained:.2f}), so none is shown."
    else:
        text += f"Here the trees explain held-out candidates with R² = {explained:.2f}."
    return paragraph(text, class_="note")


def _panels(files: RunFiles, winner: Record, found: list[Influence]) -> Html:
    """Return a picture of the fitness over each value, for the most important values if there are many."""
    sound = [line for line in files.complete if line["fitness"] is not None]
    order = sorted(found, key=lambda one: -(one.importance if math.isfinite(one.importance) else -1.0))
    panels = [_panel(files, one, sound, winner) for one in order[:MOST_PANELS]]
    left = "" if len(order) <= MOST_PANELS else f" The {MOST_PANELS} most important of {len(order)} values are shown."
    note = f"Fitness of {counted(len(sound), 'candidate')} over each value; the ring is the winner.{left}"
    if len(sound) > 800:
        note += " Each picture shows 800 of them, evenly chosen."
    return join(tag("h3", "Fitness over each value"), paragraph(note, class_="note"), side_by_side(*panels))


def _panel(files: RunFiles, one: Influence, lines: list[Record], winner: Record) -> Html:
    values, best = [line["values"].get(one.name) for line in lines], winner["values"][one.name]
    fitness = [float(line["fitness"]) for line in lines]
    searched = range_of(files, one.name)
    caption = f"{one.name}: the winner has {_value(best)}."
    if (searched is not None and searched.choices) or not all(isinstance(value, int | float) for value in values):
        return _choices_panel(one.name, list(map(_value, values)), fitness, caption)
    is_log = bool(searched is not None and searched.log)
    labels = (f"{one.name} (logarithmic)" if is_log else one.name, "fitness")
    points = list(zip(map(float, values), fitness, strict=True))
    mark = (float(best), float(winner["fitness"]), "")
    return scatter(f"Fitness over {caption}", caption, labels, points, mark, is_log)


def _choices_panel(name: str, values: list[str], fitness: list[float], caption: str) -> Html:
    """Return the fitness of each choice, from its worst to its best candidate, the best choices first."""
    by_choice: dict[str, list[float]] = {}
    for value, worth in zip(values, fitness, strict=True):
        by_choice.setdefault(value, []).append(worth)
    ranked = sorted(by_choice, key=lambda choice: -max(by_choice[choice]))[:MOST_CHOICES]
    intervals = [(min(by_choice[choice]), max(by_choice[choice]), max(by_choice[choice])) for choice in ranked]
    caption += " The point is the best candidate of each choice, the line reaches to its worst."
    return interval_chart(
        f"Fitness by {name}: {ranked[0]} has the best candidate.", caption, "fitness", ranked, intervals
    )


def _failures(files: RunFiles) -> Html:
    reasons: dict[str, int] = {}
    for line in files.complete:
        if line["fitness"] is None:
            reason = str(line.get("reason") or "unknown reason")
            reasons[reason] = reasons.get(reason, 0) + 1
    if not reasons:
        return Html("")
    ranked = sorted(reasons.items(), key=lambda item: -item[1])
    shown = [f"{count:,}: {reason[:300]}" for reason, count in ranked[:MOST_REASONS]]
    if len(ranked) > MOST_REASONS:
        shown.append(f"and {counted(len(ranked) - MOST_REASONS, 'other reason')} (search/history.jsonl)")
    return join(tag("h3", "Failed candidates"), bullets(shown))


def search_time(files: RunFiles) -> Html:
    """Return how busy the ranks were in the search; empty if nothing is recorded."""
    if not files.usage:
        return Html("")
    generations = [usage.generation for usage in files.usage]
    efficiency = [100 * usage.efficiency for usage in files.usage]
    wall = sum(usage.wall for usage in files.usage)
    ranks = sum(usage.wall * usage.ranks for usage in files.usage)
    mean = sum(usage.busy for usage in files.usage) / ranks if ranks else math.nan
    fact = f"Utilisation of the ranks in the search: {percent(mean, 0)} of the time on average."
    lines = [
        Line("evaluating candidates", generations, efficiency),
        Line("no rank evaluating", generations, [100 * usage.overhead for usage in files.usage]),
    ]
    caption = "Use of the ranks over the generations of the search."
    chart = line_chart(fact, caption, "generation", "% of the time of all ranks", lines, zero=True)
    text = f"The search took {duration(wall)} of wall time; its ranks evaluated candidates in {percent(mean)} of it."
    busy: dict[int, float] = {}
    for line in files.history:
        timing = line.get("timing", {})
        if timing.get("rank") is not None:
            busy[timing["rank"]] = busy.get(timing["rank"], 0.0) + timing["seconds"]
    rows = [(str(rank), duration(seconds)) for rank, seconds in sorted(busy.items())[:64]]
    caption = "Time of each rank (or leader of a group of ranks) in evaluations"
    per_rank = table(caption, ("rank", "evaluating"), rows) if len(busy) > 1 else Html("")
    return join(tag("h3", "Search"), paragraph(text), side_by_side(chart), per_rank)
