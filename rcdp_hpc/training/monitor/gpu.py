"""Utilisation and memory of a rank's GPU, sampled by a thread during an epoch."""

from __future__ import annotations

import logging
import threading

import numpy as np
import torch

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 0.25


class GpuGauge:
    """Measures a GPU from the constructor to `close`.

    Parameters
    ----------
    device : torch.device
        A GPU.
    """

    # Set if the driver cannot report the utilisation, so that the warning appears once.
    _unavailable = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.percents: list[float] = []
        torch.cuda.reset_peak_memory_stats(device)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        if not GpuGauge._unavailable:
            self._thread.start()

    def _sample(self) -> None:
        while not self._closed.wait(SAMPLE_SECONDS):
            try:
                self.percents.append(float(torch.cuda.utilization(self.device)))
            except Exception as error:  # the driver's library may raise any error, and the training does not need it
                GpuGauge._unavailable = True
                log.warning(
                    "the utilisation of the GPU cannot be measured (gpu_percent): %s: %s", type(error).__name__, error
                )
                return

    def close(self) -> tuple[float | None, float]:
        """Return the mean utilisation, in percent, and the largest memory that torch allocated, in MiB.

        The utilisation is None if the driver does not report it, or if the epoch was too short for a sample.
        """
        self._closed.set()
        if self._thread.ident:
            self._thread.join()
        percent = float(np.mean(self.percents)) if self.percents else None
        return percent, torch.cuda.max_memory_allocated(self.device) / 2**20
