"""The source of a candidate's states: its reservoir, or the sequences themselves."""

from __future__ import annotations

from collections.abc import Sequence

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.identity_source import IdentitySource
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache

# The ranks of a group add the rows of a candidate in turn. Without states to compute, each partition is longer than the
# one before it by this factor at most.
LARGEST_GROWTH = 2.0
# Cost of an operation of a float64 rank-k update, in operations of a float32 product.
DOUBLE_COST = 4.0


def candidate_source(
    settings: ReservoirSection,
    sample_shape: Sequence[int],
    device: str,
    cache: MatrixCache,
    extracted: FeatureShape | None = None,
) -> Reservoir | IdentitySource:
    """Return the source of a candidate's states.

    Parameters
    ----------
    settings : ReservoirSection
        With the candidate's values.
    sample_shape : sequence of int
        Shape of one sample.
    device : str
        Device that computes the states.
    cache : MatrixCache
        Matrices of earlier candidates.
    extracted : FeatureShape, optional
        Order of the features of a sample if an extractor computed them.

    Raises
    ------
    CandidateError
        If the reservoir cannot be built.
    """
    sequencer = Sequencer.of(settings)
    if settings.kind == "none":
        source = IdentitySource(settings, sequencer, sample_shape, device)
        if extracted is not None:
            source.feature_shape = source.feature_shape._replace(raw=extracted.raw, bands=extracted.bands)
        return source
    steps, features = sequencer.shape(sample_shape)
    is_cached = settings.kind == "random" and settings.is_plain
    matrices = cache.matrices(settings, input_features(settings, features)) if is_cached else None
    kernel = "dense-fp32" if settings.kernel == "auto" else settings.kernel
    return Reservoir(settings, features, kernel, device, matrices, steps)


def partition_growth(source: Reservoir | IdentitySource, steps: int) -> float:
    """Return how much longer a rank's partition is than the one before, so that no rank waits for the Gram sums.

    It is longer by the time that the rank before needs to add its rows to the sums.
    """
    states = 2 * steps * source.nodes**2 if isinstance(source, Reservoir) else 0
    added = DOUBLE_COST * source.width**2
    return 1 + added / states if states else LARGEST_GROWTH
