"""The sources ``cifar10`` and ``cifar100`` (A. Krizhevsky, 2009): python or binary batches, in a folder or an archive.

An archive is read in one pass; its members are not written to disk.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.base import NewSamples, Part, Samples, Source, default_scale
from rcdp_hpc.data.sources.reader import FixedFilesReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.rows import Spool
from rcdp_hpc.data.sources.sniff import ARCHIVE, format_of
from rcdp_hpc.data.sources.streams import LimitedStream, open_xz
from rcdp_hpc.data.sources.unpickle import read_pickle
from rcdp_hpc.errors import InputError

SHAPE = (32, 32, 3)
PIXELS = 3072
MEMBER_BYTES = 2**28
DRAIN_BYTES = 2**20
# First bytes of each compression, and the function that decompresses it.
PACKERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": open_xz,
    b"BZh": bz2.open,
}
# Most bytes of an archive; the official files of a set have less than 200 MiB in total.
EXPANDED_BYTES = 2**29
ADDED_ROWS = 1024
DESCRIPTIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
DESCRIPTION_BYTES = 2**16


@dataclass(frozen=True)
class _Set:
    """File names and keys of one of the two sets from https://www.cs.toronto.edu/~kriz/cifar.html."""

    train: tuple[str, ...]
    test: str
    meta: str
    label_key: bytes
    names_key: bytes
    binary_train: tuple[str, ...]
    binary_test: str
    binary_meta: str
    label_bytes: int
    label_place: int


_FIVE = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR10 = _Set(
    _FIVE, "test_batch", "batches.meta", b"labels", b"label_names",
    tuple(f"{name}.bin" for name in _FIVE), "test_batch.bin", "batches.meta.txt", 1, 0,
)  # fmt: skip


def _cifar100(kind: str) -> _Set:
    return _Set(
        ("train",), "test", "meta", f"{kind}_labels".encode(), f"{kind}_label_names".encode(),
        ("train.bin",), "test.bin", f"{kind}_label_names.txt", 2, int(kind == "fine"),
    )  # fmt: skip


