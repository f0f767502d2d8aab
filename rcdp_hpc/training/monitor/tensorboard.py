"""The metrics of a training as event files of TensorBoard: optional, on rank 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import os_errors_explained


class TensorBoardWriter:
    """Writes event files of TensorBoard.

    Parameters
    ----------
    folder : Path
        The folder of the event files.
    epoch : int
        The first epoch to write. TensorBoard discards what an earlier job wrote about this and later epochs.

    Raises
    ------
    InputError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                f"training.tensorboard = true needs TensorBoard, which cannot be imported ({error}): install it with "
                "`pip install -c constraints.txt tensorboard`, or set it to false; metrics.jsonl has the same numbers."
            ) from None
        with os_errors_explained(folder):
            self.writer = SummaryWriter(str(folder), purge_step=epoch)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Write the metrics of an epoch, a line of ``metrics.jsonl``; a list over ranks is replaced by its mean."""
        for name, value in entry.items():
            if isinstance(value, Mapping):
                for path, number in _flat(name, value):
                    self.writer.add_scalar(path, number, entry["epoch"])
            elif name != "epoch":
                measured = [number for number in np.atleast_1d(value) if number is not None]
                self.writer.add_scalar(name, float(np.mean(measured)), entry["epoch"])
        self.writer.flush()


def _flat(path: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings and lists, each with its path."""
    if not isinstance(value, Mapping | list):
        yield path, float(value)
        return
    for name, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _flat(f"{path}/{name}", inner)
