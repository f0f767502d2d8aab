"""Pruned networks on MNIST: a tenth of the numbers and bytes over several seeds, and the accuracy at every sparsity.

    python benchmarks/pruning.py FOLDER [--quick] [--parts tenth,curve] [--seeds 5] [--samples 20000] [--to FILE]

FOLDER has MNIST's IDX files. Each part prints a table; every line is one run or the mean of several.

- ``tenth``: a recipe of convolutions and eq. 11 is trained with each seed and pruned by `rcdp compress`. All settings
  are fixed before; the epoch is the one with the lowest validation loss. Nothing is chosen on the test set.
- ``curve``: the accuracy at sparsities from 0 to 99.5 % of the network of eq. 11 on reservoir states and of the
  convolutions, one seed, each sparsity pruned from the same trained network.

``--quick`` takes 3000 samples, few epochs and one seed, to see that everything runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.compress.result import CompressResult, Measured
from rcdp_hpc.pipeline.compression import compress
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads

COMMON = (
    "data.source=mnist", "data.balance=none", "data.shards=1", "search.generations=0", "training.baseline=false",
    "training.threads=1", "training.batch=128", "readout.kind=network", "readout.dropout=0", "schedule.kind=one_cycle",
    "optimizer.kind=adamw", "optimizer.learning_rate=0.004", "optimizer.weight_decay=0.01", "run.progress=false",
)  # fmt: skip
CONVOLUTIONS = (
    "extractor.kind=convolution", "extractor.channels=[8,16]", "extractor.residual=false", "reservoir.kind=none",
    "reservoir.nodes=1", "readout.outputs=128", "readout.hidden=128",
)  # fmt: skip
EQ11 = (
    "extractor.kind=none", "reservoir.kind=random", "reservoir.nodes=300", "reservoir.sequence=both",
    "reservoir.states=2", "readout.outputs=128", "readout.hidden=128",
)  # fmt: skip
NETWORKS = {"eq. 11": EQ11, "convolutions": CONVOLUTIONS}
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


class Benchmark:
    """The runs of one start.

    Parameters
    ----------
    options : argparse.Namespace
    folder : Path
        Where the run directories are.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.epochs = (1, 2, 1) if options.quick else (4, 6, 2)

    def trained(self, name: str, network: Sequence[str], seed: int) -> Path:
        """Return a trained and evaluated run."""
        out = self.folder / f"{name}-{seed}".replace(" ", "")
        epochs = self.epochs[0]
        settings = [*COMMON, *network, f"data.path={self.options.folder}", f"run.seed={seed}",
                    f"training.epochs={epochs}", f"training.patience={epochs}"]  # fmt: skip
        if self.options.samples:
            settings.append(f"data.max_samples={self.options.samples}")
        run_stages(["prepare", "train", "evaluate"], load_config("image", settings), out)
        return out

    def pruned(self, run: Path, keep: float) -> CompressResult:
        """Return a run pruned to a share of its weights."""
        _, epochs, removal = self.epochs
        changes: dict[str, Any] = {"training.epochs": epochs, "training.patience": epochs, "pruning.epochs": removal}
        return compress(run, self.folder / f"{run.name}-{keep}", keep=keep, changes=changes)

    def note(self, part: str, seed: int, keep: float, result: CompressResult) -> None:
        """Append a result to the file of results."""
        if self.options.to is None:
            return
        entry = {"part": part, "seed": seed, "keep": keep, "before": _facts(result.before)}
        with self.options.to.open("a") as file:
            file.write(json.dumps({**entry, "after": _facts(result.after)}) + "\n")

    def seeds(self) -> None:
        """Print the table of a recipe over seeds, before and after it is pruned."""
        keep = self.options.keep
        print(f"\n{100 * keep:g} % of the weights of convolutions and eq. 11")
        print("| seed | numbers | after | share | bytes | after | share | test % | after | validation % | after |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        results = []
        for seed in range(1, self.options.seeds + 1):
            result = self.pruned(self.trained("convolutions", CONVOLUTIONS, seed), keep)
            self.note("tenth", seed, keep, result)
            results.append(_row(result))
            print(_line(seed, results[-1]), flush=True)
        print(_line("mean", np.mean(results, 0)))
        print(_line("worst test", min(results, key=lambda row: row[5])), flush=True)

    def curve(self) -> None:
        """Print the accuracy over the sparsity."""
        print("\naccuracy over sparsity, seed 1")
        print("| network | weights removed % | numbers | bytes | FLOPs without zeros | validation % | test % |")
        print("|---|---|---|---|---|---|---|")
        for name, network in NETWORKS.items():
            run = self.trained(name, network, 1)
            print(_point(name, 0.0, Measured.of(RunDirectory(run))), flush=True)
            for sparsity in SPARSITIES[1:]:
                keep = round(1 - sparsity, 4)
                result = self.pruned(run, keep)
                self.note(f"curve {name}", 1, keep, result)
                print(_point(name, sparsity, result.after), flush=True)


def _facts(measured: Measured) -> dict[str, Any]:
    return {**measured.size.to_json(), "validation": measured.validation, **measured.scores}


def _row(result: CompressResult) -> list[float]:
    """Return the numbers of a line: numbers and bytes before and after, test and validation accuracy."""
    old, new = result.before, result.after
    sizes = [old.size.nonzero, new.size.nonzero, old.size.bytes or 0, new.size.bytes or 0]
    return [*sizes, old.scores["accuracy"], new.scores["accuracy"], old.validation or 0.0, new.validation or 0.0]


def _line(title: object, row: Sequence[float]) -> str:
    numbers, kept, size, small, *scores = row
    shares = f"| {numbers:,.0f} | {kept:,.0f} | {100 * kept / numbers:.1f} % "
    shares += f"| {size:,.0f} | {small:,.0f} | {100 * small / size:.1f} % "
    return f"| {title} {shares}| " + " | ".join(f"{100 * score:.2f}" for score in scores) + " |"


def _point(name: str, sparsity: float, measured: Measured) -> str:
    size = measured.size
    accuracies = f"{100 * (measured.validation or 0):.2f} | {100 * measured.scores['accuracy']:.2f}"
    flops = f"{size.sparse_flops / 1e6:.3f} M"
    return f"| {name} | {100 * sparsity:g} | {size.nonzero:,} | {size.bytes:,} | {flops} | {accuracies} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default="tenth,curve")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=0, help="samples of MNIST to take; default: all")
    parser.add_argument("--keep", type=float, default=0.05, help="share of the weights that the part tenth keeps")
    parser.add_argument("--to", type=Path, help="also append the results to this file, as JSON lines")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.samples = 1, options.samples or 3000
    logging.getLogger("rcdp_hpc").setLevel(logging.WARNING)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with tempfile.TemporaryDirectory() as folder, limit_threads(1):
        benchmark = Benchmark(options, Path(folder))
        for part in options.parts.split(","):
            {"tenth": benchmark.seeds, "curve": benchmark.curve}[part]()
    print(f"\n{resource.getrusage(resource.RUSAGE_SELF).ru_utime - before:.0f} s of user time")


if __name__ == "__main__":
    main()
