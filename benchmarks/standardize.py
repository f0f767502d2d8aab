"""Test accuracies on raw and standardised tables: the effect of data.standardize.

Each table is written as csv and run through all stages with the defaults of all other keys. "by hand" is the table
scaled by scikit-learn's StandardScaler, fitted to all rows, with data.standardize = "none". A seed determines the
split, the balancing and the reservoir, so that the columns of a seed have the same test rows. The last column is
the mean difference of these pairs with its standard error.
"""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.preprocessing import StandardScaler

import rcdp_hpc

TABLES = {"wine": load_wine, "breast cancer": load_breast_cancer}
VARIANTS = {"raw": "none", "standard": "standard", "robust": "robust", "by hand": "none"}


def main() -> None:
    """Run every variant with every seed, and print means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"| table | test rows | {' | '.join(VARIANTS)} | standard - by hand |", flush=True)
    print("|" + "---|" * (len(VARIANTS) + 3), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, load in TABLES.items():
            print(_line(name, load(), options.seeds, Path(folder)), flush=True)


def _line(name: str, table: object, seeds: int, folder: Path) -> str:
    raw, labels = table.data, table.target  # type: ignore[attr-defined]
    found, rows = {}, 0
    for variant, method in VARIANTS.items():
        path = folder / f"{name}-{variant}.csv".replace(" ", "-")
        _write(path, StandardScaler().fit_transform(raw) if variant == "by hand" else raw, labels)
        tests = [_run(path, method, seed) for seed in range(1, seeds + 1)]
        rows = tests[0]["samples"]
        found[variant] = np.array([100 * test["accuracy"] for test in tests])
    cells = [f"{accuracies.mean():.2f} % ({accuracies.std(ddof=1):.2f})" for accuracies in found.values()]
    pairs = found["standard"] - found["by hand"]
    error = pairs.std(ddof=1) / np.sqrt(seeds)
    return f"| {name} | {rows} | {' | '.join(cells)} | {pairs.mean():+.2f} ({error:.2f}) |"


def _write(path: Path, x: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"feature{number}" for number in range(x.shape[1])), "label"])
        writer.writerows([*map(repr, map(float, row)), f"class{label}"] for row, label in zip(x, labels, strict=True))


def _run(path: Path, method: str, seed: int) -> dict[str, float]:
    config = path.with_suffix(".toml")
    config.write_text(f'[data]\nsource = "csv"\npath = "{path}"\nstandardize = "{method}"\n\n[run]\nseed = {seed}\n')
    result = rcdp_hpc.run(rcdp_hpc.load_config(config), out=path.with_name(f"{path.stem}-{seed}"))
    return result["evaluate"]


if __name__ == "__main__":
    main()
