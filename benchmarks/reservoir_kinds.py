"""Kinds of reservoirs on the same sets of series, with the same number of features, next to no reservoir.

    python benchmarks/reservoir_kinds.py SETS... --results kinds.jsonl [--seeds 1 2] [--nodes 300] [--kinds NAME...]

SETS are those of benchmarks/series.py. Every kind reads the same inputs: values, standardised by the training series,
and their first differences. The features are the mean, the standard deviation, the share above 0 and the maximum of
the states over the steps of a series, 4 features per node. The penalty of the ridge readout is the one with the least
left-out error. Accuracy is that on the test part of the sets. Kinds that the package does not have are in
benchmarks/reservoirs_tried.py.
Results are appended to --results, and measured once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reservoirs_tried import EdgeOfStability, Engine, Euler, Joined, Leaky, Residual, Ring, Without
from series import find_sets

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.reservoir.left_out import left_out

WITHOUT = ("random layer, no memory", "no reservoir")
PENALTIES = [10.0**power for power in range(-6, 4)]
ROWS = 512
Build = Callable[[int, int, int], Any]

KINDS: dict[str, Build] = {
    "no reservoir": lambda n, f, s: Without(f),
    "random layer, no memory": lambda n, f, s: Leaky(n, f, s, radius=0, leaks=(1.0, 1.0)),
    "leaky, leak 1": lambda n, f, s: Leaky(n, f, s, leaks=(1.0, 1.0)),
    "leaky, leak 0.3": lambda n, f, s: Leaky(n, f, s, leaks=(0.3, 0.3)),
    "leaky, leaks 0.02 to 1": lambda n, f, s: Leaky(n, f, s),
    "leaky, leaks 0.02 to 1, driven harder": lambda n, f, s: Leaky(n, f, s, radius=1.1, scaling=1.0, bias=0.5),
    "leaky without recurrence": lambda n, f, s: Leaky(n, f, s, radius=0),
    "leaky ring, leaks 0.02 to 1": lambda n, f, s: Ring(n, f, s),
    "ES2N": lambda n, f, s: EdgeOfStability(n, f, s),
    "ES2N, cyclic": lambda n, f, s: EdgeOfStability(n, f, s, cyclic=True),
    "Euler state network": lambda n, f, s: Euler(n, f, s),
    "Euler state network, damping 1": lambda n, f, s: Euler(n, f, s, damping=1.0, steps=(0.02, 1.0)),
    "residual, orthogonal": lambda n, f, s: Residual(n, f, s),
    "residual, cyclic": lambda n, f, s: Residual(n, f, s, cyclic=True),
    "deep residual, cyclic, 3 layers": lambda n, f, s: Joined(
        *(Residual(n // 3, f if not layer else n // 3, 10 * s + layer, cyclic=True) for layer in range(3)), stacked=True
    ),
    "deep leaky, 3 layers": lambda n, f, s: Joined(
        *(Leaky(n // 3, f if not layer else n // 3, 10 * s + layer) for layer in range(3)), stacked=True
    ),
    "diagonal": lambda n, f, s: Engine(n, f, s, kind="diagonal", bias_scaling=0.3),
    "diagonal, bias 1": lambda n, f, s: Engine(n, f, s, kind="diagonal", bias_scaling=1.0),
    "leaky and diagonal, half each": lambda n, f, s: Joined(
        Leaky(n // 2, f, s), Engine(n // 2, f, s, kind="diagonal", bias_scaling=0.3)
    ),
    "leaky and Euler, half each": lambda n, f, s: Joined(Leaky(n // 2, f, s), Euler(n // 2, f, s)),
    "model space of the leaky one": lambda n, f, s: Leaky(n, f, s),
    "model space, random axes": lambda n, f, s: Leaky(n, f, s),
    "leaky and its model space, half each": lambda n, f, s: Leaky(n, f, s),
}


@dataclass(frozen=True)
class Series:
    """Sequences of values and differences, training series first, padded with zeros to the longest."""

    u: NDArray[np.float32]
    lengths: NDArray[np.int64]
    y: NDArray[np.int64]
    training: int


def read(folder: Path, name: str) -> Series:
    data = DataSection(source="ts")
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("TRAIN", "TEST"):
            Path(scratch, f"{name}_{part}.ts").symlink_to((folder / f"{name}_{part}.ts").resolve())
        source = open_source(data.model_copy(update={"path": scratch}))
        assert source.test is not None
        x = np.concatenate([np.asarray(part.x[:], dtype=np.float64) for part in (source.train, source.test)])
    parts = (source.train, source.test)
    lengths = np.concatenate([np.full(len(p), x.shape[1]) if p.lengths is None else p.lengths for p in parts])
    inside, count = (np.arange(x.shape[1]) < lengths[:, None])[..., None], len(source.train)
    values = _standardised(x, inside, count)
    differences = _standardised(np.diff(values, axis=1, prepend=values[:, :1]), inside, count, centre=False)
    u = np.concatenate([values, differences], axis=2).astype(np.float32)
    return Series(u, lengths, np.concatenate([p.y for p in parts]), count)


def _standardised(x: NDArray[Any], inside: NDArray[Any], count: int, centre: bool = True) -> NDArray[Any]:
    fitted = x[:count][inside[:count, :, 0]]
    mean, deviation = fitted.mean(0) * centre, fitted.std(0)
    return np.asarray((x - mean) / np.where(deviation > 0, deviation, 1) * inside)


@torch.no_grad()
def features(reservoir: Any, series: Series) -> torch.Tensor:
    """Return mean, standard deviation, share above 0 and maximum of every node, shape (series, 4 · nodes)."""
    order = np.argsort(-series.lengths, kind="stable")
    out = torch.empty(len(order), 4 * reservoir.nodes)
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        out[rows] = _block(reservoir, torch.from_numpy(series.u[rows]), torch.from_numpy(series.lengths[rows]))
    return out


def _block(reservoir: Any, u: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    reservoir.begin(len(u))
    total, squares, above = (torch.zeros(len(u), reservoir.nodes) for _ in range(3))
    largest = torch.full_like(total, -torch.inf)
    for step in range(int(lengths[0])):
        running = int((lengths > step).sum())
        state = reservoir.step(u[:running, step])[:running]
        total[:running] += state
        squares[:running].addcmul_(state, state)
        above[:running] += state > 0
        torch.maximum(largest[:running], state, out=largest[:running])
    mean = total / lengths[:, None]
    deviation = (squares / lengths[:, None] - mean.square()).clamp_min(0).sqrt()
    return torch.cat([mean, deviation, above / lengths[:, None], largest], dim=1)


@torch.no_grad()
def model_space(reservoir: Any, series: Series, count: int, principal: bool = True) -> torch.Tensor:
    """Return the weights of a ridge regression of each series from one state to the next (arXiv 1803.07870).

    The states are reduced to principal components, or random projections, so that there are about `count` weights.
    """
    u = torch.from_numpy(series.u)
    reservoir.begin(len(u))
    states = torch.stack([reservoir.step(u[:, step]).clone() for step in range(u.shape[1])], dim=1)
    lengths = series.lengths.tolist()
    fitted = torch.cat([states[row, : lengths[row]] for row in range(series.training)])
    mean = fitted.mean(0)
    axes = torch.linalg.eigh(((fitted - mean).T @ (fitted - mean)).double())[1].flip(1).float()
    if not principal:
        axes = torch.randn(axes.shape, generator=torch.Generator().manual_seed(1)) / len(axes) ** 0.5
    components = round(count**0.5 - 0.5)
    weights = []
    for row, length in enumerate(lengths):
        reduced = (states[row, :length] - mean) @ axes[:, :components]
        earlier = torch.cat([reduced[:-1], torch.ones(length - 1, 1)], dim=1).double()
        gram = earlier.T @ earlier + torch.eye(components + 1)
        weights.append(torch.linalg.solve(gram, earlier.T @ reduced[1:].double()).flatten().float())
    return torch.stack(weights)


def measure(kind: str, series: Series, nodes: int, seed: int) -> dict[str, float]:
    started = time.process_time()
    reservoir = KINDS[kind](nodes, series.u.shape[2], seed)
    if "model space" not in kind:
        rows = features(reservoir, series)
    elif kind.startswith("model space"):
        rows = model_space(reservoir, series, 4 * nodes, principal="random" not in kind)
    else:
        halves = features(reservoir, series).view(-1, 4, nodes)[:, :, : nodes // 2].flatten(1)
        rows = torch.cat([halves, model_space(reservoir, series, 2 * nodes)], dim=1)
    seconds = time.process_time() - started
    fitted, y = series.training, series.y
    best = left_out(rows[:fitted], y[:fitted], int(y.max()) + 1, PENALTIES)
    scores = best.readout.predict(rows[fitted:])
    accuracy = float(np.mean(scores.argmax(1) == y[fitted:]))
    return {"accuracy": accuracy, "left_out": best.accuracy, "cpu": seconds, "features": rows.shape[1]}


def table(results: list[dict[str, Any]]) -> str:
    """Return a table of the kinds, best first: mean accuracy, sets with a gain, CPU seconds of the states."""
    means: dict[str, dict[str, tuple[float, float]]] = {}
    for kind, name in {(one["kind"], one["set"]) for one in results}:
        same = [one for one in results if (one["kind"], one["set"]) == (kind, name)]
        pair = tuple(statistics.mean(one[key] for one in same) for key in ("accuracy", "cpu"))
        means.setdefault(kind, {})[name] = (pair[0], pair[1])
    common = sorted(set.intersection(*(set(sets) for sets in means.values())))
    base = means.get("no reservoir", {})
    lines = [f"{len(common)} sets: {', '.join(common)}", ""]
    lines += ["| kind | accuracy % | better than no reservoir on | CPU s |", "|---|---|---|---|"]
    order = sorted(means, key=lambda kind: -statistics.mean(means[kind][name][0] for name in common))
    for kind in order:
        accuracy = 100 * statistics.mean(means[kind][name][0] for name in common)
        better = sum(means[kind][name][0] > base[name][0] for name in common) if base else 0
        seconds = sum(means[kind][name][1] for name in common)
        lines.append(f"| {kind} | {accuracy:.1f} | {better} of {len(common)} | {seconds:.1f} |")
    chosen = [*[kind for kind in order if kind != "no reservoir"][:1], "leaky, leaks 0.02 to 1", *WITHOUT]
    chosen = [kind for kind in dict.fromkeys(chosen) if kind in means]
    lines += ["", f"| set | {' | '.join(chosen)} |", "|---|" + "---|" * len(chosen)]
    for name in common:
        lines.append(f"| {name} | {' | '.join(f'{100 * means[kind][name][0]:.1f}' for kind in chosen)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="NAME")
    parser.add_argument("--only", nargs="+", default=[], metavar="SET")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    results = [json.loads(line) for line in lines]
    done = {(one["set"], one["kind"], one["seed"], one["nodes"]) for one in results}
    with tempfile.TemporaryDirectory() as unpacked:
        for name, folder in find_sets(options.sets, Path(unpacked)).items():
            if options.only and name not in options.only:
                continue
            series = read(folder, name)
            for seed in options.seeds:
                for kind in options.kinds:
                    if (name, kind, seed, options.nodes) in done:
                        continue
                    one = {"set": name, "kind": kind, "seed": seed, "nodes": options.nodes}
                    results.append({**one, **measure(kind, series, options.nodes, seed)})
                    with options.results.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
    print(table([one for one in results if one["nodes"] == options.nodes]))


if __name__ == "__main__":
    main()
