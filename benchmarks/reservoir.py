"""Time and accuracy of a reservoir with a ridge readout, stage by stage.

    python benchmarks/reservoir.py [--data FOLDER] [--rows 54000] [--threads 1 2] [--set nodes=500 ...]

FOLDER holds MNIST's training files (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz); without it,
scikit-learn's digits are taken. A tenth of the samples is held out and never fitted to.
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.ridge import GramSums, one_hot, solve
from rcdp_hpc.reservoir.sequence import sequence_shape
from rcdp_hpc.reservoir.states import KERNELS, Reservoir
from rcdp_hpc.runtime.threads import limit_threads

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


class Watch:
    """Seconds since the last look."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def __call__(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before


def load(folder: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images in [0, 1] and labels, shuffled."""
    if folder:
        pixels = gzip.decompress((Path(folder) / "train-images-idx3-ubyte.gz").read_bytes())
        names = gzip.decompress((Path(folder) / "train-labels-idx1-ubyte.gz").read_bytes())
        x = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28).astype(np.float32) / 255
        y = np.frombuffer(names, np.uint8, offset=8).astype(np.int64)
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        x, y = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order]


def measure(x: NDArray[np.float32], y: NDArray[np.int64], rows: int, settings: ReservoirSection, kernel: str) -> str:
    """Fit to the first rows, judge on the last tenth, and return a row of the table."""
    held_out = len(x) // 10
    train = slice(0, min(rows, len(x) - held_out))
    watch = Watch()
    reservoir = Reservoir(settings, sequence_shape(x.shape[1:], settings.sequence)[1], kernel)
    seconds = [watch()]
    features = reservoir.compute(x[train])
    seconds.append(watch())
    sums = GramSums(reservoir.width, 10)
    sums.add_all(features, one_hot(y[train], 10), settings.batch_rows)
    seconds.append(watch())
    solve(sums, PENALTIES[0])
    seconds.append(watch())
    unseen = reservoir.compute(x[-held_out:])
    accuracies = (
        (solve(sums, penalty).predict(unseen).argmax(axis=1) == y[-held_out:]).mean() for penalty in PENALTIES
    )
    cells = [f"{value:.2f}" for value in seconds] + [f"{100 * value:.2f} %" for value in accuracies]
    return f"{len(features)} | " + " | ".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="folder of MNIST's files")
    parser.add_argument("--rows", type=int, default=10**9, help="training rows at most")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="reservoir settings")
    options = parser.parse_args()
    settings = ReservoirSection.model_validate(dict(item.split("=", 1) for item in options.set))
    x, y = load(options.data)
    heads = ["threads", "kernel", "rows", "build s", "states s", "sums s", "solve s"]
    print("| " + " | ".join(heads + [f"accuracy, penalty {penalty:g}" for penalty in PENALTIES]) + " |")
    print("|---" * (len(heads) + len(PENALTIES)) + "|")
    for threads in options.threads:
        for kernel in options.kernels:
            with limit_threads(threads):
                row = measure(x, y, options.rows, settings, kernel)
            print(f"| {threads} | {kernel} | {row} |", flush=True)


if __name__ == "__main__":
    main()
