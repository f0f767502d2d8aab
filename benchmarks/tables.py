"""Classification of uneven tables: the defaults of rcdp compared with classifiers of scikit-learn.

    python benchmarks/tables.py TABLES --results tables.jsonl [--seeds 3] [--methods rcdp trees]

TABLES is a folder with NAME_train.csv and NAME_test.csv, or a tar archive of them; the last column, "label", is the
class. The test rows are those of NAME_test.csv; the seed is that of the method's random numbers.

Methods: `rcdp` sets only the path and the seed; further words change settings ("rcdp
reservoir.nodes=200"). `trees` is HistGradientBoostingClassifier with its defaults, `trees-balanced` the same with
balanced class weights; `forest` is RandomForestClassifier with balanced class weights, `forest-smote` after
imbalanced-learn's SMOTE; `logistic` is LogisticRegression on standardised features with balanced class weights.

Each measurement is one process with one thread. Its CPU seconds include imports, reading, training and test; for rcdp
also the report and its comparison with boosted trees. Results are appended to --results and are not measured again
(--again METHOD repeats them).
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from series import run_limited

RIVALS = ("trees", "trees-balanced", "forest", "forest-smote", "logistic")
MEASURES = ("accuracy", "balanced", "macro_f1")
NEIGHBOURS = 5
Result = dict[str, Any]


def find_tables(path: Path, unpacked: Path) -> dict[str, Path]:
    """Return the training file of each table, by name."""
    if path.is_file():
        with tarfile.open(path) as archive:
            archive.extractall(unpacked, filter="data")
        path = unpacked
    found = {file.name.removesuffix("_train.csv"): file for file in sorted(path.rglob("*_train.csv"))}
    found = {name: file for name, file in found.items() if _test_of(file).exists()}
    if not found:
        raise SystemExit(f"no NAME_train.csv with NAME_test.csv in {path}")
    return found


def _test_of(train: Path) -> Path:
    return train.with_name(train.name.replace("_train.csv", "_test.csv"))


def run_rival(method: str, train: Path, seed: int) -> Result:
    """Train and test one of scikit-learn's classifiers."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

    (x, y), (x_test, y_test) = read_table(train), read_table(_test_of(train))
    # Labels as numbers: RandomForestClassifier has no balanced weights for several classes of text.
    classes = np.unique(np.concatenate([y, y_test]))
    y, y_test = np.searchsorted(classes, y), np.searchsorted(classes, y_test)
    predicted = rival(method, seed, y).fit(x, y).predict(x_test)
    return {
        "accuracy": accuracy_score(y_test, predicted),
        "balanced": balanced_accuracy_score(y_test, predicted),
        "macro_f1": f1_score(y_test, predicted, average="macro", zero_division=0),
    }


def read_table(path: Path) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return features (rows, columns) and labels of a table."""
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return np.array([[float(cell) for cell in row[:-1]] for row in rows]), np.array([row[-1] for row in rows])


def rival(method: str, seed: int, labels: NDArray[np.int64]) -> Any:
    """Return an unfitted classifier; the labels limit the number of neighbours of SMOTE."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if method == "trees":
        return HistGradientBoostingClassifier(random_state=seed)
    if method == "trees-balanced":
        return HistGradientBoostingClassifier(random_state=seed, class_weight="balanced")
    if method == "forest":
        return RandomForestClassifier(random_state=seed, class_weight="balanced")
    if method == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    from imblearn.over_sampling import SMOTE, RandomOverSampler
    from imblearn.pipeline import make_pipeline as make_balanced

    smallest = int(np.unique(labels, return_counts=True)[1].min())
    smote = SMOTE(k_neighbors=min(NEIGHBOURS, smallest - 1), random_state=seed) if smallest > 1 else None
    return make_balanced(smote or RandomOverSampler(random_state=seed), RandomForestClassifier(random_state=seed))


