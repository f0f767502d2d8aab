"""A reservoir that reads the codes of a dictionary of image patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rcdp_hpc.config import ExtractorSection, ReservoirSection
from rcdp_hpc.networks.dictionary import PatchDictionary
from rcdp_hpc.networks.dictionary_learning import learn
from rcdp_hpc.networks.learned_source import LearnedSource, TrainingSamples
from rcdp_hpc.networks.map_source import MapSource

# Bytes of float32 that one map of codes may take on a device with memory of its own.
DEVICE_MAP_BYTES = 2**28
PATCHES_PER_SAMPLE = 20


class DictionarySource(MapSource, LearnedSource):
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
        self.learned = PatchDictionary(extractor, sample_shape)
        if device.type != "cpu":
            self.learned.cut_work(DEVICE_MAP_BYTES)
        super().__init__(settings, self.learned, device)

    def learn(self, samples: TrainingSamples, seed: int) -> tuple[dict[str, Tensor], str]:
        """Learn the dictionary; as `LearnedSource.learn`."""
        settings = self.learned.settings
        dictionary = PatchDictionary(settings, samples.sample_shape)
        rows = samples.rows(math.ceil(settings.patches / PATCHES_PER_SAMPLE))
        learn(dictionary, torch.from_numpy(rows), seed)
        return dictionary.state_dict(), (
            f"dictionary of {settings.atoms} atoms learned from {settings.patches} patches of {len(rows)} training rows"
        )
