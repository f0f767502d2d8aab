"""Uneven data sets as .npz files: sets that are uneven by themselves, and even ones that are cut to be uneven.

    python benchmarks/uneven_data.py SET PATH --out FOLDER [--seeds 1 2 3] [--imbalance 10] [--rows 0] [--test-rows 0]

| SET | PATH | |
|---|---|---|
| plaid | sktime's wheel | series of unequal length, 11 classes, uneven by itself |
| osuleaf | sktime's or aeon's wheel | series of 427 steps, 6 classes, uneven by itself |
| vowels | the wheel of either, or the folder of the .ts files | Japanese Vowels, cut to an imbalance of 10 |
| cifar10 | cifar-10-python.tar.gz or its folder | CIFAR-10-LT, cut to an imbalance of 100 |
| mnist | folder of the four IDX files | cut to an imbalance of 10 |

A wheel is a zip archive that holds the files, and nothing of it is installed: pip download sktime --no-deps -d WHEELS.
A tar archive or a folder with NAME_TRAIN.ts and NAME_TEST.ts is read as well.

Training and test rows are the official ones. Of K classes, class i keeps n_max * mu**i training rows with
mu = imbalance**(-1 / (K - 1)), as in CIFAR-10-LT (Cao et al. 2019, section 4.1), where n_max is the size of the
smallest class, or what makes --rows rows in all. A seed draws the rows, and gives a file. Test rows are never cut
unevenly: --test-rows draws the same number of each class.

The file has x, y, x_test and y_test, and lengths and lengths_test if series differ in length. Use it with
data.source = "npz".
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import Part, Source, open_source

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class DataSet:
    """A set: how the package reads it, the name of its .ts files, and the imbalance that it is cut to (0: as it is)."""

    source: str
    series: str = ""
    imbalance: float = 0


SETS = {
    "plaid": DataSet("ts", "PLAID"),
    "osuleaf": DataSet("ts", "OSULeaf"),
    "vowels": DataSet("ts", "JapaneseVowels", 10),
    "cifar10": DataSet("cifar10", imbalance=100),
    "mnist": DataSet("mnist", imbalance=10),
}


def read(chosen: DataSet, path: Path) -> Source:
    """Read a set by the package's own reader; of a wheel or an archive, only the two files of the set are unpacked."""
    with tempfile.TemporaryDirectory() as unpacked:
        if chosen.series and path.is_file():
            unpack(path, chosen.series, Path(unpacked))
            path = Path(unpacked)
        source = open_source(DataSection(source=chosen.source, path=str(path)))
        # The samples of small sets are in memory; those of large ones must be before the folder is gone.
        return replace(source, train=held(source.train), test=None if source.test is None else held(source.test))


def write(
    name: str, source: Source, file: Path, seed: int, imbalance: float, rows: int = 0, test_rows: int = 0
) -> None:
    """Write a source that `read` returned as .npz; parameters as on the command line."""
    train, test = source.train, source.test
    if test is None:
        raise SystemExit(f"{name}: no test part")
    counts, generator = np.bincount(train.y), np.random.default_rng(seed)
    wanted = profile(counts, imbalance, rows) if imbalance else scaled(counts, rows)
    each = [test_rows // len(counts)] * len(counts) if test_rows else np.bincount(test.y, minlength=len(counts))
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **taken(source, train, wanted, generator), **taken(source, test, each, generator, "_test"))


def held(part: Part) -> Part:
    return replace(part, x=np.asarray(part.x[:]))


def unpack(archive: Path, series: str, folder: Path) -> None:
    """Write NAME_TRAIN.ts and NAME_TEST.ts of a wheel or a tar archive to a folder."""
    names = [f"{series}_{part}.ts" for part in ("TRAIN", "TEST")]
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            found = {Path(member).name: wheel.read(member) for member in wheel.namelist() if Path(member).name in names}
    else:
        with tarfile.open(archive) as tar:
            wanted = (member for member in tar if member.isfile() and Path(member.name).name in names)
            found = {Path(member.name).name: file.read() for member in wanted if (file := tar.extractfile(member))}
    if len(found) < len(names):
        raise SystemExit(f"{archive}: no {' and '.join(names)}; see the list of sets in --help")
    for name, content in found.items():
        (folder / name).write_bytes(content)


def profile(counts: NDArray[np.int64], imbalance: float, rows: int = 0) -> list[int]:
    """Return the rows of each class in an exponential profile, from the first class, the largest, to the last.

    Examples
    --------
    >>> profile(np.full(10, 5000), 100)
    [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    shares = imbalance ** (-np.arange(len(counts)) / (len(counts) - 1))
    most = min(counts.min(), rows / shares.sum()) if rows else counts.min()
    return [max(1, int(most * share + 1e-9)) for share in shares]


def scaled(counts: NDArray[np.int64], rows: int) -> list[int]:
    """Return the rows of each class in the proportions of the set; 0 rows: all."""
    share = min(1.0, rows / counts.sum()) if rows else 1.0
    return [max(1, int(count * share)) for count in counts]


def taken(
    source: Source, part: Part, counts: list[int] | Rows, generator: np.random.Generator, suffix: str = ""
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of some rows of each class, drawn at random, in the order of the set."""
    drawn = [generator.permutation(np.flatnonzero(part.y == label))[:count] for label, count in enumerate(counts)]
    rows = np.sort(np.concatenate(drawn))
    arrays = {f"x{suffix}": part.x[rows], f"y{suffix}": np.array(source.classes)[part.y[rows]]}
    if part.lengths is not None:
        arrays[f"lengths{suffix}"] = part.lengths[rows]
    return arrays


def described(file: Path) -> str:
    """Return the shapes and the rows of each class of a file."""
    with np.load(file) as arrays:
        lines = [f"{file}: x {arrays['x'].shape}, x_test {arrays['x_test'].shape}"]
        for key in ("y", "y_test"):
            names, counts = np.unique(arrays[key], return_counts=True)
            listed = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
            lines.append(f"  {key}: {listed} (largest over smallest {counts.max() / counts.min():.3g})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("path", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--imbalance", type=float, help="largest class over the smallest; 0: not cut; default: by set")
    parser.add_argument("--rows", type=int, default=0, help="training rows in all, about; 0: as many as there are")
    parser.add_argument("--test-rows", type=int, default=0, help="test rows in all, even over the classes; 0: all")
    chosen = parser.parse_args()
    data_set = SETS[chosen.set]
    imbalance = data_set.imbalance if chosen.imbalance is None else chosen.imbalance
    source = read(data_set, chosen.path)
    for seed in chosen.seeds:
        file = chosen.out / f"{chosen.set}-{imbalance:g}-{seed}.npz"
        write(chosen.set, source, file, seed, imbalance, chosen.rows, chosen.test_rows)
        print(described(file), flush=True)


if __name__ == "__main__":
    main()
