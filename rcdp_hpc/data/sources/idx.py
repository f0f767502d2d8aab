"""IDX files, the format of MNIST, Fashion-MNIST, EMNIST, KMNIST and others, plain or gzipped.

The format (http://yann.lecun.com/exdb/mnist): two zero bytes, a byte for the number type, a byte for the
number of dimensions, each dimension's length as a big-endian 32-bit number, then the numbers, big-endian.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Part, Source, default_scale
from rcdp_hpc.data.sources.labels import encode_labels
from rcdp_hpc.errors import InputError

UNSIGNED_BYTE = 0x08
PART_WORDS = {"train": ("train",), "test": ("t10k", "test")}


def read_source(folder: Path) -> Source:
    """Read a folder of IDX files: training images and labels, and test ones where it has them.

    Parameters
    ----------
    folder : Path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with ``t10k``, each with
        or without ``.gz``; names that contain the same words are taken too (EMNIST's, for instance).

    Raises
    ------
    InputError
        If a file is missing, ambiguous or damaged, or images and labels do not match.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"data.path = {folder}: {what}; data.source = 'mnist' needs the folder of the IDX files.")
    train_x, train_y = _read_pair(folder, "train")
    has_test = bool(_matches(folder, "test", "images") or _matches(folder, "test", "labels"))
    test_x, test_y = _read_pair(folder, "test") if has_test else (None, None)
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
        description=f"IDX images of {_times(train_x.shape[1:])}: {len(train_x)} training, {len(test or ())} test",
    )


def read_images(path: Path) -> NDArray[np.uint8]:
    """Read a file of IDX images.

    Returns
    -------
    ndarray of uint8, shape (N, height, width)
        More dimensions where the file has them.

    Raises
    ------
    InputError
        If the file is missing, cut short, empty or holds something else.
    """
    array = parse_idx(_read_bytes(path), path)
    if array.ndim < 3:
        raise InputError(_wrong_magic(path, array.ndim, "0x00000803 (images)"))
    if array.size == 0:
        raise InputError(f"{path}: holds no images (shape {_times(array.shape)}).")
    return array


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Read a file of IDX labels, shape (N,); errors as in `read_images`."""
    array = parse_idx(_read_bytes(path), path)
    if array.ndim != 1:
        raise InputError(_wrong_magic(path, array.ndim, "0x00000801 (labels)"))
    return array


def parse_idx(data: bytes, path: Path) -> NDArray[np.uint8]:
    """Turn the content of an IDX file of unsigned bytes into an array; `path` is named in errors.

    Raises
    ------
    InputError
        If the magic number is another one, or the length does not fit the header.
    """
    if len(data) < 4:
        raise InputError(f"{path}: cut short: {len(data)} bytes found, an IDX file has a header of at least 8.")
    zero, kind, dimensions = struct.unpack(">HBB", data[:4])
    if zero != 0 or kind != UNSIGNED_BYTE or dimensions == 0:
        raise InputError(
            f"{path}: wrong magic number 0x{data[:4].hex()}, expected 0x000008nn (unsigned bytes in nn dimensions)."
        )
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise InputError(f"{path}: cut short: {len(data)} bytes found, its header alone has {header}.")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected = header + math.prod(shape)
    if len(data) != expected:
        what = "cut short" if len(data) < expected else "longer than its header says"
        raise InputError(f"{path}: {what}: {expected} bytes expected for shape {_times(shape)}, {len(data)} found.")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except gzip.BadGzipFile:
        raise InputError(f"{path}: not a gzip file, though its name ends in .gz.") from None
    except (EOFError, zlib.error):
        raise InputError(f"{path}: cut short or damaged: it cannot be unpacked to its end. Fetch it again.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _read_pair(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images_path, labels_path = _find(folder, part, "images"), _find(folder, part, "labels")
    images, labels = read_images(images_path), read_labels(labels_path)
    if len(images) != len(labels):
        fewer = "fewer labels than images" if len(labels) < len(images) else "more labels than images"
        raise InputError(f"{labels_path}: {fewer}: {len(labels)} labels, {len(images)} images in {images_path.name}.")
    return images, labels


def _find(folder: Path, part: str, kind: str) -> Path:
    found = _matches(folder, part, kind)
    if not found:
        usual = f"{PART_WORDS[part][0]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        raise InputError(f"{folder}: no file of {part} {kind} there; expected {usual} or {usual}.gz.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{folder}: several files of {part} {kind} ({names}). Give each data set a folder of its own.")
    return found[0]


def _matches(folder: Path, part: str, kind: str) -> list[Path]:
    """Return the files of a part and kind; of a file and its .gz, the plain one."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found = [
        name for name in names if "idx" in name and kind in name and any(word in name for word in PART_WORDS[part])
    ]
    return [folder / name for name in found if not (name.endswith(".gz") and name[:-3] in found)]


def _wrong_magic(path: Path, dimensions: int, expected: str) -> str:
    return f"{path}: wrong magic number 0x000008{dimensions:02x}, expected {expected}."


def _times(shape: tuple[Any, ...]) -> str:
    return "x".join(str(length) for length in shape)
