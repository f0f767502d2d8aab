"""The tensors of a model file as one packed field, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.model.fields import Fields, is_plain
from rcdp_hpc.model.packed_tensors import DTYPES, Tensors, pack, unpack, unpacked_bytes
from rcdp_hpc.model.packing import Packing, Quantized
from rcdp_hpc.runtime.ram import machine_memory

FIELD = "packed"
# The fields of a model file that hold tensors.
GROUPS = ("weights", "learned", "matrices")
# A file is packed without being asked for it if that saves this share of the bytes of its tensors, and this many bytes.
LEAST_SHARE = 0.1
LEAST_BYTES = 4096


class Packed(TypedDict):
    """The packed field: the list of tensors (`rcdp_hpc.model.packed_tensors`) and their bytes."""

    layout: str
    bytes: torch.Tensor


def packed(
    tensors: Mapping[str, Mapping[str, torch.Tensor]], packing: Packing, quantized: Mapping[str, Quantized]
) -> tuple[dict[str, dict[str, torch.Tensor]], Packed]:
    """Return the tensors of each field that cannot be packed, and the packed field with the others.

    Parameters
    ----------
    tensors : mapping of str to mapping of str to torch.Tensor
        By field and name.
    packing : Packing
    quantized : mapping of str to Quantized
        By name in ``weights``; tensors of another field by ``learned/NAME`` or ``matrices/NAME``.

    Raises
    ------
    ValueError
        If a quantised tensor has no tensor of its name, or another shape.
    """
    rest: dict[str, dict[str, torch.Tensor]] = {group: {} for group in tensors}
    arrays: dict[str, NDArray[Any]] = {}
    for group, values in tensors.items():
        for name, value in values.items():
            if str(value.dtype).removeprefix("torch.") in DTYPES:
                arrays[_joined(group, name)] = value.detach().numpy()
            else:
                rest[group][name] = value
    codes = {name if "/" in name else _joined("weights", name): one for name, one in quantized.items()}
    if unknown := sorted(codes.keys() - arrays.keys()):
        raise ValueError(f"quantised tensor {unknown[0]} is not a tensor of the model")
    layout, block = pack(arrays, packing, codes)
    return rest, {"layout": layout, "bytes": torch.from_numpy(block.copy())}


def saves_bytes(tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> bool:
    """Return whether storing only the non-zero values of these tensors makes a file clearly smaller."""
    total = sum(value.numel() * value.element_size() for values in tensors.values() for value in values.values())
    zeros = sum(
        (value.numel() - int(torch.count_nonzero(value))) * value.element_size()
        for values in tensors.values() for value in values.values()
    )  # fmt: skip
    # Positions need at most a bit for each value, so half of the values being zeros is always enough.
    return zeros > total / 2 and zeros - total / 32 > max(LEAST_BYTES, LEAST_SHARE * total)


def unpacked(fields: Fields) -> tuple[Fields, dict[str, Quantized]]:
    """Return the fields of a model file with all tensors in their places, and those that are quantised.

    Raises
    ------
    DataDamagedError
        If the packed field does not fit its list of tensors.
    StageFailedError
        If its tensors need more memory than is available.
    """
    if FIELD not in fields.content:
        return fields, {}
    part = fields.part(FIELD)
    layout, block = part.text("layout"), part.content.get("bytes")
    if not is_plain(block) or block.dtype != torch.uint8 or block.ndim != 1:  # type: ignore[union-attr]
        part.refuse("bytes", "a list of bytes")
    needed = part.converted("layout", unpacked_bytes)
    available = min(machine_memory(), psutil.virtual_memory().available)
    if needed > available:
        raise StageFailedError(
            f"{fields.where}: declares tensors of {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory "
            "are available. If you trust the file, use a larger machine."
        )
    tensors: Tensors = part.converted("bytes", lambda content: unpack(layout, np.asarray(content)))
    content = {**fields.content, **{group: dict(fields.field(group, dict, "a table of tensors")) for group in GROUPS}}
    for joined, value in tensors.dense.items():
        group, _, name = joined.partition("/")
        if group not in GROUPS or name in content[group]:
            part.refuse("layout", f"a list of tensors that occur once, in {', '.join(GROUPS)}")
        content[group][name] = torch.from_numpy(value)
    own = {name.removeprefix("weights/"): one for name, one in tensors.quantized.items()}
    return Fields(fields.where, content, fields.remedy), own


def _joined(group: str, name: str) -> str:
    return f"{group}/{name}"
