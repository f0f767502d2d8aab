"""Reservoirs that read reduced samples: principal components, or some of the features, learned from training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rcdp_hpc.config import ExtractorSection, ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.feature_selection import select_features
from rcdp_hpc.networks.input_maps import FeatureSelection, InputMap, LinearMap
from rcdp_hpc.networks.learned_source import LearnedSource, TrainingSamples
from rcdp_hpc.networks.map_source import MapSource
from rcdp_hpc.networks.principal_components import principal_components


class InputMapSource(MapSource, LearnedSource):
    """A reservoir that reads the sequences of an `InputMap`; without a reservoir, the sequences themselves.

    Parameters
    ----------
    settings : ReservoirSection
        ``kernel = "auto"`` becomes dense-fp32, because the calibration knows only sequences that are cut from samples.
    extractor : ExtractorSection
    learned : InputMap
        Its values are learned or loaded later.
    device : torch.device

    Attributes
    ----------
    feature_shape, width, batch_rows, dtype, device, kernel, sequencer
        As of `rcdp_hpc.reservoir.identity_source.StateSource`.
    """

    learned: InputMap

    def __init__(
        self, settings: ReservoirSection, extractor: ExtractorSection, learned: InputMap, device: torch.device
    ) -> None:
        self.extractor_settings = extractor
        self.learned = learned
        super().__init__(settings, learned, device)

    def learned_from(self) -> Mapping[str, Any]:
        """Return how samples are cut; the rest is in section [extractor]."""
        return {} if self.learned.sequencer is None else {"sequence": asdict(self.learned.sequencer)}

    def _refuse_infinite(self, samples: np.ndarray) -> None:
        if not np.isfinite(samples).all():
            kind = self.extractor_settings.kind
            raise InputError(f"extractor.kind = {kind!r}: training samples contain values that are not finite")


class PcaSource(InputMapSource):
    """A reservoir that reads principal components; parameters as `InputMapSource`."""

    learned: LinearMap
    learned_name = "principal components"
    file_name = "pca.pt"

    def learn(self, samples: TrainingSamples, seed: int) -> tuple[dict[str, Tensor], str]:
        """Learn the components; as `LearnedSource.learn`."""
        rows, _ = samples.originals(self.extractor_settings.fit_rows)
        self._refuse_infinite(rows)
        steps = self.learned.cut(torch.from_numpy(rows)).flatten(0, 1)
        found = principal_components(steps.numpy(), self.learned.features, self.extractor_settings.whiten)
        state = {"mean": torch.from_numpy(found.mean).float(), "matrix": torch.from_numpy(found.matrix).float()}
        return state, (
            f"{self.learned.features} principal components of {self.learned.inputs} values keep "
            f"{100 * found.share:.2f} % of the variance of {len(rows)} training samples; learned"
        )


class SelectionSource(InputMapSource):
    """A reservoir that reads some of the features; parameters as `InputMapSource`."""

    learned: FeatureSelection
    learned_name = "selection of features"
    file_name = "selection.pt"

    def learn(self, samples: TrainingSamples, seed: int) -> tuple[dict[str, Tensor], str]:
        """Select the features; as `LearnedSource.learn`."""
        settings = self.extractor_settings
        rows, labels = samples.labelled(settings.fit_rows)
        self._refuse_infinite(rows)
        steps = self.learned.cut(torch.from_numpy(rows)).numpy()
        found = select_features(steps, labels, settings.components, settings.method, seed)
        return {"chosen": torch.from_numpy(found.features)}, (
            f"{settings.components} of {self.learned.inputs} features selected ({settings.method}): squared error of "
            f"held-out training samples {found.error:.4g}, with all features {found.error_of_all:.4g}; selected from "
            f"{len(rows)} training samples"
        )
