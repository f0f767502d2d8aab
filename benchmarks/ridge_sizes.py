"""Accuracy of a ridge readout over its size, and the smallest one with 98 % on MNIST.

    python benchmarks/ridge_sizes.py FOLDER [--seeds 1] [--nodes 500] [--atoms 64] [--parts curve,small] [--quick]

FOLDER has MNIST's IDX files; with --quick, digits of scikit-learn and small reservoirs take their place (no FOLDER).

"curve" removes features of the profile mnist-ridge with --nodes nodes in each of its four reservoirs. Each row is one
size: the accuracy on validation rows and on test rows of a readout that is solved again for the features that are left.
Next to the elimination: the features with the largest weights, and features at random.

"small" reads the codes of a dictionary with --atoms atoms, without a reservoir. Stored numbers are the weights and
biases, one position for each feature that is left, and the dictionary. The size is the smallest whose accuracy on
validation rows reaches the target, or the largest with the number that is allowed; test rows are not used for it.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config, load_config
from rcdp_hpc.networks.learned_source import learned_of
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.elimination import sums_of_features
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import solve, standardised_gram
from rcdp_hpc.reservoir.stream import sum_slabs
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.solve.ridge_rows import streamed_source
from rcdp_hpc.training.solve.size_curve import SizeCurve, ValidationRows, select_penalty, size_curve
from rcdp_hpc.training.stage import SolvedRows, rows_to_solve
from rcdp_hpc.training.states.cache import state_blocks

SPARSITIES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)
TARGETS = (0.97, 0.98, 0.985)
ALLOWED = 10_000
COMM = SingleProcess()
COMMON = ["data.balance=none", "search.generations=0", "run.progress=false", "readout.kind=ridge"]


@dataclass
class Problem:
    """Everything that the readouts of all sizes are solved and evaluated with."""

    sums: GramSums
    validation: ValidationRows
    both: GramSums
    test: NDArray[np.float32]
    labels: NDArray[np.int64]
    learned: int
    penalties: list[float]

    def accuracies(self, features: NDArray[np.int64]) -> tuple[float, float]:
        """Return the accuracy on validation and on test rows of a readout of some features, in percent."""
        selected = select_penalty(COMM, self.sums, self.validation, features, self.penalties)
        readout = solve(sums_of_features(self.both, features), selected.penalty)
        right = readout.predict(self.test[:, features]).argmax(1) == self.labels
        return 100 * selected.accuracy, 100 * float(right.mean())


def problem_of(config: Config, rows: SolvedRows) -> Problem:
    """Sum all rows once, and keep the states of the validation and the test rows."""
    shards, reservoir = rows.shards, rows.reservoir
    progress = Progress("states", 1, enabled=False)
    source = streamed_source(config, COMM, shards, reservoir, rows.plan, progress)
    sums, both = (GramSums(source.width, source.classes) for _ in range(2))
    sum_slabs(sums, source.partitions())
    validation = ValidationRows(sums, source.validation())
    both.merge(sums)
    sum_slabs(both, source.validation())
    blocks = list(state_blocks(reservoir, shards, "test", 0, shards.rows("test"), progress, "reading test rows"))
    test = np.concatenate([states.float().numpy() for _, states, _ in blocks])
    labels = np.concatenate([numbers.numpy() for _, _, numbers in blocks])
    learned = sum(value.numel() for value in learned_of(reservoir).values())
    return Problem(sums, validation, both, test, labels, learned, config.readout.ridge_penalties)


def eliminated(problem: Problem) -> SizeCurve:
    """Return the order of removal, with the penalty of all features."""
    everything = np.arange(problem.sums.x.size)
    selected = select_penalty(COMM, problem.sums, problem.validation, everything, problem.penalties)
    started = time.perf_counter()
    curve = size_curve(COMM, problem.sums, selected.penalty, problem.validation)
    print(f"{len(curve.order)} removals in {time.perf_counter() - started:.1f} s, penalty {selected.penalty:g}")
    return curve


def print_curve(problem: Problem, seed: int) -> None:
    curve = eliminated(problem)
    total = len(curve.groups)
    weights = solve(problem.sums, float(np.median(problem.penalties))).weights
    _, scale = standardised_gram(problem.sums)
    sizes = np.square(weights / np.where(scale > 0, scale, np.inf)[:, None]).sum(1)
    by_weight, at_random = np.argsort(-sizes), np.random.default_rng(seed).permutation(total)
    print("sparsity  features  weights   eliminated: validation    test   largest weights: test   at random: test")
    for sparsity in SPARSITIES:
        count = max(1, round(total * (1 - sparsity / 100)))
        found, test = problem.accuracies(curve.features(count))
        others = [problem.accuracies(np.sort(order[:count]))[1] for order in (by_weight, at_random)]
        print(
            f"{sparsity:>6} %  {count:>8}  {count * problem.both.y.size:>7}  {found:>21.2f} %  {test:6.2f} %"
            f"  {others[0]:>20.2f} %  {others[1]:>14.2f} %",
            flush=True,
        )


def print_small(problem: Problem) -> None:
    curve = eliminated(problem)
    total, outputs = len(curve.groups), problem.both.y.size

    def stored(count: int) -> int:
        return count * (outputs + (count < total)) + outputs + problem.learned

    print(f"the dictionary has {problem.learned} numbers, all {total} features need {stored(total)}")
    print("chosen on validation             features  stored numbers  validation     test")
    allowed = max((count for count in range(1, total + 1) if stored(count) <= ALLOWED), default=0)
    choices = [("all features", total), *([(f"at most {ALLOWED} numbers", allowed)] if allowed else [])]
    for target in TARGETS:
        reached = np.flatnonzero(curve.accuracies >= target)
        choices += [(f"the smallest with {100 * target:g} %", total - int(reached[-1]))] if len(reached) else []
    for name, count in choices:
        found, test = problem.accuracies(curve.features(count))
        print(f"{name:<32} {count:>8}  {stored(count):>14}  {found:>8.2f} %  {test:6.2f} %", flush=True)


def parts_of(options: argparse.Namespace, folder: Path, seed: int) -> Iterator[tuple[str, Config]]:
    """Yield the name and the configuration of each part that is asked for."""
    quick, seeds = options.quick, [f"run.seed={seed}", f"reservoir.seed={seed}"]
    data = [] if quick else [f"data.path={options.folder}"]
    nodes, atoms = (25, 8) if quick else (options.nodes, options.atoms)
    small = ["extractor.kind=dictionary", f"extractor.atoms={atoms}", "reservoir.kind=none", "extractor.power=0.5"]
    small += ["extractor.patch=3", "extractor.pool=3", "extractor.patches=2000"] if quick else ["extractor.pool=4"]
    profile = "digits" if quick else "mnist-ridge"
    settings = {
        "curve": [f"reservoir.nodes={nodes}", "reservoir.kernel=dense-fp32"],
        "small": ["reservoir.scans=[]", "reservoir.window=1", *small],
    }
    for name in options.parts.split(","):
        yield name, load_config(profile, [*COMMON, *data, *seeds, *settings[name], *options.set])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--parts", default="curve,small")
    for name, default in (("seeds", 1), ("nodes", 500), ("atoms", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all parts")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.folder is None and not options.quick:
        parser.error("name the folder with MNIST's files, or --quick")
    logging.getLogger("rcdp_hpc").setLevel(logging.WARNING)
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            for name, config in parts_of(options, Path(folder), seed):
                run = RunDirectory(Path(folder) / name)
                run_stages(["prepare"], config, run.path)
                started = time.process_time()
                with rows_to_solve(config, COMM, run) as rows:
                    problem = problem_of(config, rows)
                    spent = time.process_time() - started
                    print(
                        f"\n{name}, seed {seed}: {problem.sums.rows} training rows, sums in {spent:.0f} s", flush=True
                    )
                    print_curve(problem, seed) if name == "curve" else print_small(problem)
                print(f"processor time {time.process_time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
