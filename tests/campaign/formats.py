"""Valid data of every format that the package reads, from which hostile inputs are made."""

from __future__ import annotations

import gzip
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from PIL import Image

from campaign import inputs


@dataclass(frozen=True)
class Format:
    """A format of data.

    Attributes
    ----------
    write : callable
        Writes a valid data set to a folder and returns its path.
    source : str
        Value of data.source.
    settings : tuple of str
        Further settings of [data].
    checked : bool
        Whether the format detects damage. If so, damaged data must not give other samples.
    text : bool
        Whether the format is text.
    run : str
        Name of the run whose model predicts such data; empty if there is none.
    lines : tuple of str
        Commands that read the file, with PATH for its path; default: ``init``, ``prepare`` and ``predict``.
    """

    write: Callable[[Path], Path]
    source: str
    settings: tuple[str, ...] = ()
    checked: bool = False
    text: bool = False
    run: str = ""
    lines: tuple[str, ...] = ()


TABLE = ("data.label_column=species", "data.id_column=id", "data.category_columns=['colour']", "data.balance=none")


def _csv(folder: Path) -> Path:
    inputs.write_table(folder)
    return folder / "mine.csv"


def _csv_gz(folder: Path) -> Path:
    path = folder / "mine.csv.gz"
    path.write_bytes(gzip.compress(_csv(folder).read_bytes()))
    return path


def _parquet(folder: Path) -> Path:
    path = folder / "mine.parquet"
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(_csv(folder)), path)
    return path


def _ts(folder: Path) -> Path:
    inputs.write_series(folder)
    return folder / "mine.ts"


def _tsv(folder: Path) -> Path:
    x, y = inputs.images()
    path = folder / "mine.tsv"
    rows = [
        "\t".join([str(label), *(f"{value:.2f}" for value in row)]) for row, label in zip(x[:, 0, :, 0], y, strict=True)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def _arff_table(folder: Path) -> Path:
    lines = _csv(folder).read_text().splitlines()[1:]
    head = ["@relation mine", *(f"@attribute {name} numeric" for name in ("width", "weight", "ratio", "noise"))]
    head += ["@attribute colour {red,green,blue}", f"@attribute species {{{','.join(inputs.CLASSES)}}}", "@data"]
    path = folder / "mine.arff"
    path.write_text("\n".join([*head, *(line.partition(",")[2] for line in lines)]) + "\n")
    return path


def _arff_series(folder: Path) -> Path:
    x, y = inputs.images()
    head = ["@relation waves", *(f"@attribute att{number} numeric" for number in range(8))]
    head += [f"@attribute target {{{','.join(inputs.CLASSES)}}}", "@data"]
    rows = [",".join([*map(str, row), inputs.CLASSES[label]]) for row, label in zip(x[:, 0, :, 0], y, strict=True)]
    path = folder / "waves.arff"
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


def _npz(folder: Path) -> Path:
    inputs.write_images(folder)
    return folder / "mine.npz"


def _npz_packed(folder: Path) -> Path:
    x, y = inputs.images()
    np.savez_compressed(folder / "packed.npz", x=x, y=y)
    return folder / "packed.npz"


def _npy(folder: Path) -> Path:
    path = folder / "arrays"
    path.mkdir()
    x, y = inputs.images()
    np.save(path / "x.npy", x)
    np.save(path / "y.npy", y)
    return path


def _hdf5(folder: Path) -> Path:
    x, y = inputs.images()
    with h5py.File(folder / "mine.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(16, 8, 8, 1), compression="gzip")
        file["y"] = y
    return folder / "mine.h5"


def _idx(folder: Path, pack: bool = False) -> Path:
    path = folder / "idx"
    path.mkdir()
    x, y = inputs.images()
    x = x[..., 0]
    parts = {"train-images-idx3-ubyte": x, "train-labels-idx1-ubyte": y.astype(np.uint8)}
    for name, values in parts.items():
        data = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
        (path / (f"{name}.gz" if pack else name)).write_bytes(gzip.compress(data) if pack else data)
    return path


def _cifar_batches() -> dict[str, bytes]:
    """Return the files of a tiny CIFAR-10 of six batches."""
    generator = np.random.default_rng(5)
    files = {"batches.meta": pickle.dumps({b"label_names": [b"c%d" % number for number in range(10)]}, 2)}
    for number in range(6):
        labels = [*range(10), *range(10)]
        content = {b"data": generator.integers(0, 256, (20, 3072), np.uint8), b"labels": labels}
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        files[name] = pickle.dumps(content, 2)
    return files


def _cifar(folder: Path) -> Path:
    path = folder / "cifar-10-batches-py"
    path.mkdir()
    for name, data in _cifar_batches().items():
        (path / name).write_bytes(data)
    return path


def _cifar_tar(folder: Path) -> Path:
    inner = _cifar(folder)
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(inner, inner.name)
    return path


def _image_folder(folder: Path) -> Path:
    path = folder / "photos"
    x, y = inputs.images()
    kinds = ("png", "jpg", "bmp", "gif", "tif", "pgm", "webp")
    for number in range(0, len(x), 3):
        home = path / inputs.CLASSES[y[number]]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[number, :, :, 0]).save(home / f"{number}.{kinds[number % len(kinds)]}")
    return path


def _png_folder(folder: Path) -> Path:
    path = folder / "png"
    x, y = inputs.images()
    for number in range(0, len(x), 3):
        home = path / inputs.CLASSES[y[number]]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[number, :, :, 0]).save(home / f"{number}.png")
    return path


