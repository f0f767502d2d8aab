"""Samples that occur in two splits: equal ones, found by their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.split import SPLITS, Split, slab_bounds
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree

BLOCK_BYTES = 2**24
DIGEST_BYTES = 16
# Each later split with each earlier one: what is held out, and what it may leak from.
PAIRS: tuple[tuple[Split, Split], ...] = (("validation", "train"), ("test", "train"), ("test", "validation"))


@dataclass(frozen=True, eq=False)
class Digests:
    """Digests of the original rows of a split (n rows).

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Number of each row in its split.
    y : ndarray of int32, shape (n,)
        Class indices.
    digests : ndarray of bytes, shape (n,)
        BLAKE2b of the sample as it is stored.
    """

    rows: NDArray[np.int64]
    y: NDArray[np.int32]
    digests: NDArray[np.bytes_]


def read_digests(shards: ShardReader, comm: Communicator, advance: Callable[[int], None]) -> dict[Split, Digests]:
    """Return the digests of the original rows of all splits; the rows are divided among the ranks. Collective.

    Parameters
    ----------
    shards : ShardReader
    comm : Communicator
    advance : callable
        Called with 0 between blocks of work; may raise to stop.
    """
    result: dict[Split, Digests] = {}
    for split in SPLITS:
        parts = comm.allgather(agree(comm, partial(_local_digests, shards, split, comm, advance)))
        rows, y, digests = (np.concatenate(values) for values in zip(*parts, strict=True))
        result[split] = Digests(rows, y, digests)
    return result


def equal_rows(held: Digests, other: Digests) -> NDArray[np.bool_]:
    """Return whether each row equals a row of another split, shape (n,)."""
    return np.isin(held.digests, other.digests)


def equality_notes(digests: dict[Split, Digests]) -> list[str]:
    """Return a sentence for each pair of splits that share equal samples."""
    notes = []
    for split, other in PAIRS:
        held, against = digests[split], digests[other]
        equal = equal_rows(held, against)
        if not equal.any():
            continue
        # A row with the digest and the class of a row of the other split.
        same = np.isin(_with_class(held), _with_class(against))
        row = int(np.argmax(equal))
        twin = int(against.rows[np.argmax(against.digests == held.digests[row])])
        contrary = int((equal & ~same).sum())
        other_class = f"; {contrary} of them have another class there" if contrary else ""
        notes.append(
            f"{int(equal.sum())} of {len(equal)} samples of {split} are equal to a sample of {other}, for example row "
            f"{held.rows[row]} of {split} and row {twin} of {other}{other_class}"
        )
    return notes


def original_blocks(
    shards: ShardReader, split: str, start: int, stop: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.generic]]]:
    """Yield the original rows of a range in blocks: their row numbers and stored samples."""
    width = shards.layout.storage.dtype.itemsize * int(np.prod(shards.sample_shape))
    size = max(1, BLOCK_BYTES // width)
    for low in range(start, stop, size):
        high = min(stop, low + size)
        original = ~shards.columns(split, low, high, ("synthetic",))["synthetic"]
        if original.any():
            yield low + np.flatnonzero(original), shards.stored(split, low, high)[original]


def _local_digests(
    shards: ShardReader, split: Split, comm: Communicator, advance: Callable[[int], None]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bytes_]]:
    start, stop = slab_bounds(shards.rows(split), comm.rank, comm.size)
    names = ("y", *(("length",) if shards.layout.has_lengths else ()))
    columns = shards.columns(split, start, stop, names)
    kind = f"S{DIGEST_BYTES}"
    rows, digests = [np.empty(0, np.int64)], [np.empty(0, kind)]
    for block_rows, x in original_blocks(shards, split, start, stop):
        advance(0)
        rows.append(block_rows)
        flat = np.ascontiguousarray(x).reshape(len(x), -1)
        # A series that ends with zeros and a shorter one that is padded with them are not equal.
        steps = columns["length"][block_rows - start].tolist() if "length" in columns else [0] * len(x)
        block = [_digest(sample, length) for sample, length in zip(flat, steps, strict=True)]
        digests.append(np.array(block, kind))
    numbers = np.concatenate(rows)
    return numbers, columns["y"][numbers - start], np.concatenate(digests)


def _digest(sample: NDArray[np.generic], length: int) -> bytes:
    return hashlib.blake2b(sample.tobytes() + length.to_bytes(8, "little"), digest_size=DIGEST_BYTES).digest()


def _with_class(digests: Digests) -> NDArray[np.bytes_]:
    keys = np.zeros((len(digests.y), DIGEST_BYTES + 4), np.uint8)
    keys[:, :DIGEST_BYTES] = digests.digests.view(np.uint8).reshape(-1, DIGEST_BYTES)
    keys[:, DIGEST_BYTES:] = digests.y.astype("<i4").view(np.uint8).reshape(-1, 4)
    return keys.view(f"S{DIGEST_BYTES + 4}").reshape(-1)
