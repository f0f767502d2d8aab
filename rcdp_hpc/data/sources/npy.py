"""The source ``npy``: arrays in .npy files, mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.arrays import samples_of, source_of
from rcdp_hpc.data.sources.base import NewSamples, Source
from rcdp_hpc.data.sources.declared import Form, check_declared, rooms
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.keys import NAMES, SAMPLES, assign, group_roles, missing_key, role_of
from rcdp_hpc.data.sources.npy_header import MAGIC, Header, read_header
from rcdp_hpc.data.sources.reader import FixedFilesReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.rows import fits, mapped
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.os_errors import unreadable_error


class NpyReader(FixedFilesReader):
    """Arrays of samples and labels in NumPy .npy files of one folder."""

    file_formats = ("npy",)

    def read(self, request: SourceRequest) -> Source:
        """Read ``x.npy`` and ``y.npy`` and, for a separate test set, ``x_test.npy`` and ``y_test.npy``.

        Parameters
        ----------
        request : SourceRequest
            Its path is the folder. The arrays are as in an npz file. Samples beyond the memory budget are mapped.

        Raises
        ------
        InputError
            If a file is missing or damaged, or arrays do not match.
        """
        folder, data, budget = request.path, request.data, request.budget
        findings = Findings()
        roles = _roles(folder, data.group_name, findings)
        arrays = _arrays(folder, {role: folder / f"{name}.npy" for role, name in roles.items()}, budget)
        return source_of("npy", folder, arrays, data, findings)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the folder has x.npy and y.npy."""
        return (path / "x.npy").exists() and (path / "y.npy").exists()


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the samples of one .npy file, with the lengths and ids that are next to a file ``x.npy``.

    Errors are those of `NpyReader.read`.
    """
    path, findings = request.path, Findings()
    files = {"x": path}
    for role in SAMPLES[1:]:
        companion = _companion(path, role)
        if companion is not None:
            files[role] = companion
            findings.assumed.append(f"{path}: its {role} are those of {companion.name}")
    arrays = _arrays(path, files, request.budget)
    return samples_of(path, arrays, request.data, request.longest, findings, request.shape)


def _roles(folder: Path, group_name: str, findings: Findings) -> dict[str, str]:
    if not folder.is_dir():
        raise InputError(
            f"data.path = {folder}: not a folder; data.source = 'npy' needs the folder of x.npy and y.npy."
        )
    names = sorted(file.name[:-4] for file in folder.iterdir() if file.suffix == ".npy" and file.name[:1] != ".")
    groups = group_roles(str(folder), group_name, names)
    roles = assign(str(folder), names, findings, taken=groups.values()) | groups
    for role in ("x", "y"):
        if role not in roles:
            raise missing_key(str(folder), role, {f"{name}.npy": "" for name in names})
    return roles


def _companion(path: Path, role: str) -> Path | None:
    """Return the file of lengths or ids in the folder of a file of samples; None if there is none."""
    samples = role_of(path.stem)
    if samples not in ("x", "x_test"):
        return None
    names = NAMES[role if samples == "x" else f"{role}_test"]
    return next((path.with_name(f"{name}.npy") for name in names if path.with_name(f"{name}.npy").is_file()), None)


def read_form(path: Path) -> Form:
    """Return the form that the header of an .npy file declares; errors are those of `NpyReader.read`."""
    header = _header(path)
    return Form(header.shape, header.dtype)


def load_array(path: Path) -> NDArray[Any]:
    """Return the array of an .npy file; errors are those of `NpyReader.read`."""
    return _held(path, _header(path))


def _arrays(path: Path, files: dict[str, Path], budget: Budget) -> dict[str, Any]:
    """Return the arrays by their roles, after a check of their headers; samples beyond their share are mapped."""
    headers = {role: _header(file) for role, file in files.items()}
    forms = {role: Form(header.shape, header.dtype) for role, header in headers.items()}
    check_declared(path, forms, budget)
    room = rooms(forms, budget)
    return {role: _load(file, headers[role], room.get(role, 2**62)) for role, file in files.items()}


def _load(path: Path, header: Header, room: int) -> Any:
    if not fits(header.shape, header.dtype, room) and header.array_bytes:
        return mapped(path, header.dtype, header.shape, header.size, header.fortran)
    return _held(path, header)


def _held(path: Path, header: Header) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            file.seek(header.size)
            data = bytearray(header.array_bytes)
            count = file.readinto(data)  # type: ignore[attr-defined]
            longer = bool(file.read(1))
    except OSError as error:
        raise unreadable_error(error, path) from None
    if count != header.array_bytes or longer:
        raise InputError(f"{path}: changed while it was read.")
    flat = np.frombuffer(data, header.dtype) if data else np.empty(0, header.dtype)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InputError(f"{path}: not an .npy file: it does not begin as one. Save it with np.save.")
            file.seek(0)
            return read_header(str(path), file, path.stat().st_size)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except OSError as error:
        raise unreadable_error(error, path) from None
