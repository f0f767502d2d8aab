"""A reservoir with fewer nodes: the connections, input weights and biases of the nodes that stay."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices, reservoir_matrices
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.reservoir.matrix_files import arrays_of, read_matrices, write_run_copy
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.sequencing import Sequencer


def node_groups(shape: FeatureShape) -> NDArray[np.int64]:
    """Return the features of each node in a sample's row, shape (nodes, features of a node), int64."""
    numbers = np.arange(shape.features).reshape(shape.parts * shape.steps, shape.width)
    return np.ascontiguousarray(numbers.T)


def refuse_fixed_nodes(config: Config) -> None:
    """Raise an `InputError` if nodes cannot be removed from the reservoir of a configuration."""
    reservoir = config.reservoir
    for key, is_set, remedy in (
        (f"reservoir.kind = {reservoir.kind!r}", reservoir.kind != "random", "only a random reservoir has nodes that"),
        (f"reservoir.layers = {reservoir.layers}", reservoir.layers > 1, "only a single reservoir has nodes that"),
        (f"reservoir.scans = {reservoir.scans}", len(reservoir.scans) > 1, "only a single reservoir has nodes that"),
        (
            f"extractor.kind = {config.extractor.kind!r}",
            config.extractor.kind != "none",
            "only a reservoir that reads the samples themselves has nodes that",
        ),
        (
            f"reservoir.leak_low = {reservoir.leak_low:g}",
            reservoir.leak_low > 0,
            "leak rates are drawn for each node in turn, so only nodes with one leak rate",
        ),
    ):
        if is_set:
            raise InputError(f"unit = 'nodes' with {key}: {remedy} can be removed; choose unit = 'features'")


def smaller_reservoir(
    config: Config, sample_shape: Sequence[int], kept: NDArray[np.int64], path: Path
) -> dict[str, Any]:
    """Write the matrices of the nodes that stay, and return the settings of the smaller reservoir by dotted key.

    The states of the nodes that stay change, because those that are removed no longer drive them: a readout has to be
    solved or trained again.

    Parameters
    ----------
    config : Config
        Settings of the reservoir.
    sample_shape : sequence of int
        Shape of one sample.
    kept : numpy.ndarray, shape (k,), int64
        Nodes that stay.
    path : Path
        Where the matrices are written (`rcdp_hpc.reservoir.matrix_files`): the run's own copy, or a file that
        ``reservoir.matrices`` of a new run names.

    Raises
    ------
    InputError
        If nodes cannot be removed from this reservoir, or no node stays.
    """
    refuse_fixed_nodes(config)
    reservoir = config.reservoir
    nodes = np.unique(np.asarray(kept, dtype=np.int64))
    if not len(nodes) or nodes[0] < 0 or nodes[-1] >= reservoir.nodes:
        raise InputError(f"nodes to keep: expected some of 0 to {reservoir.nodes - 1}")
    _, features = Sequencer.of(reservoir).shape(sample_shape)
    inputs = input_features(reservoir, features)
    if reservoir.matrices:
        matrices = read_matrices(reservoir.matrices, reservoir.nodes, inputs)
    else:
        matrices = reservoir_matrices(reservoir, inputs)
    smaller = ReservoirMatrices(
        matrices.recurrent.tocsr()[nodes][:, nodes].tocsr(), matrices.input[nodes], matrices.bias[nodes]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_run_copy(path, smaller, _digest(smaller))
    return {
        "reservoir.nodes": len(nodes),
        "reservoir.matrices": str(path),
        # These are in the matrices already.
        "reservoir.input_normalised": False,
        "reservoir.feature_scaling": [],
    }


def _digest(matrices: ReservoirMatrices) -> str:
    """Return the SHA-256 of the matrices, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, array in arrays_of(matrices).items():
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
