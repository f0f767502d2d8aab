"""Whether a kernel of 16 bits is precise enough for a reservoir: its states and its readout beside float32's.

Rounding is forgotten by a reservoir that forgets its past and grows in one that does not, so it is the reservoir that
decides, not the kernel. Two numbers are measured on samples of the run's own training rows:

- the state error, |s - s'| / |s - mean(s)|, root mean squares over rows and features: s by float32, s' by the kernel;
- the error ratio E' / E of ridge readouts, each fitted to its own states of one half of the rows and judged by its mean
  squared error on the other half.

docs/method.md has the measurements behind the bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.config import Config, ReservoirSection
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.ridge import one_hot
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir

STATE_ERROR_AT_MOST = 0.2
ERROR_RATIO_AT_MOST = 1.05
ROWS = 1024
NODES_AT_MOST, CONNECTIONS_AT_LEAST = 1000, 20
PENALTY = 1e-4
# What makes a reservoir remember, or drives it harder: judged where the search may go furthest.
GROWING = ("spectral_radius", "weight_scale", "input_scaling", "leak")


@dataclass(frozen=True)
class Rounding:
    """What the rounding of a kernel does to a reservoir.

    Attributes
    ----------
    state_error, error_ratio : float
        As in the module's text.
    """

    state_error: float
    error_ratio: float

    @property
    def visible(self) -> bool:
        """Whether the kernel must not be taken unasked."""
        return not (self.state_error <= STATE_ERROR_AT_MOST and self.error_ratio <= ERROR_RATIO_AT_MOST)


def measure_rounding(
    settings: ReservoirSection,
    kernel: str,
    x: NDArray[Any],
    y: NDArray[Any],
    lengths: ArrayLike | None = None,
    device: str = "cpu",
) -> Rounding:
    """Compare a kernel with dense-fp32 on samples.

    Parameters
    ----------
    settings : ReservoirSection
        The reservoir; a large one is measured with 1000 nodes.
    kernel : str
        One of 16 bits.
    x : ndarray, shape (rows, ...)
        Samples as they drive the reservoir.
    y : ndarray of int, shape (rows,)
        Class numbers.
    lengths : array of int, shape (rows,), optional
        Of padded samples.
    device : str
        A torch device.

    Returns
    -------
    Rounding
        Infinite where there is no such reservoir, or states are not finite.

    Raises
    ------
    InputError
        If the samples do not fit the reservoir.
    """
    settings = _smaller(settings)
    _, features = Sequencer.of(settings).shape(x.shape[1:])
    try:
        exact, rounded = (
            Reservoir(settings, features, name, device).compute(x, lengths=lengths) for name in ("dense-fp32", kernel)
        )
    except CandidateError:
        return Rounding(np.inf, np.inf)
    expected, found = exact.double().cpu().numpy(), rounded.double().cpu().numpy()
    spread = np.sqrt(np.mean((expected - expected.mean(0)) ** 2))
    distance = np.sqrt(np.mean((found - expected) ** 2))
    targets = one_hot(y, int(y.max()) + 1).astype(np.float64)
    errors = [_held_out_error(states, targets) for states in (expected, found)]
    return Rounding(float(distance / max(spread, 1e-30)), errors[1] / max(errors[0], 1e-30))


def furthest(config: Config) -> ReservoirSection:
    """Return the reservoir with the largest values that the search may give it."""
    space, largest = config.search.space, {}
    for name in GROWING:
        bounds = getattr(space, name) if config.search.generations else None
        if bounds is not None:
            largest[name] = bounds.high if bounds.choices is None else max(bounds.choices)
    return config.reservoir.model_copy(update=largest)


def _smaller(settings: ReservoirSection) -> ReservoirSection:
    """Return settings of at most 1000 nodes with the same spectral radius; others stay, where the size decides it."""
    if settings.nodes <= NODES_AT_MOST or settings.matrices or settings.scaling == "weight_scale":
        return settings
    changes: Mapping[str, Any] = {
        "nodes": NODES_AT_MOST,
        "density": max(settings.density, CONNECTIONS_AT_LEAST / NODES_AT_MOST),
    }
    return settings.model_copy(update=changes)


def _held_out_error(states: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Return the mean squared error on every second row of a ridge readout fitted to the others.

    Solved in its dual form, W = Xc' (Xc·Xc' + alpha · n · I)^-1 Yc: there are fewer rows than features.
    """
    fitted, judged = states[::2], states[1::2]
    mean_x, mean_y = fitted.mean(0), targets[::2].mean(0)
    centred = fitted - mean_x
    kernel = centred @ centred.T
    kernel[np.diag_indices_from(kernel)] += PENALTY * len(centred)
    dual = np.linalg.solve(kernel, targets[::2] - mean_y)
    predicted = (judged - mean_x) @ (centred.T @ dual) + mean_y
    return float(np.mean((predicted - targets[1::2]) ** 2))
