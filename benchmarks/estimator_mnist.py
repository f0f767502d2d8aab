"""MNIST through the estimator, the command line, and ReservoirPy: seconds, memory and accuracy of `fit` and `predict`.

    python benchmarks/estimator_mnist.py --data MNIST [--reservoirpy PYTHON] [--ways estimator command] [--repeats 3]

All have a reservoir of the same size that reads the rows of an image as steps, and a ridge readout of its last state.
They fit the training images and predict these and the test images. The estimator and the command line have the same
settings, seed and training rows, so they must predict every image equally; the benchmark ends with an error if they do
not. The test images are only predicted.

Each runs in its own process, in turn, in an order that rotates. Seconds are those of `fit` and `predict`; for the
command line those of `rcdp run` and `rcdp predict` from start to end, which read the IDX files, write shards, and, in
`run`, evaluate the test images. Memory is the largest resident memory of the process with its children. CPU
seconds and memory are those of the whole process, with imports and reading the images.

PYTHON is an interpreter with ReservoirPy (pip install reservoirpy). ReservoirPy computes one series after the other;
here one process per thread does. It fits and predicts a subset (--peer-rows and a sixth of them), and its seconds are
multiplied by the ratio of all rows to those; its CPU seconds, memory and accuracy are those of the subset.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from reservoir_inputs import images, labels, part_sizes

WAYS = {"estimator": "estimator", "command": "command line", "reservoirpy": "ReservoirPy"}
# Files in the folder of a run.
LABELS, TIMES = "labels.npy", "times.json"
SAMPLING_SECONDS = 0.02
PENALTY, LEAK, RADIUS, INPUT_SCALING, BIAS_SCALING, DENSITY = 1e-4, 0.3, 1.2, 0.5, 0.5, 0.1
# Images whose states ReservoirPy holds at a time: all states of a series, in float64.
PEER_BLOCK = 500


def settings(nodes: int, data: str) -> dict:
    """Return the settings of the estimator and of the command line."""
    return {
        "data": {"source": "mnist", "path": str(Path(data).resolve()), "balance": "none"},
        "reservoir": {
            "nodes": nodes,
            "sequence": "rows",
            "states": 1,
            "leak": LEAK,
            "spectral_radius": RADIUS,
            "input_scaling": INPUT_SCALING,
            "bias_scaling": BIAS_SCALING,
            "density": DENSITY,
        },
        "extractor": {"kind": "none"},
        "search": {"generations": 0},
        "readout": {"kind": "ridge", "ridge_penalties": [PENALTY]},
    }


def read(data: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return images, labels, and the number of the first, which are for the training."""
    train, test = part_sizes(data)
    return images(data, train + test), labels(data, train + test), train


def by_estimator(data: str, folder: Path, nodes: int, rows: int) -> None:
    """Fit and predict in this process."""
    from rcdp_hpc.sklearn import ReservoirClassifier

    x, y, train = read(data)
    tree = settings(nodes, data)
    del tree["data"]["source"], tree["data"]["path"]
    estimator = ReservoirClassifier(config=tree)
    fit = timed(lambda: estimator.fit(x[:train], y[:train]))
    predict = timed(lambda: np.save(folder / LABELS, estimator.predict(x).astype(np.int64)))
    write_times(folder, fit=fit, predict=predict)


def by_command(data: str, folder: Path, nodes: int, rows: int) -> None:
    """Fit and predict with the commands of a shell."""
    # A value of JSON is one of TOML here: texts, numbers and lists.
    sections = settings(nodes, data).items()
    lines = [f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
             for name, keys in sections]  # fmt: skip
    config = folder / "config.toml"
    config.write_text("\n".join(lines))
    run, file = folder / "run", folder / "predictions.npz"
    rcdp = [sys.executable, "-m", "rcdp_hpc"]
    fit = timed(lambda: subprocess.run([*rcdp, "run", config, "--out", run], check=True))
    predict = timed(lambda: subprocess.run([*rcdp, "predict", run, data, "--to", file], check=True))
    write_times(folder, fit=fit, predict=predict)
    with np.load(file) as predictions:
        np.save(folder / LABELS, predictions["label"])


