"""The random matrices of the reservoir (eq. 3, 6 and 7): NumPy and SciPy only.

Every matrix is a function of ``reservoir.seed`` and of the values it is built from, and of nothing else.
Candidates that differ in one value share all the random numbers behind it: the connections of a sparser
reservoir are a subset of those of a denser one, and a connection present in both has the same weight
before scaling. Differences in fitness then come from the values and not from the draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigs
from threadpoolctl import threadpool_limits

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.random_streams import Part, distributed, stream, symmetric
from rcdp_hpc.reservoir.topology import cycle_jump_places, orthogonal_matrix, ring_places, small_world_places

DRAWN_AT_ONCE = 1 << 21
DENSE_BELOW = 200
DENSE_AT_MOST = 2000
RADIUS_DIGITS = 9
# Above DENSE_AT_MOST neurons: a looser, faster search, and digits that it is sure of.
LARGE_DIGITS = 7


@dataclass(frozen=True)
class ReservoirMatrices:
    """The fixed parameters of eq. 9.

    Attributes
    ----------
    recurrent : scipy.sparse.csr_array, shape (nodes, nodes), float64
        Connection matrix C.
    input : numpy.ndarray, shape (nodes, features), float64
        Input weights W_in.
    bias : numpy.ndarray, shape (nodes,), float64
        Biases b_in.
    mixing : numpy.ndarray, shape (nodes, 2 · memory_units), float64, optional
        Of kind = "diagonal" (see `rcdp_hpc.reservoir.diagonal`), whose `recurrent` and `input` are those of the memory.
    """

    recurrent: scipy.sparse.csr_array
    input: NDArray[np.float64]
    bias: NDArray[np.float64]
    mixing: NDArray[np.float64] | None = None


def reservoir_matrices(settings: ReservoirSection, features: int, part: Part = ()) -> ReservoirMatrices:
    """Build all matrices of a reservoir.

    Parameters
    ----------
    settings : ReservoirSection
        The section ``[reservoir]``, a candidate's values already in it.
    features : int
        Features per step of the input sequence.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first.

    Returns
    -------
    ReservoirMatrices

    Raises
    ------
    CandidateError
        If the connection matrix cannot be given the spectral radius.
    InputError
        If ``feature_scaling`` has another length than there are features.
    """
    weights = scaled_input_weights(settings, features, part)
    check_feature_scaling(settings, features)
    if settings.feature_scaling:
        weights = weights * np.array(settings.feature_scaling)
    bias = biases(settings.nodes, settings.bias_scaling, settings.seed, part)
    return ReservoirMatrices(connection_matrix(settings, part), weights, bias)


def check_feature_scaling(settings: ReservoirSection, features: int) -> None:
    """Raise an `InputError` if ``feature_scaling`` has not one factor for each of the features of a step."""
    if settings.feature_scaling and len(settings.feature_scaling) != features:
        raise InputError(
            f"reservoir.feature_scaling has {len(settings.feature_scaling)} factors, but a step has {features} "
            "features: give one factor for each"
        )


def connection_matrix(settings: ReservoirSection, part: Part = ()) -> scipy.sparse.csr_array:
    """Build the connection matrix C (eq. 3, 6 and 7): a mask times random weights, rescaled.

    With ``topology = "random"`` the mask holds exactly round(density · nodes²) connections: those with the smallest
    of nodes² random scores. With ``scaling = "spectral_radius"`` the weights are rescaled so that the largest
    eigenvalue modulus is ``spectral_radius`` (to 1e-8 of it up to 2000 nodes, to 1e-6 above); with ``"weight_scale"``
    they are multiplied by w, so uniform in [-w, w] where ``weights = "uniform"``.

    Parameters
    ----------
    settings : ReservoirSection
        Of it are used: nodes, density, topology, rewiring, jump, weights, scaling, spectral_radius, weight_scale, seed.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first.

    Returns
    -------
    scipy.sparse.csr_array, shape (nodes, nodes), float64
        Row i holds the weights of the connections into neuron i.

    Raises
    ------
    CandidateError
        If there are no connections, or no cycle among them where a spectral radius is asked for.
    """
    nodes, density = settings.nodes, settings.density
    matrix = unscaled_matrix(settings, part)
    if matrix.nnz == 0:
        raise CandidateError(
            f"reservoir.density = {density:g} leaves {nodes} nodes without any connection: "
            "raise reservoir.density or reservoir.nodes"
        )
    if settings.scaling == "weight_scale":
        matrix.data *= settings.weight_scale
        return matrix
    radius = 1.0 if settings.weights == "orthogonal" else spectral_radius(matrix)
    if radius == 0:
        raise CandidateError(
            f"the connection matrix has no cycle, so no spectral radius: reservoir.density = {density:g} is "
            f"too small for {nodes} nodes; raise one of the two"
        )
    matrix.data *= settings.spectral_radius / radius
    return matrix


def unscaled_matrix(settings: ReservoirSection, part: Part) -> scipy.sparse.csr_array:
    """Return the mask times the weights as they are drawn."""
    nodes, density, seed = settings.nodes, settings.density, settings.seed
    if settings.weights == "orthogonal":
        return orthogonal_matrix(nodes, density, seed, part)
    if settings.topology == "random":
        count = round(density * nodes * nodes)
        if count == 0:
            return scipy.sparse.csr_array((nodes, nodes))
        places, weights = _smallest_scores(nodes, count, seed, part)
    else:
        if settings.topology == "ring":
            places = ring_places(nodes)
        elif settings.topology == "cycle-jumps":
            places = cycle_jump_places(nodes, settings.jump)
        else:
            places = small_world_places(nodes, density, settings.rewiring, seed, part)
        weights = symmetric(stream("weights", seed, part), places.size)
    return _to_csr(places, distributed(weights, settings.weights), nodes)


def scaled_input_weights(settings: ReservoirSection, features: int, part: Part = ()) -> NDArray[np.float64]:
    """Return the input weights W_in that the settings ask for, before ``feature_scaling``, shape (nodes, features).

    With ``input_normalised`` they are divided by sqrt(k · v), k inputs of a neuron, v the variance of the distribution
    (1/3 if uniform): inputs of deviation 1 then give W_in · u the deviation ``input_scaling``, whatever their number.
    """
    weights = input_weights(
        settings.nodes, features, settings.input_scaling, settings.seed,
        distribution=settings.input_weights, density=settings.input_density, part=part,
    )  # fmt: skip
    if settings.input_normalised:
        variance = 1 / 3 if settings.input_weights == "uniform" else 1.0
        weights /= np.sqrt(_inputs_kept(features, settings.input_density) * variance)
    return weights


def _inputs_kept(features: int, density: float) -> int:
    """Return how many inputs a neuron keeps."""
    return max(1, round(density * features)) if density < 1 else features


def input_weights(
    nodes: int,
    features: int,
    input_scaling: float,
    seed: int,
    distribution: str = "uniform",
    density: float = 1.0,
    part: Part = (),
) -> NDArray[np.float64]:
    """Return the input weights W_in, shape (nodes, features).

    They are uniform in [-input_scaling, input_scaling), or input_scaling times another distribution; below density 1
    each neuron keeps the round(density · features) inputs with the smallest random scores, at least one.
    """
    drawn = symmetric(stream("input", seed, part), nodes * features).reshape(nodes, features)
    weights = input_scaling * distributed(drawn, distribution)
    if density < 1:
        scores = stream("input_mask", seed, part).random_raw(nodes * features).reshape(nodes, features)
        order = np.argsort(scores, axis=1, kind="stable")
        np.put_along_axis(weights, order[:, _inputs_kept(features, density) :], 0.0, axis=1)
    return weights


def biases(nodes: int, bias_scaling: float, seed: int, part: Part = ()) -> NDArray[np.float64]:
    """Return the biases b_in, uniform in [-bias_scaling, bias_scaling], shape (nodes,)."""
    return bias_scaling * symmetric(stream("bias", seed, part), nodes)


def leak_rates(settings: ReservoirSection, part: Part = ()) -> NDArray[np.float64] | None:
    """Return each neuron's leak rate, log-uniform in [leak_low, leak]; None if all have ``leak``.

    Parameters
    ----------
    settings : ReservoirSection
        Of it are used: nodes, leak, leak_low, seed.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first.

    Returns
    -------
    numpy.ndarray, shape (nodes,), float64, or None

    Raises
    ------
    CandidateError
        If ``leak`` is below ``leak_low``.
    """
    low, high = settings.leak_low, settings.leak
    if not low:
        return None
    if high < low:
        raise CandidateError(
            f"reservoir.leak = {high:g} is below reservoir.leak_low = {low:g}: lower reservoir.leak_low, or set it to 0"
        )
    drawn = (symmetric(stream("leak", settings.seed, part), settings.nodes) + 1) / 2
    return np.clip(low * (high / low) ** drawn, low, high)


def spectral_radius(matrix: scipy.sparse.csr_array) -> float:
    """Return the largest eigenvalue modulus of a square matrix, rounded to 9 significant digits (7 above 2000 rows).

    The eigenvalues of a matrix are those of its strongly connected blocks, so each block is looked at by
    itself: what lies between them is nilpotent, and would only spoil the accuracy. A matrix without a
    cycle has radius 0 exactly. The rounding takes away the digits in which BLAS libraries and thread
    counts differ, and with them any difference between the matrices that are rescaled by it.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array, shape (n, n)

    Returns
    -------
    float

    Raises
    ------
    CandidateError
        If ARPACK does not converge on a block of more than 2000 neurons.
    """
    with threadpool_limits(1):  # products this small lose by threads, and would round in another order
        radius = _largest_radius(matrix)
    digits = RADIUS_DIGITS if matrix.shape[0] <= DENSE_AT_MOST else LARGE_DIGITS
    return float(f"{radius:.{digits - 1}e}")


def _largest_radius(matrix: scipy.sparse.csr_array) -> float:
    """Return the largest of the radii of the strongly connected blocks."""
    _, labels = connected_components(matrix, directed=True, connection="strong")
    sizes = np.bincount(labels)
    loops = np.abs(matrix.diagonal())
    radius = float(loops[sizes[labels] == 1].max(initial=0.0))
    for block in np.flatnonzero(sizes > 1):
        inside = np.flatnonzero(labels == block)
        part = matrix if inside.size == matrix.shape[0] else matrix[inside][:, inside]
        radius = max(radius, _block_radius(part))
    return radius


def _block_radius(block: scipy.sparse.csr_array) -> float:
    """Return the largest eigenvalue modulus of a strongly connected block."""
    size = block.shape[0]
    if block.nnz == size:  # one cycle through all: its eigenvalues lie on a circle, where ARPACK never converges
        return float(np.exp(np.log(np.abs(block.data)).mean())) if np.all(block.data) else 0.0
    if size < DENSE_BELOW:
        return _dense_radius(block)
    # Close moduli (the eigenvalues of a random matrix fill a disc) need several eigenvalues and a wide basis.
    start = np.random.Generator(np.random.PCG64(0)).uniform(0.5, 1.5, size)
    wanted: dict[str, Any] = {"k": 6, "ncv": 150, "maxiter": 1000, "tol": 1e-11}
    if size > DENSE_AT_MOST:
        wanted = {"k": 8, "ncv": 100, "maxiter": 1000, "tol": 1e-6}  # with fewer, the largest was missed
    try:
        values = eigs(block, v0=start, return_eigenvectors=False, **wanted)
    except ArpackError as error:
        if size <= DENSE_AT_MOST:
            return _dense_radius(block)
        raise CandidateError(
            f"the spectral radius of {size} connected neurons could not be found ({error}): change "
            "reservoir.density or reservoir.seed, or take reservoir.scaling = 'weight_scale'"
        ) from None
    return float(np.abs(values).max())


def _dense_radius(block: scipy.sparse.csr_array) -> float:
    return float(np.abs(np.linalg.eigvals(block.toarray())).max())


def _smallest_scores(nodes: int, count: int, seed: int, part: Part) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the places (row · nodes + column, ascending) with the smallest scores, and their weights.

    Only scores below a bound just above the expected threshold are held, so the memory is that of the
    connections and not of nodes² scores.
    """
    total = nodes * nodes
    share = count / total
    margin = 8 * np.sqrt(share * (1 - share) / total) + 1 / total
    while True:
        bound = np.uint64(min(int((share + margin) * 2.0**64), 2**64 - 1))
        places, scores, weights = _scores_up_to(bound, total, seed, part)
        if places.size >= count:
            break
        margin *= 4
    if places.size > count:
        kept = np.sort(np.argpartition(scores, count - 1)[:count])
        places, weights = places[kept], weights[kept]
    return places, weights


def _scores_up_to(
    bound: np.uint64, total: int, seed: int, part: Part
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]]:
    """Draw `total` scores and weights piece by piece and return those with a score of at most `bound`."""
    mask, weight = stream("mask", seed, part), stream("weights", seed, part)
    found: list[tuple[NDArray[Any], ...]] = []
    for start, length in _pieces(total):
        scores = mask.random_raw(length)
        inside = np.flatnonzero(scores <= bound)
        found.append((inside + start, scores[inside], symmetric(weight, length)[inside]))
    places, scores, weights = (np.concatenate(column) for column in zip(*found, strict=True))
    return places, scores, weights


def _pieces(total: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, DRAWN_AT_ONCE):
        yield start, min(DRAWN_AT_ONCE, total - start)


def _to_csr(places: NDArray[np.int64], weights: NDArray[np.float64], nodes: int) -> scipy.sparse.csr_array:
    rows, columns = np.divmod(places, nodes)
    starts = np.zeros(nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=nodes), out=starts[1:])
    index = np.int32 if places.size < 2**31 else np.int64
    parts = (weights, columns.astype(index), starts.astype(index))
    return scipy.sparse.csr_array(parts, shape=(nodes, nodes))
