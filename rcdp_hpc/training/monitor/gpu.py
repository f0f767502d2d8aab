"""How busy a rank's GPU is, and what it holds: looked at now and then while an epoch runs."""

from __future__ import annotations

import logging
import threading

import numpy as np
import torch

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25


class GpuGauge:
    """Measures from its making to `close`.

    Parameters
    ----------
    where : torch.device
        A GPU.
    """

    _silent = False

    def __init__(self, where: torch.device) -> None:
        self.where = where
        self.percents: list[float] = []
        torch.cuda.reset_peak_memory_stats(where)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if not GpuGauge._silent:
            self._thread.start()

    def _look(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self.percents.append(float(torch.cuda.utilization(self.where)))
            except Exception as error:  # the driver's library has errors of its own, and no training fails for them
                GpuGauge._silent = True
                log.warning("how busy the GPU is cannot be told (gpu_percent): %s: %s", type(error).__name__, error)
                return

    def close(self) -> tuple[float | None, float]:
        """Return the mean share of time in which it computed, in percent, and the most memory torch took, in MiB.

        The share is None where the driver does not tell, or the epoch was too short to look.
        """
        self._closed.set()
        if self._thread.ident:
            self._thread.join()
        percent = float(np.mean(self.percents)) if self.percents else None
        return percent, torch.cuda.max_memory_allocated(self.where) / 2**20