def by_reservoirpy(data: str, folder: Path, nodes: int, rows: int) -> None:
    """Fit and predict a subset with ReservoirPy."""
    from joblib import Parallel, delayed
    from reservoirpy.mat_gen import uniform
    from reservoirpy.nodes import Reservoir, Ridge

    x, y, total = read(data)
    rows = min(rows, total)
    train, test = slice(0, rows), slice(total, total + rows * (len(y) - total) // total)
    workers = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))

    def last_states(block: np.ndarray) -> np.ndarray:
        node = Reservoir(
            nodes, lr=LEAK, sr=RADIUS, input_scaling=INPUT_SCALING, input_connectivity=1.0, rc_connectivity=DENSITY,
            Win=uniform(low=-1, high=1), bias=uniform(low=-BIAS_SCALING, high=BIAS_SCALING), seed=1,
        )  # fmt: skip
        return np.array([states[-1] for states in node.run(block)])

    def states(part: slice) -> np.ndarray:
        blocks = np.array_split(x[part] / 255, max(workers, len(x[part]) // PEER_BLOCK))
        return np.concatenate(parallel(delayed(last_states)(block) for block in blocks))

    def fit() -> None:
        inputs = states(train)
        # The penalty of the package applies to standardised features, and to their mean over the rows.
        readout.ridge = PENALTY * len(inputs) * float(inputs.var(axis=0).mean())
        readout.fit(inputs, np.eye(10)[y[train]])

    def predict() -> None:
        found = np.full(len(y), -1)
        for part in (train, test):
            found[part] = readout.run(states(part)).argmax(axis=1)
        np.save(folder / LABELS, found)

    readout = Ridge()
    with Parallel(n_jobs=workers) as parallel:
        write_times(folder, fit=timed(fit) * total / rows, predict=timed(predict) * total / rows)


def timed(work) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def write_times(folder: Path, **seconds: float) -> None:
    (folder / TIMES).write_text(json.dumps(seconds))


WORKERS = {"estimator": by_estimator, "command": by_command, "reservoirpy": by_reservoirpy}


def measure(way: str, chosen: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own; return its seconds, CPU seconds and memory."""
    folder.mkdir()
    python = chosen.reservoirpy if way == "reservoirpy" else sys.executable
    command = [python, __file__, "--worker", way, chosen.data, str(folder), str(chosen.nodes), str(chosen.peer_rows)]
    env = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads), "TMPDIR": str(folder)}
    with (folder / "output.txt").open("w+") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
        memory = MemoryWatch(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = memory.stop()
        output.seek(0)
        if process.returncode:
            raise SystemExit(f"{WAYS[way]} ended with {process.returncode}:\n{output.read()[-4000:]}")
    return {
        **json.loads((folder / TIMES).read_text()),
        "cpu": usage.ru_utime + usage.ru_stime,
        # The largest single process is exact, the sum over processes is sampled.
        "mb": max(usage.ru_maxrss / 1024, peak),
    }


class MemoryWatch:
    """Samples the memory of a process and its children in a thread, in MiB; memory that they share counts once."""

    def __init__(self, pid: int) -> None:
        import psutil

        self.gone = psutil.Error
        self.process = psutil.Process(pid)
        self.peak = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()

    def stop(self) -> float:
        self.ended.set()
        self.thread.join()
        return self.peak

    def _sample(self) -> None:
        while not self.ended.wait(SAMPLING_SECONDS):
            try:
                processes = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(one.memory_full_info().pss for one in processes) / 2**20)
            except self.gone:
                continue  # a child has just ended


def accuracy(predicted: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy of those images that were predicted."""
    return float((predicted == y)[predicted >= 0].mean())


def table(measured: dict[str, list[dict[str, float]]], accuracies: dict[str, float], peer_share: float) -> str:
    """Return the table: medians, and in brackets the range over the rounds."""

    def cell(runs: Sequence[dict[str, float]], key: str, digits: int) -> str:
        values = [run[key] for run in runs]
        return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"

    lines = ["| | fit, s | predict, s | CPU, s | peak memory, MiB | test accuracy |", "|---|---|---|---|---|---|"]
    for way, runs in measured.items():
        title = WAYS[way] + (f", {peer_share:.1%} of the rows, s extrapolated" if way == "reservoirpy" else "")
        cells = [cell(runs, key, digits) for key, digits in (("fit", 1), ("predict", 1), ("cpu", 1), ("mb", 0))]
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {accuracies[way]:.2%} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of MNIST's IDX files (.gz)")
    parser.add_argument("--reservoirpy", metavar="PYTHON", help="interpreter with ReservoirPy; default: leave it out")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), help="default: all")
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--peer-rows", type=int, default=6000, help="training images of ReservoirPy")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args(arguments)
    ways = chosen.ways or [way for way in WAYS if way != "reservoirpy" or chosen.reservoirpy]
    if "reservoirpy" in ways and not chosen.reservoirpy:
        parser.error("--ways reservoirpy needs --reservoirpy PYTHON, an interpreter with ReservoirPy")
    train, test = part_sizes(chosen.data)
    if "reservoirpy" in ways and (chosen.peer_rows > train or chosen.peer_rows * test < train):
        parser.error(f"--peer-rows {chosen.peer_rows} leaves no test image, or is more than {train}")
    y = labels(chosen.data, train + test)
    measured, predicted = {way: [] for way in ways}, {}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(chosen.repeats):
            start = turn % len(ways)
            for way in (*ways[start:], *ways[:start]):
                folder = Path(name) / f"{way}-{turn}"
                measured[way].append(measure(way, chosen, folder))
                predicted[way] = np.load(folder / LABELS)
    accuracies = {way: accuracy(predicted[way][train:], y[train:]) for way in ways}
    print(table(measured, accuracies, chosen.peer_rows / train))
    if {"estimator", "command"} <= set(ways):
        apart = int((predicted["estimator"] != predicted["command"]).sum())
        if apart:
            raise SystemExit(f"the estimator and the command line predict {apart} of {len(y)} images differently")
        print(f"\nThe estimator and the command line predict all {len(y):,} images equally.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        way, data, folder, nodes, rows = sys.argv[2:]
        WORKERS[way](data, Path(folder), int(nodes), int(rows))
    else:
        main()
