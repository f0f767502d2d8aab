"""Models of any kind with random weights, made without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rcdp_hpc.config import load_config
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.model.model_data import ModelData
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.ensemble import Ensemble

BASE = ["search.generations=0", 'reservoir.kernel="dense-fp32"', 'reservoir.sequence="rows"', "reservoir.states=1"]
CLASSES = ["one", "two", "three"]


def made_model(
    settings: Sequence[str],
    sample_shape: Sequence[int],
    standardization: Standardization | None = None,
    scale: float = 1.0,
    members: int = 0,
    profile: str = "digits",
) -> TrainedModel:
    """Return a model of these settings with random weights and running statistics."""
    config = load_config(profile, [*BASE, *settings])
    torch.manual_seed(1)
    device = torch.device("cpu")
    source = make_source(config, sample_shape, device)
    learned = _randomised(source.learned.state_dict()) if hasattr(source, "learned") else {}
    networks = [build_network(config, sample_shape, source, len(CLASSES), seed) for seed in range(max(1, members))]
    network: Any = Ensemble(networks) if members else networks[0]
    return TrainedModel(
        ModelFile(
            config=config, classes=CLASSES, sample_shape=tuple(sample_shape), scale=scale, shards="",
            data=ModelData(standardization=standardization), weights=_randomised(network.state_dict()),
            learned=learned, matrices=None, code={},
        )
    )  # fmt: skip


def _randomised(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state in which nothing has the value that it starts with; scales and variances are positive."""
    result = {}
    for name, value in state.items():
        drawn = torch.rand_like(value, dtype=torch.float32)
        if value.dtype == torch.int64:  # dilations
            result[name] = torch.tensor([1, 1, 2, 3])[torch.arange(len(value)) * 4 // len(value)]
        elif name.endswith(("scale", "running_var", "floor", "norm.weight")):
            result[name] = (0.5 + drawn).to(value.dtype)
        elif name.endswith(("mean", "offset", "biases")) or not bool(value.any()):
            result[name] = (drawn - 0.5).to(value.dtype)
        else:
            result[name] = value
    return result


def samples_of(model: TrainedModel, rows: int = 9, seed: int = 0) -> np.ndarray:
    """Return random raw samples."""
    return np.random.default_rng(seed).normal(0.3, 1, (rows, *model.sample_shape))
