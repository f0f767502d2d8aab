"""A reservoir that reads the codes of a dictionary of image patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rcdp_hpc.config import ExtractorSection, ReservoirSection
from rcdp_hpc.networks.dictionary import PatchDictionary
from rcdp_hpc.networks.dictionary_learning import learn
from rcdp_hpc.networks.learned_source import LearnedSource, TrainingSamples
from rcdp_hpc.reservoir.identity_source import IdentitySource
from rcdp_hpc.reservoir.kept_steps import check_length
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir

# Bytes of float32 that one map of codes may take on a device with memory of its own.
DEVICE_MAP_BYTES = 2**28
PATCHES_PER_SAMPLE = 20


class DictionarySource(LearnedSource):
    """A reservoir that reads the sequences of a `PatchDictionary`; without a reservoir, the sequences themselves.

    The dictionary is fixed before the training, so that states are computed once and cached.

    Parameters
    ----------
    settings : ReservoirSection
        ``kernel = "auto"`` becomes dense-fp32, because the calibration knows only sequences that are cut from samples.
    extractor : ExtractorSection
    sample_shape : sequence of int
        Shape of one sample.
    device : torch.device

    Attributes
    ----------
    learned : PatchDictionary
        Its values are zeros until they are learned or loaded.
    feature_shape, width, batch_rows, dtype, device, kernel, sequencer
        As of `rcdp_hpc.reservoir.identity_source.StateSource`.
    """

    learned: PatchDictionary
    learned_name = "dictionary"
    file_name = "dictionary.pt"

    def __init__(
        self, settings: ReservoirSection, extractor: ExtractorSection, sample_shape: Sequence[int], device: torch.device
    ) -> None:
        self.settings = settings
        self.device = device
        self.sequencer = Sequencer()
        self.learned = PatchDictionary(extractor, sample_shape).to(device)
        if device.type != "cpu":
            self.learned.cut_work(DEVICE_MAP_BYTES)
        steps, features = self.learned.steps, self.learned.features
        self.inner: Reservoir | IdentitySource
        if settings.kind == "none":
            self.inner = IdentitySource(settings, Sequencer(), (steps, features), device)
        else:
            check_length(settings, steps)
            kernel = "dense-fp32" if settings.kernel == "auto" else settings.kernel
            self.inner = Reservoir(settings, features, kernel, device, steps=steps)
        self.feature_shape = self.inner.feature_shape
        self.width = self.inner.width
        self.batch_rows = self.inner.batch_rows
        self.dtype = self.inner.dtype
        self.kernel = self.inner.kernel

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return the features of raw samples (rows, *sample_shape); parameters as `Reservoir.drive`."""
        samples = torch.as_tensor(np.asarray(x)).to(self.device, torch.float32)
        return self.inner.states(self.learned(samples), out, noisy=noisy)

    def states(self, u: Any, out: Tensor | None = None) -> Tensor:
        """Return the features of samples that are cut by rows, (rows, height, width · channels)."""
        return self.drive(u, out=out)

    def learn(self, samples: TrainingSamples, seed: int) -> tuple[dict[str, Tensor], str]:
        """Learn the dictionary; as `LearnedSource.learn`."""
        settings = self.learned.settings
        dictionary = PatchDictionary(settings, samples.sample_shape)
        rows = samples.rows(math.ceil(settings.patches / PATCHES_PER_SAMPLE))
        learn(dictionary, torch.from_numpy(rows), seed)
        return dictionary.state_dict(), (
            f"dictionary of {settings.atoms} atoms learned from {settings.patches} patches of {len(rows)} training rows"
        )
