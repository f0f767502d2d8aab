"""Regularisations of the network of eq. 11 side by side, by cross-validation: accuracy, size and time of each.

    python benchmarks/regularisation.py [MNIST] [--samples 20000] [--folds 5] [--quick] [--to results.jsonl]

MNIST is a folder with its IDX files; without it, scikit-learn's 1797 digits are used. Every arm has the same reservoir,
network, folds, seed and number of epochs, and the epoch with the lowest validation loss is tested:

- ``none``: no regularisation. The batch normalisations of eq. 11 are replaced by their shifts alone, also in the other
  arms but one;
- ``L1``, ``L2``, ``elastic net`` (both, with half of each penalty), ``dropout``;
- ``batch normalisation``: eq. 11 as it is;
- ``threshold``: the weights of ``none`` with the smallest magnitudes become zero, and the others are trained again
  (`rcdp compress --keep`). Its training time is that of both trainings.

The strengths are fixed (`ARMS`); nothing is chosen on test rows. Each value is the mean over the folds and its sample
standard deviation. "cost" is the difference of the accuracy to ``none`` on the same folds, in points. Times are those
of this process, so that other work on the machine counts, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from rcdp_hpc.config import load_config
from rcdp_hpc.networks.readouts import mlp
from rcdp_hpc.pipeline.compression import compress
from rcdp_hpc.pipeline.linked_shards import link_shards
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

COMMON = (
    "data.balance=none", "data.shards=1", "search.generations=0", "training.baseline=false", "run.progress=false",
    "readout.kind=network", "readout.outputs=64", "readout.hidden=64", "readout.dropout=0", "optimizer.kind=adam",
    "optimizer.learning_rate=0.002", "schedule.kind=one_cycle", "reservoir.kernel=dense-fp32", "reservoir.states=2",
)  # fmt: skip
NORMALISED = "batch normalisation"
THRESHOLD = "threshold"
ARMS: Mapping[str, Sequence[str]] = {
    "none": (),
    "L1": ("loss.l1=0.001",),
    "L2": ("loss.l2=0.001",),
    "elastic net": ("loss.l1=0.0005", "loss.l2=0.0005"),
    "dropout": ("readout.dropout=0.2",),
    NORMALISED: (),
    THRESHOLD: (),
}
KEEP = 0.1
COLUMNS = {
    "accuracy": "accuracy %",
    "cost": "cost, points",
    "balanced_accuracy": "balanced accuracy %",
    "macro_f1": "macro F1 %",
    "parameters": "numbers",
    "flops": "FLOPs without zeros",
    "train_seconds": "training s",
    "milliseconds": "prediction ms",
}


class Shift(nn.Module):
    """The shift of a batch normalisation alone; parameters as `SyncBatchNorm`, of which the width is read."""

    def __init__(self, width: int, *_: Any) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (rows, width) plus the shift."""
        return x + self.bias


@contextlib.contextmanager
def network_of(arm: str) -> Iterator[None]:
    """Build networks with or without batch normalisation, as the arm needs them."""
    with contextlib.ExitStack() as stack:
        if arm != NORMALISED:
            stack.enter_context(mock.patch.object(mlp, "SyncBatchNorm", Shift))
        yield


