"""Any labelled data as a NumPy .npz file: images, sequences or tables."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Part, Source, default_scale
from rcdp_hpc.data.sources.labels import encode_labels
from rcdp_hpc.errors import InputError

CHECK_BYTES = 2**26


def read_source(path: Path) -> Source:
    """Read a file with the arrays ``x`` and ``y`` and, for a test set of its own, ``x_test`` and ``y_test``.

    Parameters
    ----------
    path : Path
        The file. ``x`` has shape (N, ...) and holds numbers, ``y`` has shape (N,) and holds integers or
        strings. Keys may be written in capitals.

    Raises
    ------
    InputError
        If the file is missing or damaged, a key is missing, lengths differ, or a value is not finite.
    """
    arrays = _load(path)
    x, y = _part(path, arrays, "x", "y")
    has_test = "x_test" in arrays or "y_test" in arrays
    test_x, test_y = _part(path, arrays, "x_test", "y_test") if has_test else (None, None)
    if test_x is not None and test_x.shape[1:] != x.shape[1:]:
        raise InputError(f"{path}: samples of x_test have shape {test_x.shape[1:]}, those of x {x.shape[1:]}.")
    if test_y is not None and (test_y.dtype.kind in "US") != (y.dtype.kind in "US"):
        raise InputError(f"{path}: y has labels of type {y.dtype}, y_test of type {test_y.dtype}.")
    if test_x is not None and test_x.dtype != x.dtype:
        # One scale must hold for both, and it follows from the number format.
        raise InputError(f"{path}: x_test holds {test_x.dtype} and x holds {x.dtype}; save both in one number format.")
    classes, train_labels, test_labels = encode_labels(y, test_y, f"{path}, y_test")
    test = None if test_x is None or test_labels is None else Part(test_x, test_labels)
    return Source(
        name="npz",
        classes=classes,
        train=Part(x, train_labels),
        test=test,
        scale=default_scale(x.dtype),
        description=f"{path.name}: {len(x)} samples of shape {x.shape[1:]} and type {x.dtype}"
        + (f", {len(test)} for the test" if test is not None else ""),
    )


def read_samples(path: Path) -> NDArray[Any]:
    """Return the array ``x`` alone, shape (N, *sample_shape); errors as in `read_source`."""
    return _samples(path, _load(path, only=("x",)), "x")


def _load(path: Path, only: tuple[str, ...] = ("x", "y", "x_test", "y_test")) -> dict[str, NDArray[Any]]:
    """Return the known arrays by their names in small letters."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: holds a single array; expected an .npz file with keys x and y.")
            arrays = {name.lower(): loaded[name] for name in loaded.files if name.lower() in only}
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


def _part(path: Path, arrays: dict[str, NDArray[Any]], x_key: str, y_key: str) -> tuple[NDArray[Any], NDArray[Any]]:
    for key in (x_key, y_key):
        if key not in arrays:
            raise InputError(f"{path}: key {key} is missing; found {', '.join(arrays)}.")
    x, y = _samples(path, arrays, x_key), _labels(path, arrays, y_key)
    if len(x) != len(y):
        raise InputError(f"{path}: {x_key} has {len(x)} samples, {y_key} has {len(y)} labels.")
    return x, y


def _samples(path: Path, arrays: dict[str, NDArray[Any]], key: str) -> NDArray[Any]:
    x = arrays[key]
    if x.dtype.kind not in "buif":
        raise InputError(f"{path}: {key} holds {x.dtype}, expected numbers.")
    if x.ndim < 2 or x.size == 0:
        raise InputError(f"{path}: {key} has shape {x.shape}, expected (samples, values, ...), none of them 0.")
    if x.dtype.kind == "f":
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


def _labels(path: Path, arrays: dict[str, NDArray[Any]], key: str) -> NDArray[Any]:
    y = arrays[key]
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise InputError(f"{path}: {key} has shape {y.shape}, expected one label for each sample, (samples,).")
    if y.dtype.kind not in "biuUS":
        raise InputError(f"{path}: {key} holds {y.dtype}, expected whole numbers or strings as labels.")
    if y.dtype.kind == "b":
        return y.astype(np.int64)
    return np.char.decode(y, "utf-8", "backslashreplace") if y.dtype.kind == "S" else y
