"""Checks of the reservoir's settings before anything expensive: its connections, and the user's own code."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from rcdp_hpc.config import Config, ReservoirSection
from rcdp_hpc.config.choices import is_user_class
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import unscaled_matrix
from rcdp_hpc.reservoir.random_streams import Part

# With this many connections per neuron a random matrix without a cycle does not occur.
SURE_DEGREE = 4
# Beyond it drawing the connections takes seconds; the stage itself reports what is wrong then.
NODES_AT_MOST = 10_000


def check_reservoir(config: Config) -> None:
    """Check that the reservoir, or the densest one that the search may propose, has the connections it needs.

    The user's own kernel and activations are imported and checked, too, if torch is installed.

    Parameters
    ----------
    config : Config

    Raises
    ------
    InputError
        If it has no connection, or no cycle although ``reservoir.scaling = "spectral_radius"`` needs one; if a kernel
        or an activation of the user's own cannot be imported or breaks its contract.
    """
    settings, searched = config.reservoir, None
    if settings.kind != "none":
        _check_user_code(config)
    if settings.kind != "random" or settings.matrices:
        return
    space = config.search.space
    if config.has_search and space.density is not None:
        if config.search.evaluation == "function":  # it may make of the density what it likes
            return
        section = space.density
        searched = section.high if section.choices is None else max(section.choices)  # type: ignore[type-var]
        settings = settings.model_copy(update={"density": float(searched or 0)})
    for part in _parts(settings):
        _check_part(settings, part, searched is not None)


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


def _check_part(settings: ReservoirSection, part: Part, searched: bool) -> None:
    nodes, density = settings.nodes, settings.density
    count = round(density * nodes * nodes)
    scaled = settings.scaling == "spectral_radius" and settings.weights != "orthogonal"
    if settings.topology == "random" and settings.weights != "orthogonal":
        if not count:
            raise InputError(_no_connections(settings, searched))
        if scaled and count < SURE_DEGREE * nodes and nodes <= NODES_AT_MOST:
            matrix = unscaled_matrix(settings, part)
            if not has_cycle(matrix):
                raise InputError(_no_cycle(settings, searched))
    elif settings.topology == "small-world" and not min(round(density * nodes), nodes - 1):
        raise InputError(_no_connections(settings, searched))


def has_cycle(matrix: scipy.sparse.csr_array) -> bool:
    """Return whether a neuron of a connection matrix reaches itself: without one the spectral radius is 0."""
    if matrix.diagonal().any():
        return True
    blocks, _ = connected_components(matrix, directed=True, connection="strong")
    return bool(blocks < matrix.shape[0])


def _no_connections(settings: ReservoirSection, searched: bool) -> str:
    density, way_out = _density(settings, searched), _way_out(settings, searched)
    return f"{density} leaves {settings.nodes} nodes without any connection: {way_out}."


def _no_cycle(settings: ReservoirSection, searched: bool) -> str:
    return (
        f"{_density(settings, searched)} leaves {settings.nodes} nodes without a cycle of connections, so that the "
        f"reservoir has no spectral radius to scale by: {_way_out(settings, searched)}, or take reservoir.topology = "
        "'ring'."
    )


def _density(settings: ReservoirSection, searched: bool) -> str:
    if searched:
        return f"search.space.density: its largest value, {settings.density:g},"
    return f"reservoir.density = {settings.density:g}"


def _way_out(settings: ReservoirSection, searched: bool) -> str:
    """Return which density is enough: one with three connections per neuron, if there is such a density."""
    key = "search.space.density" if searched else "reservoir.density"
    enough = 3 / settings.nodes
    if enough > 1:
        return f"raise reservoir.nodes = {settings.nodes} (usual: 100 to 2000)"
    digits = float(np.format_float_positional(enough, precision=2, fractional=False, unique=False))
    return f"raise {key} (about {digits:g} gives each node three connections) or reservoir.nodes"
