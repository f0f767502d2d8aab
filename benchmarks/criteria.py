"""By which criterion to choose on uneven data: the ridge penalty, the reservoir, and the epoch.

    python benchmarks/criteria.py SOURCES --results criteria.jsonl [--seeds 5] [--sets glass digits ...] [--epochs 80]

SOURCES is a folder with ``tables.tar.xz`` (NAME_train.csv, NAME_test.csv, label last) and ``series.tar.xz``
(NAME_TRAIN.ts, NAME_TEST.ts), ``japanese-vowels`` and ``mnist`` (IDX). Japanese Vowels, MNIST, and scikit-learn's
digits, wine and breast cancer are cut to an imbalance of 10. The seed chooses the split of a table, the cut, and the
reservoirs.

Every candidate reservoir is solved with every penalty; the scores of left-out training rows choose, and test rows are
evaluated. A network of one hidden layer is trained on the states of the first reservoir, and 20 % of the training rows
choose its epoch. Everything is chosen afterwards from the recorded scores, so that all criteria choose from the same
readouts. Results are appended to --results, and are not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import train_test_split
from torch.nn import functional

from rcdp_hpc.config import ReadoutSection, ReservoirSection, load_config
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.model.criteria import criterion
from rcdp_hpc.reservoir.left_out import left_out
from rcdp_hpc.reservoir.ridge import one_hot
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.search.evaluation.source import candidate_source

TABLES = ("glass", "winequality-red-4", "yeast", "page-blocks", "cleveland", "ecoli", "newthyroid")
SERIES = ("OSULeaf", "MedicalImages", "WordSynonyms", "DistalPhalanxTW", "ProximalPhalanxTW", "FacesUCR", "PLAID")
CUT = {"digits": load_digits, "wine": load_wine, "breast": load_breast_cancer}
ALL = (*TABLES, *SERIES, *CUT, "vowels", "mnist")
CRITERIA = ("accuracy", "balanced_accuracy", "macro_f1", "g_mean", "mcc")
CANDIDATES, NODES, MOST_ROWS = 8, 200, 2000
Result = dict[str, Any]


class Data(NamedTuple):
    """Samples (rows, steps, features) of both parts, with labels and lengths."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    lengths: NDArray[np.int64] | None = None
    lengths_test: NDArray[np.int64] | None = None


def read_table(folder: Path, name: str, seed: int) -> Data:
    """Return a table, both of its parts split again."""
    parts = [np.genfromtxt(path, delimiter=",", dtype=str)[1:] for path in sorted(folder.rglob(f"{name}_t*.csv"))]
    rows = np.concatenate(parts)
    return split(rows[:, :-1].astype(float), np.unique(rows[:, -1], return_inverse=True)[1], 0.3, seed)


def split(x: NDArray[Any], y: NDArray[np.int64], share: float, seed: int) -> Data:
    train, test = train_test_split(np.arange(len(y)), test_size=share, stratify=y, random_state=seed)
    return Data(x[train][:, None], y[train], x[test][:, None], y[test])


def cut(data: Data, seed: int, most: int = 300) -> Data:
    """Return the data with a training part of imbalance 10: rows fall by a constant factor from class to class."""
    counts, draw = np.bincount(data.y), np.random.default_rng(seed)
    first = min(most, int(counts[counts > 0].min()))
    kept = [round(first * 10 ** (-label / (len(counts) - 1))) for label in range(len(counts))]
    rows = [draw.permutation(np.flatnonzero(data.y == label))[: max(2, kept[label])] for label in range(len(counts))]
    chosen = np.sort(np.concatenate(rows))
    lengths = None if data.lengths is None else data.lengths[chosen]
    return data._replace(x=data.x[chosen], y=data.y[chosen], lengths=lengths)


def read_source(profile: str, *settings: str) -> Data:
    """Return the samples that settings of a profile read, at most 3000 of the test part."""
    source = open_source(load_config(profile, list(settings)).data, False)
    assert source.test is not None
    train, test = source.train, source.test
    x, x_test = np.asarray(train.x[:]), np.asarray(test.x[:3000])
    lengths = None if test.lengths is None else test.lengths[:3000]
    return Data(x, np.asarray(train.y), x_test, np.asarray(test.y)[:3000], train.lengths, lengths)


def read(name: str, sources: Path, folder: Path, seed: int) -> Data:
    """Return a data set; `folder` has the unpacked archives."""
    if name in TABLES:
        return read_table(folder, name, seed)
    if name in CUT:
        x, y = CUT[name](return_X_y=True)
        return cut(split(x, y, 0.4, seed), seed)
    if name == "mnist":
        images = cut(read_source("mnist", f"data.path={sources / 'mnist'}"), seed)
        return images._replace(x=images.x.reshape(-1, 28, 28), x_test=images.x_test.reshape(-1, 28, 28))
    if name == "vowels":
        parts = [sources / f"japanese-vowels/JapaneseVowels_{part}.ts" for part in ("TRAIN", "TEST")]
    else:
        parts = [next(folder.rglob(f"{name}_{part}.ts")) for part in ("TRAIN", "TEST")]
    series = read_source("series", f"data.path={parts[0]}", f"data.test_path={parts[1]}")
    return cut(series, seed) if name == "vowels" else series


