"""The figures that the paper reports. They are shown in columns of their own and never mixed with measured ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """A row of a table of the paper.

    Attributes
    ----------
    accuracy : float
        Between 0 and 1.
    hours : float
    """

    accuracy: float
    hours: float


# Tables 3 and 4, by data set and by the name of the method in `rcdp_hpc.config.choices.methods`.
METHODS = {
    "cifar10": {
        "mfo": Reported(0.889, 3.2),
        "woa-lstm": Reported(0.825, 10.0),
        "wpd-avoa-delm": Reported(0.850, 6.0),
        "pso-lstm": Reported(0.843, 8.0),
    },
    "mnist": {
        "mfo": Reported(0.965, 2.9),
        "woa-lstm": Reported(0.729, 12.0),
        "wpd-avoa-delm": Reported(0.796, 7.5),
        "pso-lstm": Reported(0.825, 9.6),
    },
}
# Table 5, CIFAR-10, with and without the reservoir.
RESERVOIR = {"cifar10": {True: Reported(0.889, 3.2), False: Reported(0.852, 6.8)}}