class Benchmark:
    """The runs of one start.

    Parameters
    ----------
    options : argparse.Namespace
    folder : Path
        Where the run directories are.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.folder = folder
        nodes = 50 if options.quick else 200
        data = ["data.source=digits"]
        if options.data is not None:
            data = ["data.source=mnist", f"data.path={options.data}", f"data.max_samples={options.samples}"]
        self.settings = [
            *COMMON, *data, f"data.folds={options.folds}", f"reservoir.nodes={nodes}", f"run.seed={options.seed}",
            f"training.epochs={options.epochs}", f"training.patience={options.epochs}", "training.batch=64",
            f"training.threads={options.threads}",
        ]  # fmt: skip
        self.epochs = options.epochs

    def result(self, arm: str, fold: int) -> dict[str, float]:
        """Train, if this has not happened, and return the results of an arm on the test rows of a fold."""
        started = time.perf_counter()
        with network_of(arm):
            out = self._pruned(fold) if arm == THRESHOLD else self._trained(arm, fold)
        summary = read_sealed(out / "report/summary.json")
        seconds = RunDirectory(out).state("train")["seconds"]
        if arm == THRESHOLD:
            seconds += RunDirectory(self.folder / f"none-{fold}").state("train")["seconds"]
        test, size = summary["test"], summary["complexity"]
        return {
            **{name: test[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")},
            "parameters": size["nonzero"],
            "flops": size["sparse_flops"],
            "train_seconds": seconds,
            "milliseconds": size["milliseconds"],
            "all_seconds": time.perf_counter() - started,
        }

    def warm_up(self) -> None:
        """Train once, so that no arm is timed while libraries load."""
        out = self.folder / "warm-up"
        link_shards(self._prepared(1), RunDirectory(out), "the fold")
        run_stages(["train"], load_config("image", [*self.settings, "data.fold=1", "training.epochs=1"]), out)

    def _prepared(self, fold: int) -> RunDirectory:
        out = self.folder / f"shards-{fold}"
        if not (out / "shards/index.json").exists():
            run_stages(["prepare"], load_config("image", [*self.settings, f"data.fold={fold}"]), out)
        return RunDirectory(out)

    def _trained(self, arm: str, fold: int) -> Path:
        out = self.folder / f"{arm.replace(' ', '-')}-{fold}"
        link_shards(self._prepared(fold), RunDirectory(out), "the fold")
        config = load_config("image", [*self.settings, f"data.fold={fold}", *ARMS[arm]])
        run_stages(["train", "evaluate"], config, out)
        return out

    def _pruned(self, fold: int) -> Path:
        out = self.folder / f"threshold-{fold}"
        removal = max(1, self.epochs // 2)
        compress(self._trained("none", fold), out, keep=KEEP, changes={"pruning.epochs": removal})
        return out


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Return the lines of the table: mean and standard deviation over the folds."""
    titles = ("regularisation", *COLUMNS.values())
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for arm, folds in results.items():
        cells = []
        for column in COLUMNS:
            values = [one["accuracy"] - plain["accuracy"] for one, plain in zip(folds, results["none"], strict=True)]
            if column != "cost":
                values = [one[column] for one in folds]
            cells.append(_cell(column, values))
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return lines


def _cell(column: str, values: Sequence[float]) -> str:
    mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    if column in ("parameters", "flops"):
        return f"{mean:,.0f}"
    if column in ("train_seconds", "milliseconds"):
        return f"{mean:.3g}"
    sign = "+" if column == "cost" else ""
    return f"{100 * mean:{sign}.2f} ({100 * deviation:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", metavar="MNIST")
    parser.add_argument("--samples", type=int, default=20_000, help="samples of MNIST")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two folds, two epochs and few nodes: whether it runs")
    parser.add_argument("--arms", default=",".join(ARMS), help="regularisations, separated by commas; none is needed")
    parser.add_argument("--to", type=Path, help="also append the results to this file, as JSON lines")
    options = parser.parse_args(arguments)
    if options.quick:
        options.folds = 2
        options.epochs = 2
        options.samples = min(options.samples, 2000)
    logging.getLogger("rcdp_hpc").setLevel(logging.ERROR)
    started = time.perf_counter()
    results: dict[str, list[dict[str, float]]] = {arm: [] for arm in options.arms.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(options, Path(folder))
        benchmark.warm_up()
        for fold in range(1, options.folds + 1):
            for arm, found in results.items():
                found.append(benchmark.result(arm, fold))
                if options.to is not None:
                    with options.to.open("a") as file:
                        file.write(json.dumps({"arm": arm, "fold": fold, **found[-1]}) + "\n")
    print("\n".join(table(results)))
    print(f"\n{options.folds} folds, {time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