def measure(method: str, train: Path, seed: int, limit: int) -> Result:
    """Train and test a method on a table, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        if method in RIVALS:
            command = [sys.executable, __file__, str(train), "--rival", method, "--seeds", str(seed)]
        else:
            config = Path(scratch, "table.toml")
            config.write_text(
                f"[data]\nsource = 'csv'\npath = '{train.resolve()}'\ntest_path = '{_test_of(train).resolve()}'\n"
                f"label_column = 'label'\n\n[run]\nseed = {seed}\n"
            )
            settings = [f"reservoir.seed={seed}", *shlex.split(method)[1:]]
            flags = [word for setting in settings for word in ("--set", setting)]
            command = [sys.executable, "-m", "rcdp_hpc", "run", str(config), "--out", f"{scratch}/run", "--quiet"]
            command += flags
        code, seconds, output = run_limited(command, limit)
        if code:
            raise SystemExit(f"{method} on {train.name}, seed {seed}: exit code {code}\n{output[-2000:]}")
        found = json.loads(output.splitlines()[-1]) if method in RIVALS else _test(Path(scratch, "run"))
    return {**found, "cpu": seconds}


def _test(run: Path) -> Result:
    test = json.loads((run / "report/summary.json").read_text())["test"]
    recalls = [recall for recall in test["recall"] if recall is not None]
    return {"accuracy": test["accuracy"], "balanced": statistics.mean(recalls), "macro_f1": test["macro_f1"]}


def print_table(results: list[Result]) -> None:
    """Print means over seeds: a row for each table, a column for each method, and the means over the tables."""
    methods, tables = (list(dict.fromkeys(one[key] for one in results)) for key in ("method", "table"))

    def mean(method: str, key: str, table: str = "") -> float:
        return statistics.mean(
            one[key] for one in results if one["method"] == method and (not table or one["table"] == table)
        )

    def cells(table: str = "") -> str:
        return " | ".join(" / ".join(f"{100 * mean(one, key, table):.1f}" for key in MEASURES) for one in methods)

    print(f"| accuracy / balanced accuracy / macro F1, % | {' | '.join(methods)} |")
    print("|---" * (len(methods) + 1) + "|")
    for table in tables:
        print(f"| {table} | {cells(table)} |")
    print(f"| **mean** | {cells()} |")
    seconds = [f"{mean(one, 'cpu'):.1f}" for one in methods]
    print(f"| CPU seconds, mean | {' | '.join(seconds)} |")


def collect(tables: dict[str, Path], options: argparse.Namespace) -> list[Result]:
    """Return the results in the file, and measure the others."""
    path = Path(options.results)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = {(one["method"], one["table"], one["seed"]): one for one in lines if one["method"] not in options.again}
    results = []
    for method in options.methods:
        # The method draws no random numbers: one seed is enough.
        for seed in range(1, 2 if method == "logistic" else options.seeds + 1):
            for name, train in tables.items():
                found = kept.get((method, name, seed))
                if found is None:
                    found = {"method": method, "table": name, "seed": seed}
                    found |= measure(method, train, seed, options.limit)
                    with path.open("a") as file:
                        file.write(json.dumps(found) + "\n")
                    print(json.dumps(found), file=sys.stderr, flush=True)
                results.append(found)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("tables", type=Path, help="folder or tar archive of NAME_train.csv and NAME_test.csv")
    parser.add_argument("--results", default="tables.jsonl", help="file that measurements are kept in")
    parser.add_argument("--methods", nargs="+", default=["rcdp", *RIVALS])
    parser.add_argument("--again", nargs="+", default=[], metavar="METHOD", help="measure these again")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=3600, help="CPU seconds of one measurement")
    parser.add_argument("--rival", choices=RIVALS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rival:  # a process of one measurement; tables is the training file, and seeds the seed
        print(json.dumps(run_rival(options.rival, options.tables, options.seeds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print_table(collect(find_tables(options.tables, Path(folder)), options))


if __name__ == "__main__":
    main()