def prepared(data: Data, seed: int) -> Data:
    """Return the data standardised by the training rows, which are at most MOST_ROWS."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(data.y))[:MOST_ROWS])
    values = data.x.reshape(-1, data.x.shape[-1])
    mean, deviation = values.mean(0), values.std(0) + 1e-9
    lengths = None if data.lengths is None else data.lengths[rows]
    x, x_test = ((part - mean) / deviation for part in (data.x[rows], data.x_test))
    return Data(x, data.y[rows], x_test, data.y_test, lengths, data.lengths_test)


def states_of(settings: ReservoirSection, data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    source = candidate_source(settings, data.x.shape[1:], "cpu", MatrixCache())

    def drive(x: NDArray[Any], lengths: NDArray[np.int64] | None) -> torch.Tensor:
        blocks = [slice(start, start + 256) for start in range(0, len(x), 256)]
        part = [source.drive(x[b].astype(np.float32), None if lengths is None else lengths[b].copy()) for b in blocks]
        return torch.cat(part).float()

    return drive(data.x, data.lengths), drive(data.x_test, data.lengths_test)


def reservoirs(seed: int, steps: int) -> Iterator[ReservoirSection]:
    """Yield the candidates; the first is the same for all seeds but for its random matrices."""
    draw, base = np.random.default_rng(seed), load_config("series").reservoir
    for number in range(CANDIDATES):
        drawn = {
            "spectral_radius": float(draw.uniform(0.1, 1.4)), "leak": float(draw.uniform(0.1, 1)),
            "input_scaling": float(np.exp(draw.uniform(np.log(0.03), np.log(3)))),
            "bias_scaling": float(np.exp(draw.uniform(np.log(0.05), 0))),
        }  # fmt: skip
        first = {"spectral_radius": 0.9, "leak": 0.5, "input_scaling": 0.5, "bias_scaling": 0.1}
        changes: dict[str, Any] = {**(first if number == 0 else drawn), "nodes": NODES, "seed": seed}
        if steps == 1:
            changes["leak"] = 1.0
        changes["reduction"] = ["states"] if steps == 1 else ["mean"]
        yield base.model_copy(update=changes)


def values_of(scores: NDArray[Any], labels: NDArray[np.int64], classes: int) -> dict[str, float]:
    """Return all criteria of scores; of labels, only classes with rows count."""
    names = list(map(str, range(classes)))
    return {name: criterion(name, names).value(labels, scores.argmax(1)) for name in CRITERIA}


def ridge_results(data: Data, seed: int, classes: int) -> Iterator[Result]:
    """Yield what every candidate, weighting and penalty gives on left-out and test rows."""
    counts = np.bincount(data.y, minlength=classes)
    for number, settings in enumerate(reservoirs(seed, data.x.shape[1])):
        train, test = states_of(settings, data)
        for weighting in ("none", "balanced"):
            weights = None if weighting == "none" else (len(data.y) / np.maximum(counts, 1))[data.y]
            for penalty in ReadoutSection().ridge_penalties:
                found = left_out(train, data.y, classes, [penalty], weights)
                error = float(np.mean((found.scores - one_hot(data.y, classes)) ** 2))
                chosen_by = {"error": -found.errors[penalty], "eq5": -error}
                yield {
                    "kind": "ridge", "weights": weighting, "candidate": number, "penalty": penalty,
                    "chosen_by": {**chosen_by, **values_of(found.scores, data.y, classes)},
                    "test": values_of(found.readout.predict(test), data.y_test, classes),
                }  # fmt: skip


def epoch_results(data: Data, seed: int, classes: int, epochs: int) -> Iterator[Result]:
    """Yield what every epoch of a network gives on validation and test rows."""
    states, test = states_of(next(reservoirs(seed, data.x.shape[1])), data)
    mean, deviation = states.mean(0), states.std(0) + 1e-6
    states, test = (states - mean) / deviation, (test - mean) / deviation
    stratify = data.y if np.bincount(data.y)[np.unique(data.y)].min() > 1 else None
    train, held_out = train_test_split(np.arange(len(data.y)), test_size=0.2, stratify=stratify, random_state=seed)
    labels, counts = torch.tensor(data.y), np.bincount(data.y[train], minlength=classes)
    for weighting in ("none", "balanced"):
        torch.manual_seed(seed)
        share = torch.tensor(len(train) / (classes * np.maximum(counts, 1)), dtype=torch.float32)
        weights = share if weighting == "balanced" else None
        network = torch.nn.Sequential(torch.nn.Linear(NODES, 64), torch.nn.ReLU(), torch.nn.Linear(64, classes))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for epoch in range(epochs):
            for batch in torch.tensor(train)[torch.randperm(len(train))].split(32):
                optimizer.zero_grad()
                functional.cross_entropy(network(states[batch]), labels[batch], weight=weights).backward()
                optimizer.step()
            with torch.no_grad():
                scores, answers = network(states[held_out]), network(test)
                loss = float(functional.cross_entropy(scores, labels[held_out], weight=weights))
            found = values_of(scores.numpy(), data.y[held_out], classes)
            yield {
                "kind": "epoch", "weights": weighting, "epoch": epoch, "chosen_by": {"error": -loss, **found},
                "test": values_of(answers.numpy(), data.y_test, classes),
            }  # fmt: skip


def chosen_penalty(rows: list[Result], by: str) -> Result:
    return max(rows, key=lambda one: (one["chosen_by"][by], one["chosen_by"]["error"], one["penalty"]))


def chosen_candidate(rows: list[Result], by: str) -> Result:
    """Return the candidate, each with the penalty of the least error."""
    numbers = sorted({one["candidate"] for one in rows})
    best = [chosen_penalty([one for one in rows if one["candidate"] == number], "error") for number in numbers]
    return max(best, key=lambda one: (one["chosen_by"]["eq5" if by == "error" else by], one["chosen_by"]["error"]))


def chosen_epoch(rows: list[Result], by: str, patience: int = 20) -> Result:
    """Return the epoch that ``training.criterion`` chooses, with ``training.patience``."""
    best, least, improved = rows[0], math.inf, 0
    for one in rows:
        keys = [(row["chosen_by"][by], row["chosen_by"]["error"]) for row in (one, best)]
        if keys[0] > keys[1] or -one["chosen_by"]["error"] < least:
            improved = one["epoch"]
        best = one if keys[0] > keys[1] else best
        least = min(least, -one["chosen_by"]["error"])
        if one["epoch"] - improved >= patience:
            break
    return best


CHOICES: dict[str, tuple[str, Callable[[list[Result], str], Result]]] = {
    "penalty": ("ridge", lambda rows, by: chosen_penalty([one for one in rows if one["candidate"] == 0], by)),
    "reservoir": ("ridge", chosen_candidate),
    "epoch": ("epoch", chosen_epoch),
}


def print_tables(results: list[Result]) -> None:
    """Print the mean over sets of what each criterion chooses, and how many sets are better or worse than by error."""
    for choice, (kind, choose) in CHOICES.items():
        for weighting in ("none", "balanced"):
            groups: dict[str, dict[int, list[Result]]] = {}
            for one in results:
                if (one["kind"], one["weights"]) == (kind, weighting):
                    groups.setdefault(one["set"], {}).setdefault(one["seed"], []).append(one)
            print(f"\n{choice}, class weights {weighting}\n\n| chosen by | balanced accuracy, % | macro F1, % | sets |")
            print("|---|---|---|---|")
            means = {by: set_means(groups, choose, by) for by in ("error", *CRITERIA)}
            for by, values in means.items():
                gains = [mine[0] - theirs[0] for mine, theirs in zip(values, means["error"], strict=True)]
                counts = f"{sum(gain > 0.05 for gain in gains)} better, {sum(gain < -0.05 for gain in gains)} worse"
                averages = " | ".join(f"{statistics.fmean(column):.1f}" for column in zip(*values, strict=True))
                print(f"| {by} | {averages} | {'' if by == 'error' else counts} |")


def set_means(
    groups: dict[str, dict[int, list[Result]]], choose: Callable[[list[Result], str], Result], by: str
) -> list[tuple[float, float]]:
    """Return balanced accuracy and macro F1 on the test rows of each set, in percent, as means over the seeds."""
    means = []
    for seeds in groups.values():
        tests = [choose(rows, by)["test"] for rows in seeds.values()]
        balanced = 100 * statistics.fmean(one["balanced_accuracy"] for one in tests)
        means.append((balanced, 100 * statistics.fmean(one["macro_f1"] for one in tests)))
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, help="folder of the data sets")
    parser.add_argument("--results", type=Path, default=Path("criteria.jsonl"), help="file that results are kept in")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--epochs", type=int, default=80)
    options = parser.parse_args()
    results = list(map(json.loads, options.results.read_text().splitlines())) if options.results.exists() else []
    measured = {(one["set"], one["seed"]) for one in results}
    with tempfile.TemporaryDirectory() as folder, limit_threads(1):
        for name in ("tables", "series"):
            with tarfile.open(options.sources / f"{name}.tar.xz") as archive:
                archive.extractall(folder, filter="data")
        for seed in range(1, options.seeds + 1):
            for name in options.sets:
                if (name, seed) in measured:
                    continue
                data = prepared(read(name, options.sources, Path(folder), seed), seed)
                classes = int(max(data.y.max(), data.y_test.max())) + 1
                found = [*ridge_results(data, seed, classes), *epoch_results(data, seed, classes, options.epochs)]
                found = [{"set": name, "seed": seed, **one} for one in found]
                with options.results.open("a") as file:
                    file.writelines(json.dumps(one) + "\n" for one in found)
                results += found
                print(f"{name}, seed {seed}: {len(found)} results", file=sys.stderr, flush=True)
    print_tables(results)


if __name__ == "__main__":
    main()
