"""Few labels: the readout of eq. 10 and 11 on reservoir states, compared with the same readout on the images.

    python benchmarks/few_labels.py FOLDER [--images 10,30,100,300] [--seeds 3] [--epochs 40] [--evaluate 3000]

FOLDER has MNIST's IDX files, or other files of that format. Each seed draws its rows from the training file: `images`
rows of each class for training, as many for the choice of the epoch, and other rows for evaluation. The test file is
not used. Both networks are trained for the same number of epochs; a ridge readout of the same features is shown for
comparison.
"""

from __future__ import annotations

import argparse
import logging
import resource
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import load_config
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.threads import limit_threads

CASES = {
    "readout alone": ["reservoir.kind=none", "reservoir.sequence=rows", "reservoir.states=1"],
    "reservoir + readout": ["reservoir.kind=random"],
}
COMMON = ["data.source=npz", "data.balance=none", "data.validation_fraction=0.5", "data.shards=1",
          "search.generations=0", "training.batch=32", "training.threads=1", "run.progress=false"]  # fmt: skip


def drawn(x: NDArray, y: NDArray, images: int, evaluated: int, path: Path, seed: int) -> None:
    """Write a file with 2 · `images` rows of each class, and `evaluated` other rows as the test part."""
    order = np.random.default_rng(seed).permutation(len(y))
    of_class = [order[y[order] == label] for label in np.unique(y)]
    train = np.concatenate([rows[: 2 * images] for rows in of_class])
    others = np.setdiff1d(order, train)[:: max(1, (len(order) - len(train)) // evaluated)][:evaluated]
    np.savez(path, x=x[train], y=y[train], x_test=x[others], y_test=y[others])


def accuracies(path: Path, changes: list[str], epochs: int, seed: int) -> tuple[float, float]:
    """Return the accuracy of the trained readout and of a ridge readout of the same features, both in percent."""
    changes = [*COMMON, *changes, f"data.path={path}", f"run.seed={seed}", f"reservoir.seed={seed}",
               f"training.epochs={epochs}", f"training.patience={epochs}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = run_stages(["prepare", "train", "evaluate"], load_config("mnist", changes), folder)["evaluate"]
    return 100 * found["accuracy"], 100 * found["ridge"]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", default="10,30,100,300")
    for name, default in (("seeds", 3), ("epochs", 40), ("evaluate", 3000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    logging.getLogger("rcdp_hpc").setLevel(logging.WARNING)
    source = open_source(load_config("mnist", [f"data.path={chosen.folder}"]).data, False)
    x, y = np.asarray(source.train.x), np.asarray(source.train.y)
    print(f"{chosen.seeds} seeds, {chosen.epochs} epochs, accuracy in % (standard deviation) and s of user time")
    print("| images a class | network | trained | ridge | user time |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, limit_threads(1):
        for images in map(int, chosen.images.split(",")):
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
            seconds = dict.fromkeys(CASES, 0.0)
            for seed in range(1, chosen.seeds + 1):
                path = Path(folder) / "few.npz"
                drawn(x, y, images, chosen.evaluate, path, seed)
                for name, changes in CASES.items():
                    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
                    found[name].append(accuracies(path, changes, chosen.epochs, seed))
                    seconds[name] += resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
            for name, values in found.items():
                mean, spread = np.mean(values, 0), np.std(values, 0, ddof=min(1, len(values) - 1))
                cells = [f"{m:.2f} ({s:.2f})" for m, s in zip(mean, spread, strict=True)]
                print(f"| {images} | {name} | {' | '.join(cells)} | {seconds[name]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