def _series_folder(folder: Path) -> Path:
    path = folder / "waves"
    x, y = inputs.images()
    for number in range(0, len(x), 2):
        home = path / inputs.CLASSES[y[number]]
        home.mkdir(parents=True, exist_ok=True)
        if number % 4:
            np.save(home / f"{number}.npy", x[number, :, :, 0].astype(np.float32))
        else:
            np.savetxt(home / f"{number}.csv", x[number, :, :, 0], delimiter=",", fmt="%.1f")
    return path


def _config(folder: Path) -> Path:
    _csv(folder)
    path = folder / "mine.toml"
    path.write_text(inputs.table_section(folder) + inputs.RESERVOIR + inputs.SEARCH + inputs.TRAINING)
    return path


def _matrices(folder: Path) -> Path:
    inputs.write_matrices(folder / "own.npz")
    return folder / "own.npz"


def _model(folder: Path) -> Path:
    return Path(shutil.copy(folder.parent / "run" / "train" / "model.pt", folder / "foreign.pt"))


def _site(folder: Path) -> Path:
    return Path(shutil.copy(Path(__file__).parents[2] / "slurm" / "site.sh", folder / "site.sh"))


FORMATS: Mapping[str, Format] = {
    "csv": Format(_csv, "csv", TABLE, text=True, run="table"),
    "csv.gz": Format(_csv_gz, "csv", TABLE, checked=True, run="table"),
    "parquet": Format(_parquet, "parquet", TABLE, run="table"),
    "ts": Format(_ts, "ts", text=True, run="series"),
    "tsv": Format(_tsv, "ts", text=True),
    "arff table": Format(_arff_table, "arff", ("data.label_column=species", "data.balance=none"), text=True),
    "arff series": Format(_arff_series, "arff", text=True),
    "npz": Format(_npz, "npz", checked=True, run="images"),
    "packed npz": Format(_npz_packed, "npz", checked=True, run="images"),
    "npy": Format(_npy, "npy", run="images"),
    "hdf5": Format(_hdf5, "hdf5", run="images"),
    "idx": Format(_idx, "mnist"),
    "idx.gz": Format(lambda folder: _idx(folder, True), "mnist", checked=True),
    "cifar": Format(_cifar, "cifar10"),
    "cifar.tar.gz": Format(_cifar_tar, "cifar10", checked=True),
    "images": Format(_image_folder, "image_folder", run="images"),
    "png": Format(_png_folder, "image_folder", checked=True, run="images"),
    "series folder": Format(_series_folder, "series_folder"),
    "config": Format(
        _config,
        "",
        text=True,
        lines=("prepare PATH --out RUN", "config PATH", "plan PATH", "submit PATH --out RUN --dry-run"),
    ),
    "matrices": Format(
        _matrices,
        "",
        run="prepared",
        lines=("train DATA/table.toml --out RUN --set search.generations=0 --set reservoir.matrices=PATH",),
    ),
    "model file": Format(_model, "", run="table", lines=("predict PATH DATA/new.csv --to OUT.csv",)),
    "forged records": Format(
        lambda folder: folder.parent / "run",
        "",
        run="table",
        lines=("status RUN", "verify RUN", "evaluate --out RUN", "train --out RUN", "run --out RUN", "inspect RUN"),
    ),
    "site file": Format(_site, "", run="table", text=True, lines=("submit --out RUN --dry-run --site PATH",)),
}
