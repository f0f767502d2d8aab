"""IDX files, the format of MNIST, Fashion-MNIST, EMNIST, KMNIST and others, plain or gzipped.

The format (http://yann.lecun.com/exdb/mnist): two zero bytes, a byte for the number type, a byte for the number of
dimensions, the length of each dimension as a big-endian 32-bit integer, then the numbers, big-endian.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import SAMPLE_BYTES, SHARD_ROW_BYTES, Budget, refuse_bomb
from rcdp_hpc.data.sources.base import BLOCK_BYTES, NewSamples, Part, Samples, Source, default_scale
from rcdp_hpc.data.sources.declared import SAMPLE_COPIES_BYTES
from rcdp_hpc.data.sources.folders import holds_file
from rcdp_hpc.data.sources.labels import encode_labels
from rcdp_hpc.data.sources.reader import FixedFilesReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.rows import Spool, mapped
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.os_errors import unreadable_error

UNSIGNED_BYTE = 0x08
PART_WORDS = {"train": ("train",), "test": ("t10k", "test")}


class IdxReader(FixedFilesReader):
    """Images and labels in IDX files: MNIST and the data sets in its format."""

    file_formats = ("idx",)

    def read(self, request: SourceRequest) -> Source:
        """Read a folder of IDX files: training images and labels, and test images and labels if they are there.

        Parameters
        ----------
        request : SourceRequest
            Its path is a folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and, for the test, the
            same names with ``t10k``, each with or without ``.gz``. Other names with the same words are accepted
            (EMNIST). Images beyond the memory budget are mapped from a plain file, and unpacked from a .gz file to a
            temporary file.

        Raises
        ------
        InputError
            If a file is missing, ambiguous or damaged, or images and labels do not match.
        """
        folder, budget = request.path, request.budget
        if not folder.is_dir():
            what = "not a folder" if folder.exists() else "no such folder"
            raise InputError(f"data.path = {folder}: {what}; data.source = 'mnist' needs the folder of the IDX files.")
        train_x, train_y = _read_pair(folder, "train", budget)
        has_test = bool(_matches(folder, "test", "images") or _matches(folder, "test", "labels"))
        test_x, test_y = _read_pair(folder, "test", budget) if has_test else (None, None)
        if test_x is not None and test_x.shape[1:] != train_x.shape[1:]:
            raise InputError(
                f"{folder}: test images of {_times(test_x.shape[1:])} do not match training images of "
                f"{_times(train_x.shape[1:])}."
            )
        classes, train_labels, test_labels = encode_labels(train_y, test_y, f"{folder}, test labels")
        test = None if test_x is None or test_labels is None else Part(test_x, test_labels)
        return Source(
            name="mnist",
            classes=classes,
            train=Part(train_x, train_labels),
            test=test,
            scale=default_scale(train_x.dtype),
            description=f"IDX images of {_times(train_x.shape[1:])}: {train_x.shape[0]} training, "
            f"{len(test or ())} test",
        )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the folder has IDX files."""
        return path.is_dir() and holds_file(path, "-ubyte", "-ubyte.gz")


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the images of a file; errors as in `read_images`."""
    return NewSamples(read_images(request.path, request.budget))


def read_images(path: Path, budget: Budget) -> Samples:
    """Read a file of IDX images.

    Returns
    -------
    Samples of uint8, shape (N, height, width)
        With more dimensions if the file has them.

    Raises
    ------
    InputError
        If the file is missing, cut short, empty or does not hold images.
    """
    with _opened(path) as file:
        images = read_idx(file, path, budget.source, not isinstance(file, gzip.GzipFile), budget)
    if len(images.shape) < 3:
        raise InputError(_wrong_magic(path, len(images.shape), "0x00000803 (images)"))
    if math.prod(images.shape) == 0:
        raise InputError(f"{path}: holds no images (shape {_times(images.shape)}).")
    return images


def read_labels(path: Path, budget: Budget | None = None) -> NDArray[np.uint8]:
    """Read a file of IDX labels, shape (N,); errors as in `read_images`."""
    with _opened(path) as file:
        labels = read_idx(file, path, budget=budget)
    if len(labels.shape) != 1:
        raise InputError(_wrong_magic(path, len(labels.shape), "0x00000801 (labels)"))
    return labels[:]  # type: ignore[no-any-return]


def read_idx(
    file: BinaryIO, path: Path, room: int = 2**62, may_map: bool = False, budget: Budget | None = None
) -> Samples:
    """Read the content of an IDX file of unsigned bytes.

    Parameters
    ----------
    file : binary file
        Open file, at its beginning.
    path : Path
        Name for messages, and the file to map.
    room : int
        Bytes that may be held in memory. A larger file is mapped, or decompressed to a temporary file.
    may_map : bool
        Whether `path` is not compressed, so that it can be mapped.
    budget : Budget, optional
        Limits the memory of labels and indices.

    Raises
    ------
    InputError
        If the magic number is wrong, or the length does not match the header.
    """
    shape = _read_shape(file, path)
    header, size = 4 + 4 * len(shape), math.prod(shape)
    if budget is not None:
        _refuse_impossible(path, shape, isinstance(file, gzip.GzipFile))
        budget.refuse_rows(path, shape[0], SAMPLE_BYTES + SHARD_ROW_BYTES)
        what = f"{path}: a row has shape {_times(shape[1:]) or 1}"
        budget.refuse_work(what, SAMPLE_COPIES_BYTES * math.prod(shape[1:]), "make samples smaller")
    if may_map and size > room:
        _refuse_length(path, shape, path.stat().st_size)
        return mapped(path, np.dtype(np.uint8), shape, header)
    row = max(1, math.prod(shape[1:]))
    spool = Spool(shape[1:], np.dtype(np.uint8), room)
    count, rest = 0, b""
    while data := file.read(BLOCK_BYTES):
        rest += data[: max(0, size - count)]
        count += len(data)
        if count > size:
            # The rest may be arbitrarily long.
            break
        if whole := len(rest) // row * row:
            spool.add(np.frombuffer(rest, np.uint8, whole))
            rest = rest[whole:]
    _refuse_length(path, shape, header + count)
    return spool.finish() if size else np.empty(shape, np.uint8)


def _read_shape(file: BinaryIO, path: Path) -> tuple[int, ...]:
    """Read the header, and return the shape that it declares."""
    magic = file.read(4)
    if len(magic) < 4:
        raise InputError(f"{path}: cut short: {len(magic)} bytes found, an IDX file has a header of at least 8.")
    zero, kind, dimensions = struct.unpack(">HBB", magic)
    if zero != 0 or kind != UNSIGNED_BYTE or dimensions == 0:
        raise InputError(
            f"{path}: wrong magic number 0x{magic.hex()}, expected 0x000008nn (unsigned bytes in nn dimensions)."
        )
    lengths = file.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise InputError(f"{path}: cut short: {4 + len(lengths)} bytes found, its header has {4 + 4 * dimensions}.")
    return struct.unpack(f">{dimensions}I", lengths)


def _refuse_length(path: Path, shape: tuple[int, ...], present: int) -> None:
    expected = 4 + 4 * len(shape) + math.prod(shape)
    if present != expected:
        what = "cut short" if present < expected else "longer than its header declares"
        more = " or more" if present > expected else ""
        raise InputError(f"{path}: {what}: {expected} bytes expected for shape {_times(shape)}, {present} found{more}.")


def _refuse_impossible(path: Path, shape: tuple[int, ...], packed: bool) -> None:
    """Raise an `InputError` if a file is too short for the bytes that its header declares, before they are read."""
    expected, present = 4 + 4 * len(shape) + math.prod(shape), path.stat().st_size
    if packed:
        refuse_bomb(f"{path}: shape {_times(shape)}", expected, present)
    elif present < expected:
        _refuse_length(path, shape, present)


def _is_packed(path: Path) -> bool:
    """Return whether a file is compressed by gzip, by its name or its first bytes."""
    if path.suffix.lower() == ".gz":
        return True
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed if gzip compressed it; errors while it is read become an `InputError`."""
    try:
        with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except gzip.BadGzipFile:
        raise InputError(f"{path}: not a gzip file, though its name ends in .gz.") from None
    except (EOFError, zlib.error):
        raise InputError(f"{path}: cut short or damaged: it cannot be unpacked to its end. Fetch it again.") from None
    except OSError as error:
        raise unreadable_error(error, path) from None