class CifarReader(FixedFilesReader):
    """The official batches of CIFAR-10 or CIFAR-100."""

    file_formats = (ARCHIVE,)
    # Names that are only in a folder with the batches of this set.
    marks: ClassVar[tuple[str, ...]]

    @abstractmethod
    def files(self, data: DataSection) -> _Set:
        """Return the names of the files, and how they are read."""

    def read(self, request: SourceRequest) -> Source:
        """Read the batches in a folder, in the folder above it, or in a .tar, .tar.gz, .tar.xz or .tar.bz2 file.

        Raises
        ------
        InputError
            If a batch is missing or damaged, a pickle in it calls something, a label is outside the classes, or a
            member of a packed file leads out of its folder.
        """
        batches = _BatchCollector(request.path, self.files(request.data), request.budget)
        for member, size, load in _members(request.path):
            batches.take(member, size, load)
        return batches.source(request.data.source)

    def read_new(self, request: SampleRequest) -> NewSamples:
        """Return all samples of a folder or an archive, training samples first, or those of another file."""
        if request.path.is_file() and format_of(request.path).name == ARCHIVE:
            return self.read_all(request)
        return super().read_new(request)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the folder has the batches."""
        return path.is_dir() and any((path / name).exists() for name in cls.marks)


class Cifar10Reader(CifarReader):
    """CIFAR-10."""

    marks = ("batches.meta", "cifar-10-batches-py")

    def files(self, data: DataSection) -> _Set:
        """Return the files of CIFAR-10."""
        return _CIFAR10


class Cifar100Reader(CifarReader):
    """CIFAR-100, with its 100 fine classes or, by ``data.coarse_labels``, its 20 coarse classes."""

    marks = ("meta", "cifar-100-python")

    def files(self, data: DataSection) -> _Set:
        """Return the files of CIFAR-100."""
        return _cifar100("coarse" if data.coarse_labels else "fine")


class _BatchCollector:
    """Collects the batches of a set in any order."""

    def __init__(self, path: Path, files: _Set, budget: Budget) -> None:
        self.path = path
        self.files = files
        self.budget = budget
        self.spools = {key: Spool(SHAPE, np.dtype(np.uint8), budget.source // 2) for key in ("train", "test")}
        self.labels: dict[str, list[NDArray[np.int64]]] = {"train": [], "test": []}
        self.names: list[str] = []
        self.taken: list[str] = []

    def take(self, member: str, size: int, load: Callable[[], bytes]) -> None:
        files = self.files
        if member not in (
            *files.train,
            files.test,
            files.meta,
            *files.binary_train,
            files.binary_test,
            files.binary_meta,
        ):
            return
        where = f"{self.path}, {member}"
        if size > MEMBER_BYTES:
            raise InputError(f"{where}: {size} bytes, more than any batch of CIFAR has.")
        # The bytes of the file, and the array.
        self.budget.refuse_work(f"{where}: a batch is read in one piece", 2 * size, "take the official files")
        if member in self.taken:
            raise InputError(f"{where}: there twice. Give each data set a folder or packed file of its own.")
        self.taken.append(member)
        data = load()
        if member == files.meta:
            self.names = _names_of(read_pickle(data, where, self.budget), files.names_key, where)
        elif member == files.binary_meta:
            self.names = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
        else:
            binary = member.endswith(".bin")
            x, y = (
                _binary_batch(data, files, where)
                if binary
                else _batch(read_pickle(data, where, self.budget), files, where)
            )
            part = "test" if member in (files.test, files.binary_test) else "train"
            for start in range(0, len(x), ADDED_ROWS):
                self.spools[part].add(x[start : start + ADDED_ROWS])
            self.labels[part].append(y)

    def source(self, name: str) -> Source:
        files = self.files
        binary = any(member.endswith(".bin") for member in self.taken)
        if binary and any(member in (*files.train, files.test) for member in self.taken):
            raise InputError(f"{self.path}: holds the python and the binary batches; keep one of them.")
        wanted = (*files.binary_train, files.binary_test, files.binary_meta) if binary else (
            *files.train, files.test, files.meta,
        )  # fmt: skip
        missing = [member for member in wanted if member not in self.taken]
        if missing:
            raise InputError(f"{self.path}: {', '.join(missing)} missing; data.source = '{name}' needs the whole set.")
        parts = {part: self._part(part) for part in ("train", "test")}
        absent = np.flatnonzero(np.bincount(parts["train"].y, minlength=len(self.names)) == 0)
        if len(absent):
            raise InputError(f"{self.path}: class {self.names[absent[0]]} has no training image.")
        return Source(
            name=name,
            classes=self.names,
            train=parts["train"],
            test=parts["test"],
            scale=default_scale(np.dtype(np.uint8)),
            description=f"{self.path.name}: {len(parts['train'])} images of 32x32x3, {len(parts['test'])} for the test",
        )

    def _part(self, part: str) -> Part:
        y = np.concatenate(self.labels[part])
        if len(y) and (y.min() < 0 or y.max() >= len(self.names)):
            row = int(np.argmax((y < 0) | (y >= len(self.names))))
            raise InputError(
                f"{self.path}: label {y[row]} of {part} image {row} is outside the classes 0 to {len(self.names) - 1}."
            )
        x: Samples = self.spools[part].finish()
        return Part(x, y)


def _names_of(meta: Any, key: bytes, where: str) -> list[str]:
    names = meta.get(key, meta.get(key.decode())) if isinstance(meta, dict) else None
    if not isinstance(names, list) or not names:
        raise InputError(f"{where}: no list {key.decode()!r} with the names of the classes in it.")
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]


def _batch(batch: Any, files: _Set, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = {} if not isinstance(batch, dict) else {
        key if isinstance(key, bytes) else str(key).encode(): value for key, value in batch.items()
    }  # fmt: skip
    data, labels = content.get(b"data"), content.get(files.label_key)
    if data is None or labels is None:
        missing = "data" if data is None else files.label_key.decode()
        raise InputError(f"{where}: no {missing!r} in it, so it is not a batch of this set.")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        form = f"{data.dtype} of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise InputError(f"{where}: 'data' is {form}, uint8 of shape (images, {PIXELS}) expected.")
    y = np.asarray(labels)
    if y.dtype.kind not in "iu" or y.shape != (len(data),):
        raise InputError(f"{where}: {len(data)} images, but labels of type {y.dtype} and shape {y.shape}.")
    return _channels_last(data), y.astype(np.int64)


def _binary_batch(data: bytes, files: _Set, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    size = files.label_bytes + PIXELS
    if not data or len(data) % size:
        raise InputError(f"{where}: {len(data)} bytes, not a multiple of {size} bytes an image: cut short or damaged.")
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    return _channels_last(rows[:, files.label_bytes :]), rows[:, files.label_place].astype(np.int64)


def _channels_last(flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yield the base name of each file, its bytes, and how to read it."""
    if not path.exists():
        raise InputError(f"data.path = {path}: no such file or folder.")
    if path.is_dir():
        folders = [
            path,
            *sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name.startswith("cifar")),
        ]
        for folder in folders:
            for file in sorted(folder.iterdir()):
                if file.is_file():
                    yield file.name, file.stat().st_size, file.read_bytes
        return
    try:
        with (
            _unpacking(path) as unpacked,
            LimitedStream(path, unpacked, EXPANDED_BYTES, "CIFAR") as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive,  # type: ignore[call-overload]
        ):
            for member in archive:
                _refuse_climbing(path, member)
                if member.isfile():
                    yield PurePosixPath(member.name).name, member.size, _extractor(archive, member, path)
            # The checksum of a compressed file is compared at its end.
            while stream.read(DRAIN_BYTES):
                pass
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise InputError(f"{path}: cut short, damaged or not a tar file ({error}). Fetch it again.") from None


def _unpacking(path: Path) -> Any:
    """Open a file, decompressed if its first bytes are those of a compression."""
    with path.open("rb") as file:
        first = file.read(8)
    return next((unpack for magic, unpack in PACKERS.items() if first.startswith(magic)), lambda path: path.open("rb"))(
        path
    )


class _Member(tarfile.TarInfo):
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile reads the description of the next member into memory.
        if self.type in DESCRIPTIONS and self.size > DESCRIPTION_BYTES:
            raise tarfile.ReadError(f"a description of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


def _extractor(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            file = archive.extractfile(member)
            data = b"" if file is None else file.read()
        except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError):
            data = b""
        if len(data) != member.size:
            raise InputError(f"{path}, {member.name}: cut short, damaged or unreadable. Fetch {path.name} again.")
        return data

    return read


def _refuse_climbing(path: Path, member: tarfile.TarInfo) -> None:
    place = PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts or not (member.isfile() or member.isdir()):
        what = "leads out of its folder" if not (member.issym() or member.islnk()) else "is a link"
        raise InputError(f"{path}: refused: its member {member.name!r} {what}, which no official file has.")
