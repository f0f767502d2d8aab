"""Checks of the reservoir's settings before anything expensive: its connections, and the user's own code."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from rcdp_hpc.config import Config, ReservoirSection, largest_candidate
from rcdp_hpc.config.choices import is_user_class
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import unscaled_matrix
from rcdp_hpc.reservoir.random_streams import Part
from rcdp_hpc.reservoir.topology import topology_of

# With this number of connections per neuron random matrices without a cycle do not occur.
SURE_DEGREE = 4
# Drawing the connections of more neurons takes seconds; then the stage that needs them reports the error.
LARGEST_DRAWN = 10_000


def check_reservoir(config: Config) -> None:
    """Check that the reservoir, or the largest that the search may propose, has the connections it needs.

    The user's own kernel and activations are imported and checked, too, if torch is installed.

    Parameters
    ----------
    config : Config

    Raises
    ------
    InputError
        If it has no connection, or no cycle although ``reservoir.scaling = "spectral_radius"`` needs one, or if the
        user's own kernel or activation cannot be imported or breaks its contract.
    """
    settings = config.reservoir
    if settings.kind != "none":
        _check_user_code(config)
    if settings.kind != "random" or settings.matrices:
        return
    space = config.search.space
    searched = [name for name in ("density", "nodes") if config.has_search and getattr(space, name) is not None]
    if searched:
        if config.search.evaluation == "function":  # the user's function may use them in any way
            return
        settings = largest_candidate(config).reservoir
    for part in _parts(settings):
        _check_part(settings, part, searched)


def _check_user_code(config: Config) -> None:
    activation, kernel = config.search.space.activation, config.reservoir.kernel
    choices = activation.choices if activation is not None and config.has_search else None
    names = [name for name in (config.reservoir.activation, *(choices or ())) if is_user_class(str(name))]
    if is_user_class(kernel) and config.reservoir.kind == "diagonal":
        raise InputError(
            f"reservoir.kernel = {kernel!r}: kernels of your own compute reservoir.kind = 'random', and "
            "reservoir.kind = 'diagonal' uses only a kernel's number format: set reservoir.kernel = 'auto'"
        )
    if not (names or is_user_class(kernel)) or find_spec("torch") is None:
        return
    # Only here, since the preparation runs without torch.
    from rcdp_hpc.reservoir.activations import load_activation
    from rcdp_hpc.reservoir.kernels.load import check_named

    for name in names:
        load_activation(str(name))
    if is_user_class(kernel):
        check_named(kernel)


def _parts(settings: ReservoirSection) -> list[Part]:
    scans, layers = range(max(1, len(settings.scans))), range(settings.layers)
    return [(scan, layer) if scan or layer else () for scan in scans for layer in layers]


def _check_part(settings: ReservoirSection, part: Part, searched: Sequence[str]) -> None:
    if settings.weights == "orthogonal":
        return
    topology = topology_of(settings)
    count = topology.count(settings)
    if not count:
        raise InputError(_no_connections(settings, searched))
    scaled = settings.scaling == "spectral_radius"
    if not (scaled and topology.may_lack_cycle) or settings.nodes > LARGEST_DRAWN:
        return
    if count < SURE_DEGREE * settings.nodes and not has_cycle(unscaled_matrix(settings, part)):
        raise InputError(_no_cycle(settings, searched))


def has_cycle(matrix: scipy.sparse.csr_array) -> bool:
    """Return whether the connections have a cycle; without one the spectral radius is 0."""
    if matrix.diagonal().any():
        return True
    blocks, _ = connected_components(matrix, directed=True, connection="strong")
    return bool(blocks < matrix.shape[0])


def _no_connections(settings: ReservoirSection, searched: Sequence[str]) -> str:
    remedy = _remedy(settings, searched)
    return f"{_density(settings, searched)} leaves {_nodes(settings, searched)} without any connection: {remedy}."


def _no_cycle(settings: ReservoirSection, searched: Sequence[str]) -> str:
    return (
        f"{_density(settings, searched)} leaves {_nodes(settings, searched)} without a cycle of connections, so that "
        f"the reservoir has no spectral radius to scale by: {_remedy(settings, searched)}, or set reservoir.topology = "
        "'ring'."
    )


def _density(settings: ReservoirSection, searched: Sequence[str]) -> str:
    if "density" in searched:
        return f"search.space.density: its largest value, {settings.density:g},"
    return f"reservoir.density = {settings.density:g}"


def _nodes(settings: ReservoirSection, searched: Sequence[str]) -> str:
    return f"{settings.nodes} nodes" + (" (the most of search.space.nodes)" if "nodes" in searched else "")


def _remedy(settings: ReservoirSection, searched: Sequence[str]) -> str:
    """Return what to change: the density with three connections per neuron, or else the number of neurons."""
    density, nodes = (f"{'search.space' if key in searched else 'reservoir'}.{key}" for key in ("density", "nodes"))
    enough = 3 / settings.nodes
    if enough > 1:
        return f"raise {nodes} = {settings.nodes} (usual: 100 to 2000)"
    digits = float(np.format_float_positional(enough, precision=2, fractional=False, unique=False))
    return f"raise {density} (about {digits:g} gives each node three connections) or {nodes}"