def _read_pair(folder: Path, part: str, budget: Budget) -> tuple[Samples, NDArray[np.uint8]]:
    images_path, labels_path = _find(folder, part, "images"), _find(folder, part, "labels")
    images = read_images(images_path, budget)
    with _opened(labels_path) as file:
        labels_shape = _read_shape(file, labels_path)
    count, label_count = images.shape[0], labels_shape[0]
    if len(labels_shape) == 1 and count != label_count:
        fewer = "fewer labels than images" if label_count < count else "more labels than images"
        raise InputError(f"{labels_path}: {fewer}: {label_count} labels, {count} images in {images_path.name}.")
    return images, read_labels(labels_path, budget)


def _find(folder: Path, part: str, kind: str) -> Path:
    files = _matches(folder, part, kind)
    if not files:
        usual = f"{PART_WORDS[part][0]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        raise InputError(f"{folder}: no file of {part} {kind} there; expected {usual} or {usual}.gz.")
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise InputError(f"{folder}: several files of {part} {kind} ({names}). Give each data set a folder of its own.")
    return files[0]


def _matches(folder: Path, part: str, kind: str) -> list[Path]:
    """Return the files of a part and kind; a plain file has precedence over its .gz."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    matching = [
        name for name in names if "idx" in name and kind in name and any(word in name for word in PART_WORDS[part])
    ]
    return [folder / name for name in matching if not (name.endswith(".gz") and name[:-3] in matching)]


def _wrong_magic(path: Path, dimensions: int, expected: str) -> str:
    return f"{path}: wrong magic number 0x000008{dimensions:02x}, expected {expected}."


def _times(shape: tuple[Any, ...]) -> str:
    return "x".join(str(length) for length in shape)
