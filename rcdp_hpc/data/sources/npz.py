"""The source ``npz``: images, series or tables as arrays in an .npz file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import Budget, refuse_bomb
from rcdp_hpc.data.sources.arrays import samples_of, source_of
from rcdp_hpc.data.sources.base import NewSamples, Samples, Source
from rcdp_hpc.data.sources.declared import Form, check_declared, rooms
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.keys import SAMPLES, assign, group_roles, missing_key
from rcdp_hpc.data.sources.npy_header import MAGIC, Header, read_header
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.rows import Spool, mapped
from rcdp_hpc.data.sources.sniff import format_of
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.os_errors import unreadable_error

CHECK_BYTES = 2**22
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1


class NpzReader(SourceReader):
    """Arrays of samples and labels in a NumPy .npz file."""

    file_formats = ("npz",)

    def read(self, request: SourceRequest) -> Source:
        """Read a file with the arrays ``x`` and ``y`` and, for a separate test set, ``x_test`` and ``y_test``.

        Parameters
        ----------
        request : SourceRequest
            Its path is the file. ``x`` has shape (N, ...) and holds numbers, ``y`` has shape (N,) and holds labels.
            ``lengths`` holds the steps of padded series, ``ids`` the names of samples. Other common names are
            recognised (`keys.NAMES`). Samples beyond the memory budget are mapped from an uncompressed file, and
            unpacked from a compressed file to a temporary file.

        Raises
        ------
        InputError
            If the file is missing or damaged, an array is missing, or arrays do not match.
        """
        path, data, budget = request.path, request.data, request.budget
        findings = Findings()
        with _opened(path) as archive:
            groups = group_roles(str(path), data.group_name, archive.names)
            roles = assign(str(path), archive.names, findings, taken=groups.values()) | groups
            for role in ("x", "y"):
                if role not in roles:
                    raise missing_key(str(path), role, archive.shapes())
            arrays = archive.arrays(roles, budget)
        return source_of("npz", path, arrays, data, findings)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the file is an npz file."""
        return path.is_file() and format_of(path).name == "npz"


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the samples of an .npz file, shape (N, *sample_shape), with their lengths and ids.

    The shape of the model's samples decides between series, tables and images, and which axis holds the channels.
    Errors are those of `NpzReader.read`.
    """
    path = request.path
    findings = Findings()
    with _opened(path) as archive:
        roles = assign(str(path), archive.names, findings, SAMPLES)
        if "x" not in roles:
            raise missing_key(str(path), "x", archive.shapes())
        arrays = archive.arrays(roles, request.budget)
    return samples_of(path, arrays, request.data, request.longest, findings, request.shape)


class _Archive:
    """The arrays of an open .npz file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in self._members:
                raise InputError(f"{path}: holds {name} twice. Save it again.")
            self._members[name] = info

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def shapes(self) -> dict[str, str]:
        """Return shape and type of each array as text; empty if its header cannot be read."""
        shapes = {}
        for name in self._members:
            try:
                header = self.header(name)
                shapes[name] = f"{header.shape} {header.dtype}"
            except InputError:
                shapes[name] = ""
        return shapes

    def header(self, name: str) -> Header:
        info = self._readable(name)
        with self._archive.open(info) as member:
            return read_header(f"{self._path}: {name}", member, info.file_size)  # type: ignore[arg-type]

    def arrays(self, roles: Mapping[str, str], budget: Budget) -> dict[str, Any]:
        """Return the arrays by their roles, after a check of their headers; samples beyond their share are not held."""
        headers = {role: self.header(name) for role, name in roles.items()}
        forms = {role: Form(header.shape, header.dtype) for role, header in headers.items()}
        check_declared(self._path, forms, budget)
        room = rooms(forms, budget)
        return {role: self.read(name, room.get(role, 2**62)) for role, name in roles.items()}

    def read(self, name: str, room: int) -> Any:
        """Return an array, which is mapped or spooled if it has more than `room` bytes.

        The checksum is verified here, also for a mapped array.
        """
        info, where = self._readable(name), f"{self._path}: {name}"
        with self._archive.open(info) as member:
            header = read_header(where, member, info.file_size)  # type: ignore[arg-type]
            if header.array_bytes > room and info.compress_type == zipfile.ZIP_STORED:
                while member.read(CHECK_BYTES):
                    pass
                return mapped(self._path, header.dtype, header.shape, self._start(info) + header.size, header.fortran)
            if header.array_bytes > room:
                return _unpacked(where, member, header, room)
            return _held(where, member, header)

    def _readable(self, name: str) -> zipfile.ZipInfo:
        info, where = self._members[name], f"{self._path}: {name}"
        if info.flag_bits & ENCRYPTED or info.compress_type not in READABLE:
            raise InputError(
                f"{self._path}: {name} is encrypted or compressed by a method that NumPy does not write. Save it with "
                "np.savez or np.savez_compressed."
            )
        stored = min(info.compress_size, self._path.stat().st_size)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            refuse_bomb(where, info.file_size, stored)
        elif info.file_size != stored:
            raise InputError(f"{where}: damaged or cut short: {info.file_size} bytes declared, {stored} are there.")
        return info

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Return the offset of a member's bytes, which follow its local header of variable length."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset + 26)
            return info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))


@contextmanager
def _opened(path: Path) -> Iterator[_Archive]:
    """Open a file; errors while it is read become an `InputError`."""
    try:
        with path.open("rb") as file:
            first = file.read(len(MAGIC))
        if first == MAGIC:
            raise InputError(
                f"{path}: holds a single array (.npy), expected an .npz file with arrays x and y. Save both with "
                "np.savez(file, x=x, y=y)."
            )
        with zipfile.ZipFile(path) as archive:
            yield _Archive(path, archive)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: damaged, cut short or not an npz file ({error}). Save or fetch it again.") from None
    except OSError as error:
        raise unreadable_error(error, path) from None


def _held(where: str, member: Any, header: Header) -> NDArray[Any]:
    data = bytearray(header.array_bytes)
    place = 0
    while place < len(data) and (piece := member.read(min(CHECK_BYTES, len(data) - place))):
        data[place : place + len(piece)] = piece
        place += len(piece)
    # Reading beyond the end of a member makes zipfile compare the checksum.
    if place != header.array_bytes or member.read(1):
        raise InputError(f"{where}: damaged or cut short. Save or fetch it again.")
    flat = np.frombuffer(data, header.dtype) if data else np.empty(0, header.dtype)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _unpacked(where: str, member: Any, header: Header, room: int) -> Samples:
    """Decompress an array to a temporary file."""
    if header.fortran:
        raise InputError(f"{where} is compressed and in Fortran order; save it with np.savez in C order.")
    spool = Spool(header.shape[1:], header.dtype, room)
    row = header.array_bytes // header.shape[0]
    size = max(1, CHECK_BYTES // row) * row
    while data := member.read(size):
        while len(data) % row and (more := member.read(row - len(data) % row)):
            data += more
        if len(data) % row:
            break
        spool.add(np.frombuffer(data, header.dtype))
    if spool.rows != header.shape[0]:
        raise InputError(f"{where} is cut short: {spool.rows} of {header.shape[0]} samples.")
    return spool.finish()
