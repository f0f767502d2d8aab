"""Model files in the format safetensors: tensors that many programs read, and everything else as metadata.

The tensors are those of the fields weights, learned and matrices of ``model.pt``, named ``weights.NAME`` and so on. A
tensor in 8 bits is its codes, int8, and ``weights.NAME.int8_scale``. Each other field is a metadatum of its name:
``role``, ``settings``, ``link`` and ``shards`` as they are, the others as JSON. The metadatum ``axes`` has the axis of
the scales of each 8-bit tensor, and ``sha256`` the digest of all other metadata and the tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.extra import import_extra
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.packed_fields import GROUPS, unpacked
from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.json_text import parse_json

SUFFIX = ".safetensors"
FORMAT = "rcdp model 1"
# Fields that are texts already.
TEXTS = ("role", "settings", "link", "shards")
# Metadata that are no fields of a model.
FORMAT_KEY, AXES, DIGEST = "format", "axes", "sha256"
SCALE = ".int8_scale"
EXPORT_AGAIN = "Export it again (`rcdp export`)."

Arrays = dict[str, NDArray[Any]]


def write_safetensors(model: Path, path: Path) -> None:
    """Write a model file in the format safetensors, atomically.

    Parameters
    ----------
    model : Path
        A ``model.pt``.
    path : Path
        The file to write.

    Raises
    ------
    InputError
        If the package safetensors is not installed.
    DataDamagedError
        If the model file is damaged.
    """
    save = import_extra("safetensors.numpy", SUFFIX).save
    fields, quantized = unpacked(Fields(str(model), checkpoint.load(model), ""))
    codes = {_joined(name): one for name, one in quantized.items()}
    arrays: Arrays = {}
    for group in GROUPS:
        for name, tensor in fields.tensors(group).items():
            arrays[f"{group}.{name}"] = tensor.contiguous().numpy()
    for name, one in codes.items():
        arrays |= {name: one.codes.copy(), name + SCALE: one.scale}
    metadata = {FORMAT_KEY: FORMAT, AXES: json.dumps({name: one.axis for name, one in codes.items()})}
    for name, value in fields.content.items():
        if name not in (*GROUPS, "packed", FORMAT_KEY):
            metadata[name] = value if name in TEXTS else json.dumps(value)
    content = save(arrays, {**metadata, DIGEST: _digest(metadata, arrays)})
    write_atomic(path, lambda file: file.write(content))


def read_safetensors(path: Path) -> ModelFile:
    """Read a model that `write_safetensors` wrote.

    Raises
    ------
    InputError
        If there is no such file, or the package safetensors is not installed.
    DataDamagedError
        If the file is truncated or altered, or does not hold a model.
    """
    metadata, arrays = _read(path)
    if metadata.get(FORMAT_KEY) != FORMAT:
        raise DataDamagedError(f"{path}: has no metadatum {FORMAT_KEY} = {FORMAT!r}: `rcdp export` did not write it.")
    if metadata.pop(DIGEST, "") != _digest(metadata, arrays):
        raise DataDamagedError(
            f"{path}: its SHA-256 differs from the one recorded in it: it was altered. {EXPORT_AGAIN}"
        )
    fields = Fields(str(path), metadata, EXPORT_AGAIN)
    quantized = fields.converted(AXES, lambda axes: _quantized(parse_json(axes), arrays))
    content: dict[str, Any] = {group: {} for group in GROUPS}
    for joined, array in {**arrays, **{name: one.dense() for name, one in quantized.items()}}.items():
        group, _, name = joined.partition(".")
        if group not in GROUPS:
            raise DataDamagedError(f"{path}: has a tensor {joined!r}, which is not one of a model. {EXPORT_AGAIN}")
        content[group][name] = torch.from_numpy(array)
    for name in metadata.keys() - {FORMAT_KEY, AXES, *GROUPS}:
        content[name] = metadata[name] if name in TEXTS else fields.converted(name, parse_json)
    file = ModelFile.of(Fields(str(path), content, EXPORT_AGAIN))
    return replace(file, quantized={_own(name): one for name, one in quantized.items()})


def _read(path: Path) -> tuple[dict[str, str], Arrays]:
    """Return metadata and arrays of a file."""
    package = import_extra("safetensors", SUFFIX)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    try:
        with package.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except package.SafetensorError as error:
        raise DataDamagedError(f"{path}: is truncated or damaged ({error}). {EXPORT_AGAIN}") from None


def _quantized(axes: Mapping[str, int], arrays: Arrays) -> dict[str, Quantized]:
    """Take codes and scales from the arrays; return the tensors of 8 bits by their joined names."""
    return {name: Quantized(arrays[name], arrays.pop(name + SCALE), axis) for name, axis in axes.items()}


def _joined(name: str) -> str:
    """Return the name of a tensor in the file, from its name among the quantised tensors of a `ModelFile`."""
    return name.replace("/", ".", 1) if name.startswith(tuple(f"{group}/" for group in GROUPS)) else f"weights.{name}"


def _own(joined: str) -> str:
    """Return the name of a tensor among the quantised tensors of a `ModelFile`, from its name in the file."""
    group, _, name = joined.partition(".")
    return name if group == "weights" else f"{group}/{name}"


def _digest(metadata: Mapping[str, str], arrays: Arrays) -> str:
    """Return the digest of metadata and tensors, which does not depend on their order."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
