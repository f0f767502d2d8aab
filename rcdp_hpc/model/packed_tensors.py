"""Many tensors as one block of bytes and a list of what it contains: without zeros, and with fewer bits for a value.

A zip archive needs several hundred bytes for each of its members, as much as a small layer. The block has, for each
tensor in the order of the list: the scales (float32) of a quantised tensor, the positions of its stored values, and the
values. Positions have one of these forms:

=======  ============================================================================================
``all``  no bytes: every value is stored
``mask`` one bit for each value of the tensor, 1 if it is stored, the first one in the highest bit
``gaps`` the number of zeros before each stored value and after the last one, in bytes; a byte 255 adds
         255 zeros, and the number continues in the next byte
=======  ============================================================================================

A tensor is thus at most 255 times as large as its bytes, in values. Needs NumPy only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.packing import Packing, Quantized
from rcdp_hpc.runtime.json_text import parse_json

Array = NDArray[Any]
DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
FORMS = ("all", "mask", "gaps")
MOST_AXES = 8
MOST_EXPONENT = 256
# A byte of gaps that is continued.
CONTINUED = 255


@dataclass
class Entry:
    """One tensor in the list: its name, shape and dtype, and how its values are stored.

    `stored` counts the stored values. `bits` is 0 for the bytes of the dtype itself, 16 for float16 multiplied by 2 to
    the power `exponent`, and 8 for codes with `scales` scales along `axis`. `gaps` counts the bytes of the form "gaps".
    """

    name: str
    shape: list[int]
    dtype: str
    stored: int
    bits: int = 0
    exponent: int = 0
    axis: int = 0
    scales: int = 0
    form: str = "all"
    gaps: int = 0

    def written(self) -> dict[str, Any]:
        """Return the fields without those that have their default."""
        usual = {one.name: one.default for one in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


@dataclass
class Tensors:
    """The tensors of a block.

    Attributes
    ----------
    dense : dict of str to ndarray
        All of them.
    quantized : dict of str to Quantized
        Those that are stored in 8 bits, which are `Quantized.dense` in `dense`.
    """

    dense: dict[str, Array] = field(default_factory=dict)
    quantized: dict[str, Quantized] = field(default_factory=dict)


def pack(
    tensors: Mapping[str, Array], packing: Packing, quantized: Mapping[str, Quantized] | None = None
) -> tuple[str, NDArray[np.uint8]]:
    """Return the list of tensors as JSON text, and the block of bytes.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Of one of the `DTYPES`.
    packing : Packing
    quantized : mapping of str to Quantized, optional
        Tensors that are stored in these codes instead of their values.

    Raises
    ------
    ValueError
        If a quantised tensor has another shape than the tensor of its name.
    """
    entries, parts = [], []
    for name, values in tensors.items():
        given = (quantized or {}).get(name)
        if given is not None and given.codes.shape != values.shape:
            raise ValueError(f"{name}: codes of the shape {given.codes.shape} for values of {values.shape}")
        entry, blocks = _packed(name, values, packing, given)
        entries.append(entry)
        parts += blocks
    joined = b"".join(block.tobytes() for block in parts)
    return json.dumps([entry.written() for entry in entries]), np.frombuffer(joined, np.uint8)


def _packed(name: str, values: Array, packing: Packing, given: Quantized | None) -> tuple[Entry, list[Array]]:
    entry = Entry(name, list(values.shape), str(values.dtype), values.size)
    blocks: list[Array] = []
    rounded = values.ndim >= 2 and values.dtype == np.float32 and values.size > 0
    if given is None and packing.bits == 8 and rounded:
        given = Quantized.of(values)
    if given is not None:
        entry.bits = 8
        entry.axis = given.axis
        entry.scales = len(given.scale)
        blocks.append(given.scale)
        values = given.codes
    elif packing.bits == 16 and rounded:
        entry.bits = 16
        _, entry.exponent = math.frexp(float(np.abs(values).max()))
        values = np.ldexp(values, -entry.exponent).astype(np.float16)
    flat = np.ascontiguousarray(values).reshape(-1)
    if packing.sparse and flat.size:
        form, positions = _positions(flat != 0, flat.itemsize)
        if form != "all":
            flat = flat[flat != 0]
            entry.form = form
            entry.stored = flat.size
            entry.gaps = len(positions) if form == "gaps" else 0
            blocks.append(positions)
    return entry, [*blocks, flat]


def _positions(stored: NDArray[np.bool_], itemsize: int) -> tuple[str, NDArray[np.uint8]]:
    """Return the form of positions that needs the fewest bytes for values of `itemsize` bytes, and its bytes."""
    count = int(np.count_nonzero(stored))
    mask, gaps = np.packbits(stored), _gaps(np.flatnonzero(stored), stored.size)
    sizes = {"all": itemsize * (stored.size - count), "mask": len(mask), "gaps": len(gaps)}
    best = min(sizes, key=lambda form: sizes[form])
    return best, {"all": mask[:0], "mask": mask, "gaps": gaps}[best]


def _gaps(positions: NDArray[np.intp], size: int) -> NDArray[np.uint8]:
    """Return the numbers of zeros before, between and after ascending positions in `size` values."""
    zeros = np.diff(positions, prepend=-1, append=size) - 1
    full, last = np.divmod(zeros, CONTINUED)
    ends = np.cumsum(full + 1) - 1
    codes = np.full(int(ends[-1]) + 1, CONTINUED, np.uint8)
    codes[ends] = last
    return codes


def unpacked_bytes(layout: str) -> int:
    """Return the bytes of all tensors of a list, before memory is allocated for them.

    Raises
    ------
    ValueError
        If it is not a list of tensors.
    """
    return sum(math.prod(entry.shape) * np.dtype(entry.dtype).itemsize for entry in _entries(layout))


def unpack(layout: str, block: NDArray[np.uint8]) -> Tensors:
    """Return the tensors of a list and its block of bytes.

    Raises
    ------
    ValueError
        If they do not fit each other: a wrong count, positions outside the tensor, bytes too few or too many.
    """
    rest = memoryview(block.tobytes())
    tensors = Tensors()
    for entry in _entries(layout):
        name, size = entry.name, math.prod(entry.shape)
        scale, rest = _take(rest, np.dtype(np.float32), entry.scales)
        positions, rest = _take(rest, np.dtype(np.uint8), math.ceil(size / 8) if entry.form == "mask" else entry.gaps)
        kind = {0: np.dtype(entry.dtype), 16: np.dtype(np.float16), 8: np.dtype(np.int8)}[entry.bits]
        values, rest = _take(rest, kind, entry.stored)
        if kind == np.bool_ and values.view(np.uint8).max(initial=0) > 1:
            raise ValueError(f"{name}: bytes that are neither true nor false")
        values = _spread(values, entry.form, positions, size, name).reshape(entry.shape)
        if entry.bits == 8:
            tensors.quantized[name] = Quantized(values, scale, entry.axis)
            values = tensors.quantized[name].dense()
        elif entry.bits == 16:
            values = np.ldexp(values.astype(np.float32), entry.exponent)
        tensors.dense[name] = values.astype(entry.dtype, copy=False)
    if len(rest):
        raise ValueError(f"{len(rest)} bytes after the last tensor")
    return tensors


def _take(rest: memoryview, kind: np.dtype[Any], count: int) -> tuple[Array, memoryview]:
    """Return a copy of the first `count` values of bytes, and the bytes after them."""
    size = kind.itemsize * count
    if size > len(rest):
        raise ValueError(f"{size} bytes expected, {len(rest)} left")
    return np.frombuffer(rest[:size], kind).copy(), rest[size:]


def _spread(values: Array, form: str, positions: NDArray[np.uint8], size: int, name: str) -> Array:
    """Return `size` values, zeros except for the stored ones."""
    if form == "all":
        places = None
        fits = len(values) == size
    elif form == "mask":
        places = np.flatnonzero(np.unpackbits(positions, count=size))
        fits = len(places) == len(values)
    else:
        ends = positions < CONTINUED
        places = np.cumsum(positions, dtype=np.int64)[ends] + np.arange(np.count_nonzero(ends))
        fits = len(places) == len(values) + 1 and places[-1] == size and bool(ends[-1])
        places = places[:-1]
    if not fits:
        raise ValueError(f"{name}: its positions do not fit {len(values)} stored of {size} values")
    if places is None:
        return values
    spread = np.zeros(size, values.dtype)
    spread[places] = values
    return spread


def _entries(layout: str) -> list[Entry]:
    """Return a list of tensors whose entries have the expected fields and types."""
    listed = parse_json(layout)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError("not a list of tensors")
    entries = [Entry(**one) for one in listed]
    for entry in entries:
        if not _is_entry(entry):
            raise ValueError(f"a tensor with the entry {str(entry)[:200]}")
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("two tensors of one name")
    return entries


def _is_entry(entry: Entry) -> bool:
    texts = (entry.name, entry.dtype, entry.form)
    counts = (entry.bits, entry.axis, entry.scales, entry.stored, entry.gaps)
    shape = entry.shape
    return (
        all(type(text) is str for text in texts)
        and all(type(count) is int and count >= 0 for count in counts)
        and isinstance(shape, list)
        and len(shape) <= MOST_AXES
        and all(type(length) is int and length >= 0 for length in shape)
        and type(entry.exponent) is int
        and abs(entry.exponent) < MOST_EXPONENT
        and entry.dtype in DTYPES
        and entry.form in FORMS
        and entry.bits in (0, 8, 16)
        and (entry.bits == 8) == (entry.scales > 0)
        and (entry.form == "gaps") == (entry.gaps > 0)
    )
