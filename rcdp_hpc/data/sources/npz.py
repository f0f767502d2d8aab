"""Any labelled data as a NumPy .npz file: images, sequences or tables."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import NewSamples, Part, Samples, Source, default_scale
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import Labels, checked_labels, encode_labels
from rcdp_hpc.data.sources.rows import Spool, mapped
from rcdp_hpc.errors import InputError

CHECK_BYTES = 2**26


def read_source(path: Path, budget: Budget) -> Source:
    """Read a file with the arrays ``x`` and ``y`` and, for a test set of its own, ``x_test`` and ``y_test``.

    Parameters
    ----------
    path : Path
        The file. ``x`` has shape (N, ...) and holds numbers, ``y`` has shape (N,) and holds integers or
        strings. Keys may be written in capitals.
    budget : Budget
        An array of samples that is larger than its share is not held: it is mapped where the file is not compressed,
        and otherwise unpacked to a temporary file.

    Raises
    ------
    InputError
        If the file is missing or damaged, a key is missing, lengths differ, or a value is not finite.
    """
    return source_of("npz", path, _load(path, room=budget.source))


def source_of(kind: str, path: Path, arrays: dict[str, Any]) -> Source:
    """Make a source of the arrays x, y, x_test and y_test; `kind` and `path` are for messages. Errors as above."""
    x, y = _part(path, arrays, "x", "y")
    has_test = "x_test" in arrays or "y_test" in arrays
    test_x, test_y = _part(path, arrays, "x_test", "y_test") if has_test else (None, None)
    if test_x is not None and test_x.shape[1:] != x.shape[1:]:
        raise InputError(f"{path}: samples of x_test have shape {test_x.shape[1:]}, those of x {x.shape[1:]}.")
    if test_x is not None and test_x.dtype != x.dtype:
        # One scale must hold for both, and it follows from the number format.
        raise InputError(f"{path}: x_test holds {test_x.dtype} and x holds {x.dtype}; save both in one number format.")
    findings = Findings()
    classes, train_labels, test_labels = encode_labels(y, test_y, f"{path}, y_test", findings)
    test = None if test_x is None or test_labels is None else Part(test_x, test_labels)
    return Source(
        name=kind,
        classes=classes,
        train=Part(x, train_labels),
        test=test,
        scale=default_scale(x.dtype),
        description=f"{path.name}: {x.shape[0]} samples of shape {x.shape[1:]} and type {x.dtype}"
        + (f", {len(test)} for the test" if test is not None else ""),
        findings=findings,
    )


def read_samples(path: Path, budget: Budget) -> NewSamples:
    """Return the array ``x`` alone, shape (N, *sample_shape); errors as in `read_source`."""
    return NewSamples(_samples(path, _load(path, only=("x",), room=budget.source), "x"))


def _load(path: Path, only: tuple[str, ...] = ("x", "y", "x_test", "y_test"), room: int = 2**62) -> dict[str, Any]:
    """Return the known arrays by their names in small letters, those of samples beyond `room` without holding them."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: holds a single array; expected an .npz file with keys x and y.")
            archive = loaded.zip
            assert archive is not None
            arrays = {
                name.lower(): large_member(path, archive, name, room)
                if name.lower().startswith("x") and _size(archive, name) > room
                else loaded[name]
                for name in loaded.files
                if name.lower() in only
            }
            if "x" not in arrays or ("y" in only and "y" not in arrays):
                missing = "x" if "x" not in arrays else "y"
                raise InputError(f"{path}: key {missing} is missing; found {', '.join(loaded.files) or 'no key'}.")
            return arrays
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path}: holds Python objects, which are not read for safety (or is no npz file); "
                "save plain numbers and strings."
            ) from None
        raise InputError(f"{path}: not a readable npz file ({error}).") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise InputError(f"{path}: damaged or not an npz file ({error}).") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _size(archive: zipfile.ZipFile, name: str) -> int:
    return next((entry.file_size for entry in archive.infolist() if entry.filename in (name, f"{name}.npy")), 0)


def large_member(path: Path, archive: zipfile.ZipFile, name: str, room: int) -> Samples:
    """Return an array of an npz file without holding it: mapped, or unpacked to a temporary file."""
    info = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    with archive.open(info) as member:
        shape, fortran, dtype = _npy_header(path, name, member)
        if info.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as file:
                file.seek(info.header_offset + 26)
                skipped = sum(struct.unpack("<HH", file.read(4)))
            return mapped(path, dtype, shape, info.header_offset + 30 + skipped + member.tell(), fortran)
        if fortran:
            raise InputError(f"{path}: {name} is compressed and in Fortran order; save it with np.savez in C order.")
        spool = Spool(shape[1:], dtype, room)
        size = max(1, CHECK_BYTES // max(1, row_size(shape, dtype))) * row_size(shape, dtype)
        while data := member.read(size):
            while len(data) % row_size(shape, dtype) and (more := member.read(size - len(data))):
                data += more
            spool.add(np.frombuffer(data, dtype))
        if spool.rows != shape[0]:
            raise InputError(f"{path}: {name} is cut short: {spool.rows} of {shape[0]} samples.")
        return spool.finish()


def row_size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the bytes of a row."""
    return math.prod(shape[1:]) * dtype.itemsize


def _npy_header(path: Path, name: str, member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    if dtype.hasobject:
        raise InputError(f"{path}: {name} holds Python objects, which are not read for safety; save plain numbers.")
    return shape, fortran, dtype


def _part(path: Path, arrays: dict[str, Any], x_key: str, y_key: str) -> tuple[Any, Labels]:
    for key in (x_key, y_key):
        if key not in arrays:
            raise InputError(f"{path}: key {key} is missing; found {', '.join(arrays)}.")
    x, y = _samples(path, arrays, x_key), checked_labels(arrays[y_key], path, y_key)
    if x.shape[0] != len(y):
        raise InputError(f"{path}: {x_key} has {x.shape[0]} samples, {y_key} has {len(y)} labels.")
    return x, y


def _samples(path: Path, arrays: dict[str, Any], key: str) -> Any:
    return checked_samples(path, arrays[key], key)


def checked_samples(path: Path, x: Any, key: str) -> Any:
    """Raise an `InputError` unless `x` is an array of finite numbers, one row for each sample; return it."""
    if x.dtype.kind not in "buif":
        raise InputError(f"{path}: {key} holds {x.dtype}, expected numbers.")
    if len(x.shape) < 2 or math.prod(x.shape) == 0:
        raise InputError(f"{path}: {key} has shape {x.shape}, expected (samples, values, ...), none of them 0.")
    if x.dtype.kind == "f" and isinstance(x, np.ndarray):
        # What is not held is checked when it is read.
        _refuse_non_finite(path, key, x)
    return x


def _refuse_non_finite(path: Path, key: str, x: NDArray[Any]) -> None:
    rows = max(1, CHECK_BYTES // max(1, x[0].nbytes))
    for start in range(0, len(x), rows):
        with np.errstate(over="ignore"):
            # A float64 beyond the range of float32 becomes infinite in the shards.
            block = x[start : start + rows].astype(np.float32)
        finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            what = "NaN, infinity or a number too large for float32"
            raise InputError(f"{path}: {key} holds {what}, first in row {row}.")
