"""Opening HDF5 files, and explaining why one cannot be read: by the file itself, never by the words of an error."""

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
# What h5py raises when it meets a damaged file.
DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError, SystemError)
# Set in the superblock while a process writes (version 3 and later).
WRITING = 0x01


@dataclass(frozen=True)
class Superblock:
    """What the beginning of an HDF5 file says of it.

    Attributes
    ----------
    end : int
        Bytes that the file should have.
    writing : bool
        Whether a process that writes has not closed it.
    """

    end: int
    writing: bool


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, without a lock of its own.

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
    """Read the superblock; None if there is none or it is of an unknown version."""
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
    # Base address, then one address more, then the end of the file.
    end = head[addresses + 2 * width : addresses + 3 * width]
    if width not in (2, 4, 8) or len(end) < width:
        return None
    return Superblock(int.from_bytes(end, "little"), version == 3 and bool(flags & WRITING))


def _refuse_locked(path: Path, file: BinaryIO) -> None:
    """Raise an `InputError` if a process holds the lock that HDF5 takes for writing."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{path}: open for writing in another process; wait until it is closed.") from None
    except OSError:
        # File systems without a lock service: nobody can hold a lock there.
        return
    fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def damage_explained(what: str) -> Iterator[None]:
    """Raise an `InputError` that begins with `what` if HDF5 cannot do something."""
    try:
        yield
    except DAMAGE as error:
        # Its words are for the reader of the message; nothing depends on them.
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} ({words}). Copy or write the file again.") from None


def refuse_missing_filters(path: Path, dataset: h5py.Dataset) -> None:
    """Raise an `InputError` if a dataset is compressed by a filter that is not installed."""
    settings = dataset.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, name = settings.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            known = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            raise InputError(
                f"{path}: dataset {dataset.name} is compressed by the HDF5 filter {known or 'of unknown name'} (number "
                f"{code}), which is not installed here. Set HDF5_PLUGIN_PATH to the folder of its plugin, or write the "
                f"data with gzip: h5repack -f GZIP=4 {path.name} new.h5."
            )


def packed_chunk_bytes(dataset: h5py.Dataset) -> int:
    """Return the bytes of one chunk, unpacked, if the dataset has filters; 0 if any part of a chunk can be read."""
    if dataset.chunks is None or not dataset.id.get_create_plist().get_nfilters():
        return 0
    return math.prod(dataset.chunks) * dataset.dtype.itemsize


def refuse_unwritten(path: Path, dataset: h5py.Dataset) -> None:
    """Raise an `InputError` if a dataset declares rows of which the file holds none, or less than it could pack."""
    name, stored = dataset.name.strip("/"), dataset.id.get_storage_size()
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    if declared and not stored:
        raise InputError(
            f"{path}: dataset {name} declares {dataset.shape[0]} rows ({declared} bytes), and none of them was ever "
            "written. Write the file again."
        )
    if dataset.chunks is None or not hasattr(dataset.id, "get_num_chunks"):
        return
    pairs = zip(dataset.shape, dataset.chunks, strict=True)
    expected, found = math.prod(math.ceil(axis / chunk) for axis, chunk in pairs), dataset.id.get_num_chunks()
    if found < expected:
        raise InputError(
            f"{path}: dataset {name} declares {dataset.shape[0]} rows in {expected} chunks, and {found} chunks are "
            "written: the others would be read as fill values. Write them, or resize the dataset to the rows that are."
        )


def refuse_large_chunks(path: Path, dataset: h5py.Dataset, budget: Budget) -> None:
    """Raise an `InputError` if HDF5, which unpacks a chunk whole, would need more memory for one than it may."""
    name, chunks = dataset.name.strip("/"), dataset.chunks
    # The chunk, unpacked and on its way through the filters.
    budget.refuse_work(
        f"{path}: dataset {name} is packed in chunks of shape {chunks}, which HDF5 unpacks whole",
        2 * packed_chunk_bytes(dataset),
        f"write it in smaller chunks: h5repack -l {name}:CHUNK=ROWSx... {path.name} new.h5",
    )


def dataset_names(file: h5py.File, group_name: str) -> list[str]:
    """Return the datasets of a group that are in this very file, without following links."""
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
    """Return the shapes and types of the datasets of a file by their names, as text."""
    found: dict[str, str] = {}

    def visit(name: str, node: Any) -> int | None:
        if isinstance(node, h5py.Dataset):
            found[name] = f"{node.shape} {node.dtype}"
        return 1 if len(found) >= most else None

    with damage_explained("damaged: its datasets cannot be listed"):
        file.visititems(visit)
    return found
