"""Samples in their stored number format on a device, which makes values of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.data.shards.storage import Storage


def values_on(device: torch.device, storage: Storage, stored: NDArray[Any]) -> torch.Tensor:
    """Return stored samples as values, float32, on a device: the bits of `Storage.decode`.

    The samples are copied to the device as they are stored, and become values there. Stored values are not copied on a
    CPU.

    Parameters
    ----------
    device : torch.device
    storage : Storage
    stored : numpy.ndarray
        Samples of the storage's dtype.
    """
    values = torch.from_numpy(stored).to(device, non_blocking=True).to(torch.float32)
    return values.mul_(float(np.float32(storage.scale))) if storage.kind == "uint8" else values
