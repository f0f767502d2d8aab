"""The report of one run: its sections in order."""

from __future__ import annotations

import time
from functools import partial

from rcdp_hpc.evaluation.report import result
from rcdp_hpc.evaluation.report.advice import advice
from rcdp_hpc.evaluation.report.asked import asked
from rcdp_hpc.evaluation.report.checking import digests, warnings
from rcdp_hpc.evaluation.report.classes import classes, confusions
from rcdp_hpc.evaluation.report.complexity import complexity
from rcdp_hpc.evaluation.report.data import data
from rcdp_hpc.evaluation.report.page import Section, render
from rcdp_hpc.evaluation.report.reliability import reliability
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.search import search
from rcdp_hpc.evaluation.report.text import moment
from rcdp_hpc.evaluation.report.timing import timing
from rcdp_hpc.evaluation.report.training import training

SECTIONS = (
    ("result", "Result", result.result),
    ("asked", "What was asked", asked),
    ("data", "Data before and after balancing", data),
    ("search", "Search", search),
    ("training", "Training", training),
    ("classes", "Results of each class", classes),
    ("confusion", "Confusions", confusions),
    ("baselines", "Comparison with baselines", result.baselines),
    ("reliability", "How far probabilities can be trusted", reliability),
    ("complexity", "Size and speed of the model", complexity),
    ("time", "Time and waiting", timing),
    ("digests", "Digests to check it by", digests),
    ("warnings", "Warnings of the log", warnings),
    ("next", "What to do next", advice),
)


def run_page(files: RunFiles) -> str:
    """Return the page of a run."""
    files.read_everything()
    ended = max((float(state.get("updated", 0)) for state in files.states.values()), default=0.0)
    path = files.run.path.absolute()
    changed = f"last change {moment(ended)} · " if ended else ""
    sections = [Section(key, title, partial(write, files)) for key, title, write in SECTIONS]
    return render(f"Run {path.name}", f"{path} · {changed}report written {moment(time.time())}", sections)
