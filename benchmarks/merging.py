"""Processor seconds and bits of merging, updating and forgetting, next to the training that they replace.

    python benchmarks/merging.py --mnist FOLDER [--nodes 400]
    python benchmarks/merging.py --quick

The training samples of MNIST (with --quick those of the digits) are divided into ten units. Ridge readouts that keep
their sums are trained on all units, on each half, and on nine of them. The table compares the merged halves, the nine
units updated by the tenth, and all units without the tenth with preparation and training on the union or the rest:
seconds of one thread, size of the sums, and whether all weights have the same bits. A shard is left out by
readout.without_units.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from rcdp_hpc.config import DataSection, load_config
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.deploy.sums.merge import forget_units, merge_models
from rcdp_hpc.deploy.sums.update import update_model
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.comm.single import SingleProcess

UNITS = 10
SETTINGS = (
    "data.source=npz", "data.kind=images", "data.balance=none", "extractor.kind=none", "readout.kind=ridge",
    "reservoir.sequence=rows", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=512", "search.generations=0",
    "training.threads=1", "run.progress=false",
)  # fmt: skip
Arrays = dict[str, NDArray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--mnist", type=Path, metavar="FOLDER", help="the four files of MNIST")
    data.add_argument("--quick", action="store_true", help="the digits of scikit-learn")
    parser.add_argument("--nodes", type=int, default=400)
    chosen = parser.parse_args()
    nodes = 60 if chosen.quick else chosen.nodes
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), digits() if chosen.quick else mnist(chosen.mnist), nodes)


def digits() -> tuple[Arrays, Arrays]:
    """Return training and test samples."""
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8).astype(np.float32) / 16
    return {"x": x[:1500], "y": y[:1500]}, {"x": x[1500:], "y": y[1500:]}


def mnist(folder: Path) -> tuple[Arrays, Arrays]:
    """Return training and test samples."""
    source = open_source(DataSection(source="mnist", path=str(folder)))
    assert source.test is not None
    train, test = ({"x": part.x[: len(part)], "y": part.y} for part in (source.train, source.test))
    return train, test


def compare(folder: Path, data: tuple[Arrays, Arrays], nodes: int) -> None:
    """Train, merge, update and forget, and print the table."""
    train, test = data
    count = len(train["y"])
    unit = np.arange(count) * UNITS // count
    train["ids"] = np.array([f"part{one}-{row}" for row, one in enumerate(unit.tolist())])
    settings = [*SETTINGS, f"reservoir.nodes={nodes}"]
    by_part = [*settings, "readout.keep_sums=true", "data.unit_pattern=^part[0-9]+"]
    seconds = {"all": 0.0}
    for name, rows in (("all", unit >= 0), ("first", unit < 5), ("second", unit >= 5), ("nine", unit < 9)):
        save(folder / f"{name}.npz", train, rows, test)
        seconds[name] = timed(lambda name=name: training(folder / name, folder / f"{name}.npz", by_part))
    save(folder / "tenth.npz", train, unit == 9)
    shard = "train-00003-of-00016.h5"
    plain = timed(lambda: training(folder / "plain", folder / "all.npz", settings))
    shards = [*settings, "readout.keep_sums=true"]
    training(folder / "shards", folder / "all.npz", shards)
    rest = timed(lambda: training(folder / "rest", folder / "all.npz", [*shards, f"readout.without_units=['{shard}']"]))
    print(f"{count} training samples, {nodes} nodes: {plain:.2f} s without sums, {seconds['all']:.2f} s with sums")
    print(f"{'':<26}{'seconds':>9}{'training':>10}{'sums, MiB':>11}  bits")
    halves, nine = [folder / "first", folder / "second"], folder / "nine"
    single = SingleProcess()
    for name, work, expected, retrained in (
        ("merge of two halves", lambda to: merge_models(halves, to), "all", seconds["all"]),
        ("update by a tenth", lambda to: update_model(nine, folder / "tenth.npz", to, single), "all", seconds["all"]),
        ("forget a tenth", lambda to: forget_units(folder / "all", ["part9"], to), "nine", seconds["nine"]),
        ("forget a shard", lambda to: forget_units(folder / "shards", [shard], to), "rest", rest),
    ):
        to = folder / f"{name}.pt"
        spent = timed(lambda work=work, to=to: work(to))
        size = to.with_name(f"{to.stem}.sums.npz").stat().st_size / 2**20
        same = weights(to) == weights(folder / expected / "train/model.pt")
        print(f"{name:<26}{spent:>9.2f}{retrained:>10.2f}{size:>11.1f}  {'equal' if same else 'DIFFERENT'}", flush=True)


def save(path: Path, train: Arrays, rows: NDArray[np.bool_], test: Arrays | None = None) -> None:
    """Write some training samples, and the test samples if there are any."""
    others = {f"{name}_test": values for name, values in (test or {}).items()}
    np.savez(path, **{name: values[rows] for name, values in train.items()}, **others)


def training(out: Path, path: Path, settings: list[str]) -> None:
    """Prepare, then train."""
    run_stages(["prepare", "train"], load_config("image", [*settings, f"data.path={path}"]), out)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of processor time of a call, which other work on the machine hardly changes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def weights(model: Path) -> list[bytes]:
    """Return the bits of the weights of a model."""
    return [value.numpy().tobytes() for value in torch.load(model, weights_only=True)["weights"].values()]


if __name__ == "__main__":
    main()
