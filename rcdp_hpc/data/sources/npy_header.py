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
    """What a header says of its array.

    Attributes
    ----------
    shape : tuple of int
    fortran : bool
        Whether the array is in Fortran order.
    dtype : numpy.dtype
    size : int
        Bytes of the header: the array begins there.
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
    """Read the header at the beginning of `file`.

    Parameters
    ----------
    where : str
        File and key, for messages.
    file : binary file
    total : int
        Bytes that `file` holds, header and array.

    Raises
    ------
    InputError
        If it is damaged, announces another number of bytes than there are, or an array of Python objects.
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
        # A damaged header can raise anything: it is Python source that NumPy parses (and does not run).
        raise InputError(
            f"{where}: its header is damaged, or it is not a NumPy array ({type(error).__name__})."
        ) from None
    if dtype.hasobject:
        raise InputError(
            f"{where} holds Python objects, which are not read for safety. Save texts as array.astype(str), and "
            f"numbers with a number type. {UNEQUAL_HINT}"
        )
    found = total - header.size
    if not sound or found != header.array_bytes:
        what = "cut short" if found < header.array_bytes else "longer than its header says"
        raise InputError(
            f"{where}: damaged or {what}: shape {header.shape} of {dtype} takes {header.array_bytes} bytes, {found} "
            "are there. Save or fetch it again."
        )
    return header
