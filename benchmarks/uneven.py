"""Uneven data: what to do about it, by balanced accuracy, macro F1, the worst class's recall, accuracy and ECE.

    python benchmarks/uneven.py --series SERIES --vowels VOWELS --mnist MNIST --cifar10 CIFAR10 [--seeds 5]
        [--sets PLAID ...] [--methods none smote ...] [--results uneven.jsonl]

The paths are those of `uneven_data.py`: a wheel, an archive or a folder. PLAID and OSULeaf are uneven by themselves;
the other training parts are cut. Ridge readouts have the settings of the profiles. Networks train for at most 30 epochs
on the same states. Each method has the same rows for a seed. Results are appended to --results, and are not measured
again. ECE is that of the probabilities of the model itself; "calibrated" is that of the reported ones.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uneven_data

import rcdp_hpc
from rcdp_hpc.runtime.threads import limit_threads


@dataclass(frozen=True)
class Case:
    """A data set of `uneven_data`, how it is cut, the profile that it is run with, and changes of the profile."""

    data: str
    profile: str
    changes: tuple[str, ...] = ()
    imbalance: float = 0
    rows: int = 0
    test_rows: int = 0


# 500 nodes, and 48 atoms over 2 x 2 regions: small enough for many runs on two cores.
IMAGES = ("data.kind=images", "search.generations=0")
MNIST = (*IMAGES, "reservoir.nodes=500", "reservoir.states=2")
CIFAR10 = (*IMAGES, "extractor.atoms=48", "extractor.pool=2", "readout.ridge_penalties=[0.001,0.01,0.1,1.0]")
CASES = {
    "PLAID": Case("plaid", "series"),
    "OSULeaf": Case("osuleaf", "series"),
    "Vowels, 10": Case("vowels", "vowels", ("search.generations=0",), 10),
    "MNIST, 10": Case("mnist", "mnist", MNIST, 10, 4000, 5000),
    "CIFAR-10, 10": Case("cifar10", "cifar10-frozen", CIFAR10, 10, 3000, 1000),
    "CIFAR-10, 100": Case("cifar10", "cifar10-frozen", CIFAR10, 100, 2000, 1000),
}
NONE = ("data.balance=none",)
RIDGE = ("readout.kind=ridge", *NONE)
NETWORK = ("readout.kind=network", *NONE, "training.epochs=30", "training.patience=10", "training.batch=64",
           "training.global_batch=64")  # fmt: skip
BALANCED = ("readout.ridge_criterion=balanced_accuracy", "training.criterion=balanced_accuracy")
# The classes of the model are answered as if they were equally frequent: logit adjustment after the training.
EVEN_PRIORS = "prediction.priors=even"
METHODS: dict[str, tuple[str, ...]] = {
    "none": RIDGE,
    "none, chosen by balanced accuracy": (*RIDGE, BALANCED[0]),
    "weights": (*RIDGE, "loss.class_weights=balanced"),
    "SMOTE": (*RIDGE, "data.balance=smote"),
    "even priors": (*RIDGE, EVEN_PRIORS),
    "ensemble": (*RIDGE, "readout.members=10", "readout.member_rows=under_sampled"),
    "network": NETWORK,
    "network, chosen by balanced accuracy": (*NETWORK, BALANCED[1]),
    "network, weights": (*NETWORK, "loss.class_weights=balanced"),
    "network, SMOTE": (*NETWORK, "data.balance=smote"),
    "network, logit-adjusted": (*NETWORK, "loss.kind=logit_adjusted"),
    "network, balanced softmax": (*NETWORK, "loss.kind=balanced_softmax"),
    "network, LDAM": (*NETWORK, "loss.kind=ldam"),
}
COMMON = ("run.progress=false", "training.baseline=false", "data.source=npz", "data.x_test_name=x_test",
          "data.y_test_name=y_test")  # fmt: skip
MEASURES = ("balanced_accuracy", "macro_f1", "worst_recall", "accuracy", "ece", "ece_calibrated")
Result = dict[str, Any]


def measured(case: Case, method: str, seed: int, file: Path, threads: int) -> Result:
    """Run a method on a file, and return its measures."""
    lengths = ("data.lengths_name=lengths",) if case.data in ("plaid", "vowels") else ()
    with np.load(file) as arrays:
        even = f"prediction.priors={[1] * len(np.unique(arrays['y']))}"
    chosen = [even if setting == EVEN_PRIORS else setting for setting in METHODS[method]]
    settings = [*COMMON, *lengths, *case.changes, *chosen, f"data.path={file}", f"run.seed={seed}",
                f"reservoir.seed={seed}", f"training.threads={threads}"]  # fmt: skip
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, limit_threads(threads):
        rcdp_hpc.run(rcdp_hpc.load_config(case.profile, settings), folder)
        test = json.loads(Path(folder, "report/summary.json").read_text())["test"]
    return {**measures_of(test), "seconds": time.perf_counter() - started}


def measures_of(test: dict[str, Any]) -> Result:
    """Return the measures of a summary."""
    recalls = [recall for recall in test["recall"] if recall is not None]
    raw = test.get("uncalibrated", test)
    return {
        **{name: test[name] for name in ("balanced_accuracy", "macro_f1", "accuracy")},
        "worst_recall": min(recalls),
        "ece": raw["ece"],
        "ece_calibrated": test["ece"],
    }


def print_table(results: list[Result], measure: str) -> None:
    """Print mean and standard deviation over the seeds: a row for each method, a column for each set."""
    methods, sets = (list(dict.fromkeys(one[key] for one in results)) for key in ("method", "set"))
    print(f"\n| {measure.replace('_', ' ')}, % | {' | '.join(sets)} | mean |")
    print("|---" * (len(sets) + 2) + "|")
    for method in methods:
        cells, means = [], []
        for name in sets:
            found = [one for one in results if (one["method"], one["set"]) == (method, name)]
            values = [100 * one[measure] for one in found if one[measure] is not None]
            spread = f" ({statistics.stdev(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.1f}{spread}" if values else "-")
            means.extend([statistics.fmean(values)] if values else [])
        print(f"| {method} | {' | '.join(cells)} | {statistics.fmean(means):.1f} |")


def collect(options: argparse.Namespace, files: Path) -> list[Result]:
    """Return the results in the file, and measure the others."""
    path: Path = options.results
    lines = path.read_text().splitlines() if path.exists() else []
    kept = {(one["method"], one["set"], one["seed"]): one for one in map(json.loads, lines)}
    for seed in range(1, options.seeds + 1):
        for name in options.sets:
            case = CASES[name]
            missing = [method for method in options.methods if (method, name, seed) not in kept]
            file = files / f"{name}-{seed}.npz"
            if missing:
                data_set = uneven_data.SETS[case.data]
                source = uneven_data.read(data_set, getattr(options, PLACES.get(case.data, "series")))
                uneven_data.write(case.data, source, file, seed, case.imbalance, case.rows, case.test_rows)
            for method in missing:
                found = {"method": method, "set": name, "seed": seed}
                found |= measured(case, method, seed, file, options.threads)
                with path.open("a") as results:
                    results.write(json.dumps(found) + "\n")
                print(json.dumps(found), file=sys.stderr, flush=True)
                kept[method, name, seed] = found
    wanted = [(method, name, seed) for seed in range(1, options.seeds + 1) for name in options.sets
              for method in options.methods]  # fmt: skip
    return [kept[one] for one in wanted]


PLACES = {"vowels": "vowels", "mnist": "mnist", "cifar10": "cifar10"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("series", "vowels", "mnist", "cifar10"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--results", type=Path, default=Path("uneven.jsonl"), help="file that results are kept in")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    logging.getLogger("rcdp_hpc").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as files:
        results = collect(options, Path(files))
    for measure in MEASURES:
        print_table(results, measure)


if __name__ == "__main__":
    main()
