"""Checks that the settings of a model file fit its weights and the memory, before memory is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping

import psutil
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.model.fields import refuse_other_shapes
from rcdp_hpc.model.model_file import TRAIN_AGAIN, ModelFile, named_code
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.end_to_end import EndToEnd
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.networks.extractors import Extractor, extractor_of
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.reservoir.kept_steps import prepared_features
from rcdp_hpc.reservoir.kernels import kernel_class
from rcdp_hpc.reservoir.scans import scans_of
from rcdp_hpc.reservoir.states import DEFAULT_BATCH_ROWS
from rcdp_hpc.reservoir.topology import topology_of
from rcdp_hpc.runtime.ram import machine_memory

# Tensors on this device have a shape and use no memory.
NOWHERE = torch.device("meta")


def check_sizes(file: ModelFile) -> None:
    """Raise an error if the settings of a model file do not fit its weights, or need more memory than is available.

    The reservoir is not in the file, since it is generated from its seed; its size is compared with the available
    memory. Classes of users are not instantiated here; their weights are checked after they are instantiated.

    Raises
    ------
    DataDamagedError
        If the weights have other shapes than the settings need.
    StageFailedError
        If reservoir and samples need more memory than is available.
    InputError
        If the settings do not fit the shape of a sample.
    """
    own_code = named_code(file.config)
    if {"extractor.kind", "extractor.model_kind"} & own_code.keys():
        return
    extractor = extractor_of(file.config, file.sample_shape)
    with NOWHERE:
        learned = extractor.learned_part()
        expected = {} if learned is None else learned.state_dict()
        refuse_other_shapes(f"{file.where}: learned", file.learned, expected, TRAIN_AGAIN)
        if not own_code:
            expected = _of_members(_network(file, extractor).state_dict(), file)
            refuse_other_shapes(f"{file.where}: weights", file.weights, expected, TRAIN_AGAIN)
        _check_memory(file, extractor)


def _network(file: ModelFile, extractor: Extractor) -> Network:
    readout = build_readout(file.config, extractor.feature_shape(), len(file.classes), seed=0)
    trained = extractor.trained_part()
    return readout if trained is None else EndToEnd(file.sample_shape, trained, None, readout, file.config.augment)


def _of_members(single: Mapping[str, torch.Tensor], file: ModelFile) -> dict[str, torch.Tensor]:
    """Return the state of the whole network; for an ensemble, the states of all members."""
    members = Ensemble.count(file.weights) if file.config.parallel.replicas == "ensemble" else 0
    if not members:
        return dict(single)
    return {f"members.{number}.{name}": value for number in range(members) for name, value in single.items()}


def _check_memory(file: ModelFile, extractor: Extractor) -> None:
    rows = file.config.reservoir.batch_rows or DEFAULT_BATCH_ROWS
    needed = rows * (12 * math.prod(file.sample_shape) + 8 * extractor.feature_shape().features)
    shape = extractor.sequence_shape()
    if shape is not None and file.config.reservoir.kind != "none":
        needed += reservoir_bytes(file.config.reservoir, shape[1])
    available = min(machine_memory(), psutil.virtual_memory().available)
    if needed > available:
        raise StageFailedError(
            f"{file.where}: declares reservoir.nodes = {file.config.reservoir.nodes}, samples of the shape "
            f"{file.sample_shape} and blocks of {rows} samples, which need at least {needed / 2**30:.1f} GiB, and "
            f"{available / 2**30:.1f} GiB of memory are available. If you trust the file, use a larger machine."
        )


def reservoir_bytes(settings: ReservoirSection, features: int) -> int:
    """Return a lower limit of the bytes that generating a reservoir needs.

    Parameters
    ----------
    settings : ReservoirSection
    features : int
        Features per step of the sequence.
    """
    nodes, total = settings.nodes, 0
    for scan in scans_of(settings):
        inputs = scan.features(prepared_features(settings, features))
        for layer in range(settings.layers):
            total += _layer_bytes(settings, nodes if layer else inputs)
    rows = settings.batch_rows or DEFAULT_BATCH_ROWS
    return total + 8 * rows * nodes


def _layer_bytes(settings: ReservoirSection, inputs: int) -> int:
    nodes = settings.nodes
    if settings.kind == "diagonal":
        units = 2 * settings.memory_units
        return 12 * units * (inputs + nodes)
    connections = topology_of(settings).count(settings)
    # The matrix is generated in float64, then converted to the format of the kernel.
    kernel = kernel_class("dense-fp32" if settings.kernel == "auto" else settings.kernel)
    dense = kernel.dtype.itemsize * nodes**2 if kernel.dense_weights else 0
    return 12 * connections + dense + 12 * nodes * inputs
