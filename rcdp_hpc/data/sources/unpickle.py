"""Reading pickles of arrays without running anything: CIFAR's batches."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from rcdp_hpc.errors import InputError

_NUMERIC = "biuf"


class _Dtype:
    """Stands for numpy.dtype in a pickle: remembers what it is told, and calls nothing."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def resolve(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in _NUMERIC:
            raise pickle.UnpicklingError(f"an array of type {dtype}")
        return dtype if self.order in "|=" else dtype.newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """Stands for numpy.ndarray: a shape, a number format and bytes."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def resolve(self) -> np.ndarray[Any, Any]:
        _, shape, dtype, fortran, data = self.state
        data = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(data, dtype.resolve())
        return flat.reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    # Python 3 writes bytes so, in the pickle protocols that do not know them.
    if _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return str(text).encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "numpy.ndarray",
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ADMITTED[_module, "_reconstruct"] = _reconstruct


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return _ADMITTED[module, name]


def read_pickle(data: bytes, where: str) -> Any:
    """Return what a pickle holds: numbers, strings, bytes, lists, tuples, dicts and arrays of numbers.

    Anything else in it is refused and not run.

    Parameters
    ----------
    data : bytes
        The pickle.
    where : str
        Its place, for messages.

    Raises
    ------
    InputError
        If it is damaged, or asks for anything to be called.
    """
    try:
        return _plain(_Unpickler(io.BytesIO(data), encoding="bytes").load())
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{where}: refused: {error}. Only arrays, bytes, strings, numbers, lists and dicts are read; fetch the "
            "file anew from its official address."
        ) from None
    except Exception as error:
        # A damaged pickle can raise anything; none of it comes from code in the pickle.
        raise InputError(f"{where}: damaged, or not a pickle ({type(error).__name__}: {error}).") from None


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.resolve()
    if isinstance(value, dict):
        return {_plain(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__.strip('_')}")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
