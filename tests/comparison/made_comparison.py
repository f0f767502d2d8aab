"""The folder of a comparison with the results of made cells, for its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_runs import Made, make_run

from rcdp_hpc.comparison.results import (
    MEASURES,
    CellResult,
    CellTiming,
    Comparison,
    LeftOut,
    MethodInfo,
    PairedTest,
    Summary,
    Timings,
    write_results,
)
from rcdp_hpc.config import load_config, to_tree
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

COMPARED = ("compare.seeds=[1, 2]", "compare.methods=['mfo', 'ridge']")
METHODS = ("mfo", "ridge", "<b>")
FAILED = "<b>-seed-2"
ACCURACY = {"mfo": (0.9, 0.94), "ridge": (0.8, 0.86), "<b>": (0.5, 0.6)}


def cell_of(method: str, seed: int) -> CellResult:
    name = f"{method}-seed-{seed}"
    if name == FAILED:
        return CellResult(name, method, "rows", "evaluations", seed, 0, "failed", reason="out of memory <i>")
    measures = dict.fromkeys(MEASURES, 0.5) | {"accuracy": ACCURACY[method][seed - 1], "parameters": 1234}
    return CellResult(
        name, method, "rows", "evaluations", seed, 0, "done", measures=measures, chosen={"density": 0.123456}
    )


def make_comparison(folder: Path, methods: Sequence[str] = METHODS, runs: bool = True) -> Comparison:
    """Write all records of a comparison of two seeds, in which one cell failed."""
    cells = [cell_of(method, seed) for seed in (1, 2) for method in methods]
    summaries = []
    for method in methods:
        done = [cell.measures for cell in cells if cell.method == method and cell.done]
        failed = [cell.name for cell in cells if cell.method == method and not cell.done]
        mean = {name: float(np.mean([one[name] for one in done])) for name in MEASURES}
        deviation = (
            {name: float(np.std([one[name] for one in done], ddof=1)) for name in MEASURES} if len(done) > 1 else {}
        )
        summaries.append(Summary(method, "rows", "evaluations", len(done), 2, failed, mean, deviation))
    tests = [PairedTest("mfo", other, "rows", "evaluations", "paired t-test", 2, 0.09, 9.0, 0.0704, 0.1409)
             for other in methods[1:]]  # fmt: skip
    comparison = Comparison(
        settings=to_tree(load_config("digits", COMPARED)),
        methods=[MethodInfo(name, f"what {name} is", "a paper") for name in methods],
        left_out=[LeftOut("wpd-avoa-delm", "rows", "samples of 1 value have no wavelets")],
        repeats="seeds", arms=["rows"], budgets={"evaluations": {"population": 5, "generations": 4}},
        data={"description": "made data", "kind": "images", "sample_shape": [8, 8], "classes": ["a", "b"],
              "rows": {"train": 100, "validation": 10, "test": 20}},
        cells=cells, summaries=summaries, tests=tests, versions={"numpy": "2"},
    )  # fmt: skip
    used = {"mean": 90.0, "deviation": 5.0, "every": 0.5, "over_time": [80.0, 100.0, 90.0]}
    timed = {cell.name: CellTiming({"search": 20.0, "train": 10.0}, 30.0, 1, used) for cell in cells if cell.done}
    write_results(folder, comparison, Timings(timed, {"seed-1": {"prepare": 1.5}}))
    write_plan(folder)
    if runs:
        for seed in (1, 2):
            make_run(RunDirectory(folder).cell(f"mfo-seed-{seed}").path, Made(seed=seed))
    return comparison


def write_plan(folder: Path, left_out: Sequence[Any] = ()) -> None:
    """Write ``plan.json`` of a comparison of mfo and ridge over two seeds."""
    settings = to_tree(load_config("digits", COMPARED))
    write_sealed(RunDirectory(folder).plan, {"settings": settings, "left_out": list(left_out)})
