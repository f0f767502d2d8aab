"""Storage of samples in the shards: number format, scaling and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import Source, to_float
from rcdp_hpc.errors import InputError

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "uint8": np.dtype("u1"),
}


@dataclass(frozen=True)
class Storage:
    """Number format of stored samples.

    Attributes
    ----------
    kind : {"float32", "float16", "uint8"}
        Number format.
    scale : float
        Value = stored number * scale; 1 for floats.
    compression : {"none", "lzf", "gzip"}
        Filter of the dataset ``x``.
    """

    kind: str = "float32"
    scale: float = 1.0
    compression: str = "none"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the dataset ``x``."""
        return DTYPES[self.kind]

    def encode(self, x: NDArray[np.float32]) -> NDArray[Any]:
        """Return values in the stored number format, rounded to the nearest.

        Raises
        ------
        InputError
            If a value is too large for float16.
        """
        if self.kind == "uint8":
            return np.rint(x / np.float32(self.scale)).clip(0, 255).astype(np.uint8)
        if self.kind == "float16":
            with np.errstate(over="ignore"):
                stored = x.astype(self.dtype)
            if not np.isfinite(stored).all():
                raise InputError(
                    "data.storage = 'float16' holds values up to 65504, and some values are larger: set 'float32'."
                )
            return stored
        return x

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return stored samples as values."""
        if self.kind == "uint8":
            return to_float(stored, self.scale)
        return stored.astype(np.float32, copy=False)

    def rounded(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values as they are after writing and reading."""
        return x if self.kind == "float32" else self.decode(self.encode(x))

    def clipped(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values clipped to the range of the stored numbers: bytes 0 to 255."""
        return x.clip(0, np.float32(255 * self.scale)) if self.kind == "uint8" else x

    def tolerance(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far a stored value may be from the exact one: about half the distance of stored numbers."""
        if self.kind == "uint8":
            return np.full_like(x, 0.5001 * self.scale)
        if self.kind == "float16":
            return np.abs(x) * np.float32(2**-10) + np.float32(2**-23)
        return np.zeros_like(x)


# Samples as values.
VALUES = Storage()


def storage_of(data: DataSection, source: Source) -> Storage:
    """Return the storage of the samples of a source.

    Raises
    ------
    InputError
        If ``data.storage`` is "uint8" and the source does not hold bytes.
    """
    kind = data.storage
    holds_bytes = source.dtype == np.uint8 and source.standardization is None
    if kind == "auto":
        kind = "uint8" if holds_bytes else "float32"
    if kind == "uint8" and not holds_bytes:
        content = "standardised values" if source.dtype == np.uint8 else f"{source.dtype}"
        raise InputError(f"data.storage = 'uint8' needs a source of bytes, this one holds {content}: set 'float32'.")
    return Storage(kind, source.scale if kind == "uint8" else 1.0, data.compression)


def storage_of_index(index: dict[str, Any]) -> Storage:
    """Return the storage that an index.json records; its first version had only float32."""
    return Storage(**index["storage"]) if "storage" in index else Storage()
