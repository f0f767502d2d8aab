"""Open HDF5 files, and find out from their bytes why one cannot be read. No decision depends on an error text."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from rcdp_hpc.data.budget import Budget
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.os_errors import unreadable_error

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Exceptions that h5py raises for damaged files.
DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError, SystemError)
# Flag in the superblock while a process writes the file (version 3 and later).
WRITING = 0x01


@dataclass(frozen=True)
class Superblock:
    """Facts in the superblock at the beginning of an HDF5 file.

    Attributes
    ----------
    end : int
        Bytes that the file should have.
    writing : bool
        Whether a writing process has not closed the file.
    """

    end: int
    writing: bool


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading without taking a lock.

    Raises
    ------
    InputError
        If the file is missing, not an HDF5 file, cut short, damaged, or open for writing in another process.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        with path.open("rb") as file:
            _refuse_locked(path, file)
            block, size = read_superblock(file), path.stat().st_size
    except OSError as error:
        raise unreadable_error(error, path) from None
    if block is None:
        raise InputError(f"{path}: not an HDF5 file, or its beginning is damaged.")
    if size < block.end:
        raise InputError(
            f"{path}: cut short: {size} of {block.end} bytes are there. Copy or fetch it again, or let the "
            "program that writes it close it."
        )
    if block.writing:
        raise InputError(
            f"{path}: open for writing, or not closed by the program that wrote it. Wait until it is closed; if that "
            "program has ended, h5clear --status repairs the file."
        )
    with damage_explained(f"{path}: damaged: HDF5 cannot open it"):
        return h5py.File(path, "r", locking=False)


def read_superblock(file: BinaryIO) -> Superblock | None:
    """Return the superblock; None if there is none or its version is unknown."""
    size = file.seek(0, 2)
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(128)
        if head.startswith(SIGNATURE):
            return _parsed(head)
        place = 512 if place == 0 else 2 * place
    return None


def _parsed(head: bytes) -> Superblock | None:
    if len(head) < 24:
        return None
    version = head[8]
    if version in (0, 1):
        width, addresses, flags = head[13], 24 + 4 * version, 0
    elif version in (2, 3):
        width, addresses, flags = head[9], 12, head[11]
    else:
        return None
    # The end of the file is the third address, after the base address and one more.
    end = head[addresses + 2 * width : addresses + 3 * width]
    if width not in (2, 4, 8) or len(end) < width:
        return None
    return Superblock(int.from_bytes(end, "little"), version == 3 and bool(flags & WRITING))


def _refuse_locked(path: Path, file: BinaryIO) -> None:
    """Raise an `InputError` if a process holds HDF5's lock for writing."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{path}: open for writing in another process; wait until it is closed.") from None
    except OSError:
        # The file system has no lock service, so no process can hold a lock.
        return
    fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def damage_explained(what: str) -> Iterator[None]:
    """Turn an error of HDF5 into an `InputError` that begins with `what`."""
    try:
        yield
    except DAMAGE as error:
        # The text of the error is only shown.
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} ({words}). Copy or write the file again.") from None


def refuse_missing_filters(path: Path, dataset: h5py.Dataset) -> None:
    """Raise an `InputError` if a dataset is compressed by a filter that is not installed."""
    settings = dataset.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, name = settings.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            filter_name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            raise InputError(
                f"{path}: dataset {dataset.name} is compressed by the HDF5 filter {filter_name or 'of unknown name'} "
                f"(number {code}), which is not installed. Set HDF5_PLUGIN_PATH to the folder of its plugin, or write "
                f"the data with gzip: h5repack -f GZIP=4 {path.name} new.h5."
            )


def packed_chunk_bytes(dataset: h5py.Dataset) -> int:
    """Return the decompressed bytes of one chunk if the dataset has filters; 0 if parts of a chunk can be read."""
    if dataset.chunks is None or not dataset.id.get_create_plist().get_nfilters():
        return 0
    return math.prod(dataset.chunks) * dataset.dtype.itemsize


def refuse_unwritten(path: Path, dataset: h5py.Dataset) -> None:
    """Raise an `InputError` if chunks that a dataset declares were never written."""
    name, stored = dataset.name.strip("/"), dataset.id.get_storage_size()
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if declared and not stored:
        raise InputError(
            f"{path}: dataset {name} declares {dataset.shape[0]} rows ({declared} bytes), but none of them was "
            "written. Write the file again."
        )
    if dataset.chunks is None or not hasattr(dataset.id, "get_num_chunks"):
        return
    pairs = zip(dataset.shape, dataset.chunks, strict=True)
    # Integer division rounded up: an axis may exceed the 53 bits of a float.
    expected = math.prod(-(-axis // chunk) for axis, chunk in pairs)
    written = dataset.id.get_num_chunks()
    if written < expected:
        raise InputError(
            f"{path}: dataset {name} declares {dataset.shape[0]} rows in {expected} chunks, but only {written} chunks "
            "are written: the others would be read as fill values. Write them, or resize the dataset to the written "
            "rows."
        )


def refuse_large_chunks(path: Path, dataset: h5py.Dataset, budget: Budget) -> None:
    """Raise an `InputError` if one decompressed chunk needs more than the share for work."""
    name, chunks = dataset.name.strip("/"), dataset.chunks
    # HDF5 holds a chunk decompressed and within its filters.
    budget.refuse_work(
        f"{path}: dataset {name} has compressed chunks of shape {chunks}, which HDF5 decompresses in one piece",
        2 * packed_chunk_bytes(dataset),
        f"write it in smaller chunks: h5repack -l {name}:CHUNK=ROWSx... {path.name} new.h5",
    )


def dataset_names(file: h5py.File, group_name: str) -> list[str]:
    """Return the datasets of a group that are in this file, without following links."""
    names: list[str] = []
    group: Any = file
    for part in filter(None, group_name.split("/")):
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink) or group.get(part, getclass=True) is not h5py.Group:
            return names
        group = group[part]
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.HardLink) and group.get(name, getclass=True) is h5py.Dataset:
            names.append(str(name))
    return names


def described_datasets(file: h5py.File, most: int = 20) -> dict[str, str]:
    """Return shape and type of the datasets of a file, as text by name."""
    texts: dict[str, str] = {}

    def visit(name: str, node: Any) -> int | None:
        if isinstance(node, h5py.Dataset):
            texts[name] = f"{node.shape} {node.dtype}"
        return 1 if len(texts) >= most else None

    with damage_explained("damaged: its datasets cannot be listed"):
        file.visititems(visit)
    return texts
