"""Whether a kernel of 16 bits is precise enough for a reservoir, compared with float32.

A reservoir that forgets its past also forgets rounding errors; in other reservoirs they grow. So the decision depends
on the reservoir. Two numbers are measured on training samples:

- the state error |s - s'| / |s - mean(s)|, root mean squares over rows and features, with s computed in float32 and s'
  by the kernel;
- the error ratio E' / E of two ridge readouts, fitted to s' and s on half of the rows; E is the mean squared error on
  the other half.

docs/method.md has the measurements from which the limits were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.config import Config, ReservoirSection, largest_candidate
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.ridge import one_hot
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir

LARGEST_STATE_ERROR = 0.2
LARGEST_ERROR_RATIO = 1.05
ROWS = 1024
# A larger reservoir is measured with this number of neurons, and with at least this number of connections per neuron.
LARGEST_NODES, LEAST_CONNECTIONS = 1000, 20
PENALTY = 1e-4
# Settings with which rounding errors grow: measured at the largest value that the search may propose.
GROWING = ("spectral_radius", "weight_scale", "input_scaling", "leak")


@dataclass(frozen=True)
class Rounding:
    """The effect of a kernel's rounding on a reservoir.

    Attributes
    ----------
    state_error : float
    error_ratio : float
        Both as defined at the top of this module.
    """

    state_error: float
    error_ratio: float

    @property
    def visible(self) -> bool:
        """Whether ``reservoir.kernel = "auto"`` must not choose the kernel."""
        return not (self.state_error <= LARGEST_STATE_ERROR and self.error_ratio <= LARGEST_ERROR_RATIO)


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
        Name of a kernel of 16 bits.
    x : numpy.ndarray, shape (rows, ...)
        Samples that drive the reservoir.
    y : numpy.ndarray, shape (rows,), int
        Class numbers.
    lengths : array of int, shape (rows,), optional
        Entries of each padded sample's first axis that hold data.
    device : str
        A torch device.

    Returns
    -------
    Rounding
        Infinite if the reservoir cannot be built or states are not finite.

    Raises
    ------
    InputError
        If the samples do not fit the reservoir.
    """
    settings = _smaller(settings)
    steps, features = Sequencer.of(settings).shape(x.shape[1:])
    try:
        exact, rounded = (
            Reservoir(settings, features, name, device, steps=steps).compute(x, lengths=lengths)
            for name in ("dense-fp32", kernel)
        )
    except CandidateError:
        return Rounding(np.inf, np.inf)
    expected, states = exact.double().cpu().numpy(), rounded.double().cpu().numpy()
    deviation = np.sqrt(np.mean((expected - expected.mean(0)) ** 2))
    distance = np.sqrt(np.mean((states - expected) ** 2))
    targets = one_hot(y, int(y.max()) + 1).astype(np.float64)
    errors = [_held_out_error(each, targets) for each in (expected, states)]
    return Rounding(float(distance / max(deviation, 1e-30)), errors[1] / max(errors[0], 1e-30))


def furthest(config: Config) -> ReservoirSection:
    """Return the reservoir with the largest values, and of the largest size, that the search may give it."""
    space = config.search.space
    largest: dict[str, Any] = {}
    for name in GROWING:
        bounds = getattr(space, name) if config.search.generations else None
        if bounds is not None:
            largest[name] = bounds.largest
    return largest_candidate(config).reservoir.model_copy(update=largest)


def _smaller(settings: ReservoirSection) -> ReservoirSection:
    """Return the settings with at most 1000 nodes, unless the spectral radius depends on the number of nodes."""
    if settings.nodes <= LARGEST_NODES or settings.matrices or settings.scaling == "weight_scale":
        return settings
    changes: Mapping[str, Any] = {
        "nodes": LARGEST_NODES,
        "density": max(settings.density, LEAST_CONNECTIONS / LARGEST_NODES),
    }
    return settings.model_copy(update=changes)


def _held_out_error(states: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Return the mean squared error on every second row of a ridge readout that is fitted to the other rows.

    It is solved in dual form, W = Xc' (Xc·Xc' + alpha · n · I)^-1 Yc, since there are fewer rows than features.
    """
    fitted, held_out = states[::2], states[1::2]
    mean_x, mean_y = fitted.mean(0), targets[::2].mean(0)
    centred = fitted - mean_x
    kernel = centred @ centred.T
    kernel[np.diag_indices_from(kernel)] += PENALTY * len(centred)
    dual = np.linalg.solve(kernel, targets[::2] - mean_y)
    predicted = (held_out - mean_x) @ (centred.T @ dual) + mean_y
    return float(np.mean((predicted - targets[1::2]) ** 2))
