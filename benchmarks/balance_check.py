"""What `rcdp balance-check` takes compared with separate runs, and how its SMOTE differs from that within each fold.

    python benchmarks/balance_check.py time --data /data/mnist
    python benchmarks/balance_check.py smote

`time` compares six ways on MNIST with a reservoir of 1000 nodes in one check, and then runs them one after another,
each with one split, where the check has five folds. The printed processor seconds do not depend on other work of the
machine.

`smote` solves readouts of uneven draws of scikit-learn's digits with synthetic rows that count where both their rows
do, and with synthetic rows that are made within each fold, and prints both balanced accuracies of all held-out rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rcdp_hpc
from rcdp_hpc.balance_check.check import balance_check
from rcdp_hpc.balance_check.output import table
from rcdp_hpc.balance_check.rows import read_rows
from rcdp_hpc.balance_check.state_pass import Computing, gathered_states
from rcdp_hpc.balance_check.state_source import state_source
from rcdp_hpc.config import Config, load_config
from rcdp_hpc.data.balancing.methods import balanced_rows
from rcdp_hpc.model.criteria import criterion
from rcdp_hpc.reservoir.left_out import solve_rows
from rcdp_hpc.runtime.comm.single import SingleProcess

RUNS: dict[str, dict[str, Any]] = {
    "none": {"data": {"balance": "none"}},
    "logit_adjustment": {"data": {"balance": "none"}, "prediction": {"costs": [[1.0]] * 10}},
    "class_weights": {"data": {"balance": "none"}, "loss": {"class_weights": "balanced"}},
    "random_under": {"data": {"balance": "random_under"}},
    "random_over": {"data": {"balance": "random_over"}},
    "smote": {"data": {"balance": "smote"}},
}
PENALTY = 1e-2


def main() -> None:
    """Run the part that the command names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("time", "smote"))
    parser.add_argument("--data", type=Path, help="folder of MNIST (time)")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=0, help="images that are used; default: all (time)")
    parser.add_argument("--keep", type=float, nargs=10, default=[], help="share of each digit that is kept (time)")
    parser.add_argument("--check-only", action="store_true", help="do not run the six runs (time)")
    parser.add_argument("--draws", type=int, default=10, help="uneven draws (smote)")
    options = parser.parse_args()
    if options.part == "smote":
        compare_smote(options.draws)
    elif options.data is None:
        parser.error("time needs --data")
    else:
        measure_time(options)


def seconds_of(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result of some work, its seconds, and its processor seconds."""
    started, used = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - started, time.process_time() - used


def mnist(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the settings of a reservoir that reads images by rows; the official test set is the test part."""
    data = {
        "source": "mnist", "path": str(options.data), "max_samples": options.samples,
        "class_keep_fractions": list(options.keep),
    }  # fmt: skip
    return {
        "data": data,
        "run": {"progress": False},
        "reservoir": {"nodes": options.nodes, "sequence": "rows", "states": 1, "density": 0.1},
        "readout": {"kind": "ridge"},
        "extractor": {"kind": "none"},
        "search": {"generations": 0},
    }


def measure_time(options: argparse.Namespace) -> None:
    """Print the seconds of a check and of six runs."""
    base = mnist(options)
    with tempfile.TemporaryDirectory() as folder:
        record, seconds, used = seconds_of(lambda: balance_check(load_config(base), Path(folder) / "check"))
        print("\n".join(table(record)))
        print(f"{record['data']['rows']} rows of {record['settings']['features']} states: {record['timing']}")
        print(f"{'balance-check':<20} {seconds:7.1f} s  {used:7.1f} processor s")
        total = np.zeros(2)
        for name, changes in RUNS.items() if not options.check_only else ():
            tree = {key: {**base.get(key, {}), **changes.get(key, {})} for key in {**base, **changes}}
            _, *measured = seconds_of(lambda tree=tree, name=name: rcdp_hpc.run(tree, Path(folder) / name))
            total += measured
            print(f"{name:<20} {measured[0]:7.1f} s  {measured[1]:7.1f} processor s", flush=True)
        if not options.check_only:
            print(f"{'six runs':<20} {total[0]:7.1f} s  {total[1]:7.1f} processor s")


def compare_smote(draws: int) -> None:
    """Print balanced accuracies with both kinds of synthetic rows."""
    found = []
    for seed in range(draws):
        shares = np.geomspace(1, 0.08, 10)[np.random.default_rng(seed).permutation(10)].tolist()
        found.append(one_draw(load_config({"run": {"seed": seed, "progress": False}, **digits(shares)})))
        print(f"draw {seed}: both rows {found[-1][0]:.4f}, within each fold {found[-1][1]:.4f}", flush=True)
    differences = np.subtract(*np.transpose(found))
    print(
        f"mean difference {differences.mean():+.4f}, standard error {differences.std(ddof=1) / np.sqrt(draws):.4f}, "
        f"means {np.mean(found, axis=0).round(4).tolist()}"
    )


def digits(shares: list[float]) -> dict[str, dict[str, Any]]:
    """Return the settings of uneven digits."""
    return {
        "data": {"source": "digits", "class_keep_fractions": shares},
        "reservoir": {"nodes": 200, "states": 1, "kernel": "dense-fp32", "sequence": "rows"},
        "readout": {"kind": "ridge"},
        "search": {"generations": 0},
    }


def one_draw(config: Config) -> tuple[float, float]:
    """Return the balanced accuracy with synthetic rows that count where both rows do, and with those of each fold."""
    comm = SingleProcess()
    rows = read_rows(config, 5, ["smote"], comm)
    source, config = state_source(config, rows, comm, torch.device("cpu"), 1)
    states = gathered_states(config, rows, source, comm)
    assert states is not None
    count, table_of = len(rows.labels), rows.resampled["smote"].synthetic
    labels = np.concatenate([rows.labels, table_of.y])
    answers = np.zeros((2, count), np.int64)
    compute = Computing(rows, source, lambda done: None)
    for fold in range(5):
        kept, held_out = np.flatnonzero(rows.folds != fold), np.flatnonzero(rows.folds == fold)
        both = (rows.folds[table_of.source] != fold) & (rows.folds[table_of.neighbour] != fold)
        places = np.concatenate([kept, count + np.flatnonzero(both)])
        answers[0, held_out] = predicted(states[places], labels[places], states[held_out], len(rows.classes))
        data = config.data.model_copy(update={"balance": "smote", "folds": 5})
        balanced = balanced_rows(rows.source, kept, data, config.run.seed, rows.storage, quiet=True)
        own = compute.of(balanced, torch.empty(len(balanced), source.width, dtype=source.dtype))
        answers[1, held_out] = predicted(own, balanced.y, states[held_out], len(rows.classes))
    measure = criterion("balanced_accuracy", rows.classes)
    first, second = (measure.value(rows.labels, one) for one in answers)
    return first, second


def predicted(states: torch.Tensor, labels: Any, held_out: torch.Tensor, classes: int) -> Any:
    """Return the answers of a readout of some rows for others."""
    return solve_rows(states, labels, classes, PENALTY).predict(held_out).argmax(axis=1)


if __name__ == "__main__":
    main()
