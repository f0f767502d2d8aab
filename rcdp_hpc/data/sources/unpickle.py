"""Read pickles of arrays without executing their code: the batches of CIFAR."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.errors import InputError

_NUMERIC = "biuf"
# Bytes of the largest object that one operation creates, an empty set, with its entry in a list.
OPERATION_BYTES = 232
DEEPEST = 16
SHARED = "repeated references to one list or text expand to more than the file holds"

# Operations by their arguments: a fixed number of bytes, a length of this many bytes with the data, or lines.
_FIXED = {
    **dict.fromkeys(b"().012NQRabdeloust}]", 0), **dict.fromkeys(range(0x85, 0x8A), 0),
    **dict.fromkeys((0x81, 0x8F, 0x90, 0x91, 0x92, 0x93, 0x94, 0x97, 0x98), 0),
    **dict.fromkeys((*b"Kqh", 0x80, 0x82), 1), **dict.fromkeys((*b"M", 0x83), 2), **dict.fromkeys((*b"Jrj", 0x84), 4),
    **dict.fromkeys((*b"G", 0x95), 8),
}  # fmt: skip
_COUNTED = {
    **dict.fromkeys((*b"U", *b"C", 0x8A, 0x8C), 1),
    **dict.fromkeys((*b"TBX", 0x8B), 4),
    **dict.fromkeys((0x8D, 0x8E, 0x96), 8),
}
_LINES = {**dict.fromkeys(b"IFLSVgpP", 1), **dict.fromkeys(b"ci", 2)}
_STOP, _PUT, _LONG_PUT = b".pr"


class _Dtype:
    """Replaces numpy.dtype in a pickle: stores its arguments and calls nothing."""

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
    """Replaces numpy.ndarray: stores a shape, a number format and bytes."""

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


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "numpy.ndarray",
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ADMITTED[_module, "_reconstruct"] = _reconstruct


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left = len(data)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return _ADMITTED[module, name]

    def _encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        # Python 3 writes bytes as a call of this function in pickle protocols without bytes.
        if _text(encoding) not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError(SHARED)
        return str(text).encode("latin1")


def read_pickle(data: bytes, where: str, budget: Budget | None = None) -> Any:
    """Return the content of a pickle: numbers, strings, bytes, lists, tuples, dicts and arrays of numbers.

    Any other object is refused and not executed.

    Parameters
    ----------
    data : bytes
        The pickle.
    where : str
        File and member, for messages.
    budget : Budget, optional
        The objects may use the share for work; default: the default of ``data.memory_budget``.

    Raises
    ------
    InputError
        If the pickle is damaged, calls a function, needs more objects than the budget allows, or expands by repeated
        references to one object.
    """
    try:
        operations, budget = _operations(data), budget or Budget.of(DataSection())
        budget.refuse_work(f"{where}: it consists of {operations} objects", OPERATION_BYTES * operations, "check it")
        return _Plain(len(data)).of(_Unpickler(data).load())
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{where}: refused: {error}. Only arrays, bytes, strings, numbers, lists and dicts are read; fetch the "
            "file again from its official address."
        ) from None
    except Exception as error:
        # A damaged pickle can raise any exception, but no code of the pickle runs.
        raise InputError(f"{where}: damaged, or not a pickle ({type(error).__name__}: {error}).") from None


def _operations(data: bytes) -> int:
    """Return the number of operations of a pickle without executing them; each creates at most one object.

    Raises
    ------
    pickle.UnpicklingError
        If it is cut short, or uses an object number beyond its length, up to which the unpickler allocates memory.
    """
    place = count = 0
    fixed, counted, lines = _FIXED, _COUNTED, _LINES
    try:
        while (code := data[place]) != _STOP:
            count += 1
            place += 1
            if (size := fixed.get(code)) is not None:
                if code == _LONG_PUT and int.from_bytes(data[place : place + 4], "little") > len(data):
                    raise pickle.UnpicklingError("it numbers more objects than it has")
                place += size
            elif size := counted.get(code):
                place += size + int.from_bytes(data[place : place + size], "little")
            elif size := lines.get(code):
                for _ in range(size):
                    start, place = place, data.index(b"\n", place) + 1
                if code == _PUT and (place - start > 12 or int(data[start:place]) > len(data)):
                    raise pickle.UnpicklingError("it numbers more objects than it has")
            else:
                raise pickle.UnpicklingError(f"the operation {code:#04x} is unknown")
    except (IndexError, ValueError):
        raise pickle.UnpicklingError("it is cut short or damaged") from None
    return count


class _Plain:
    """Converts unpickled values to plain objects, and refuses more objects than the pickle has bytes.

    Parameters
    ----------
    size : int
        Bytes of the pickle; without repeated references it holds fewer objects.
    """

    def __init__(self, size: int) -> None:
        self._left = size

    def of(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, dict | list | tuple):
            self._take(len(value), depth)
        if isinstance(value, _Array):
            data = value.state[-1] if value.state else b""
            self._take(len(data) if isinstance(data, str) else 1, depth)
            return value.resolve()
        if isinstance(value, dict):
            return {self.of(key, depth + 1): self.of(held, depth + 1) for key, held in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(held, depth + 1) for held in value]
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__.strip('_')}")

    def _take(self, count: int, depth: int) -> None:
        self._left -= count
        if self._left < 0 or depth > DEEPEST:
            raise pickle.UnpicklingError(SHARED)


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
