"""What a training with weights of 8 bits rounds before it starts, and the codes that its model file gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.model.quantization import quantized_matrices, quantized_tensors, rounded_matrices, rounded_tensors
from rcdp_hpc.networks.learned_source import load_learned
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.reservoir.matrix_files import read_matrices
from rcdp_hpc.reservoir.sequencing import Sequencer


def codes_of_training(config: Config, weights: Mapping[str, torch.Tensor]) -> dict[str, Quantized]:
    """Return the codes of trained weights; empty unless ``training.weight_bits = 8``."""
    return quantized_tensors(weights) if config.training.weight_bits == 8 else {}


def rounded_user_matrices(
    config: Config, sample_shape: Sequence[int]
) -> tuple[ReservoirMatrices | None, dict[str, Quantized]]:
    """Return the user's reservoir matrices rounded to 8 bits, with which the states are computed, and their codes.

    None and no codes unless ``training.weight_bits = 8`` and there are such matrices. Those that follow from a seed are
    not stored, and not rounded.
    """
    reservoir = config.reservoir
    if config.training.weight_bits != 8 or not reservoir.matrices or reservoir.kind == "none":
        return None, {}
    _, features = Sequencer.of(reservoir).shape(tuple(sample_shape))
    matrices = read_matrices(reservoir.matrices, reservoir.nodes, input_features(reservoir, features))
    codes = quantized_matrices(matrices)
    return rounded_matrices(matrices, codes), codes


def round_learned(
    config: Config, source: StateSource, learned: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, Quantized]]:
    """Return what an extractor learned, rounded to 8 bits and loaded into the source, and its codes.

    Unchanged and no codes unless ``training.weight_bits = 8``.
    """
    if config.training.weight_bits != 8 or not learned:
        return dict(learned), {}
    # What the source holds may be the same memory as `learned`, so the codes come first.
    codes = quantized_tensors(learned, "learned/")
    rounded = rounded_tensors(learned, codes, "learned/")
    load_learned(source, rounded)
    return rounded, codes
