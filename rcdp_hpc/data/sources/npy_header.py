"""The header of a NumPy array in a file (.npy, or a member of an .npz)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from rcdp_hpc.data.sources.array_numbers import UNEQUAL_HINT
from rcdp_hpc.errors import InputError

MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class Header:
    """The facts that a header declares about its array.

    Attributes
    ----------
    shape : tuple of int
    fortran : bool
        Whether the array is in Fortran order.
    dtype : numpy.dtype
    size : int
        Bytes of the header, after which the array begins.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    size: int

    @property
    def array_bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(where: str, file: BinaryIO, total: int) -> Header:
    """Return the header at the beginning of `file`.

    Parameters
    ----------
    where : str
        File and key, for messages.
    file : binary file
    total : int
        Bytes of the header and the array in `file`.

    Raises
    ------
    InputError
        If the header is damaged, the number of bytes differs from the declared one, or the array holds Python objects.
    """
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)  # type: ignore[no-untyped-call]
        header = Header(tuple(int(axis) for axis in shape), bool(fortran), dtype, file.tell())
        sound = all(axis >= 0 for axis in header.shape)
    except InputError:
        raise
    except Exception as error:
        # A damaged header can raise any exception: it is Python source that NumPy parses but does not run.
        raise InputError(
            f"{where}: its header is damaged, or it is not a NumPy array ({type(error).__name__})."
        ) from None
    if dtype.hasobject:
        raise InputError(
            f"{where} holds Python objects, which are not read for safety. Save texts as array.astype(str), and "
            f"numbers with a number type. {UNEQUAL_HINT}"
        )
    present = total - header.size
    if not sound or present != header.array_bytes:
        what = "cut short" if present < header.array_bytes else "longer than its header declares"
        raise InputError(
            f"{where}: damaged or {what}: shape {header.shape} of {dtype} takes {header.array_bytes} bytes, {present} "
            "are there. Save or fetch it again."
        )
    return header
