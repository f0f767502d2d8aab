"""Activations of the reservoir's neurons and of the readout's units: one line for each."""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable


@dataclass(frozen=True)
class ActivationChoice(Choice):
    """An activation of the table.

    Attributes
    ----------
    positive : bool
        Whether all its values are above 0, so that shares of positive states say nothing.
    """

    positive: bool = False


_OF = "rcdp_hpc.reservoir.activations"

ACTIVATIONS = ChoiceTable(
    "reservoir.activation",
    (
        ActivationChoice("tanh", "hyperbolic tangent (paper, eq. 9)", f"{_OF}.tanh:Tanh"),
        ActivationChoice("sigmoid", "logistic function (paper, Table 2)", f"{_OF}.sigmoid:Sigmoid", positive=True),
        ActivationChoice("relu", "max(0, x)", f"{_OF}.relu:Relu"),
        ActivationChoice("identity", "linear", f"{_OF}.identity:Identity"),
    ),
    user_class="a function or class of your own (docs/extending.md)",
)

READOUT_ACTIVATIONS = ChoiceTable(
    "readout.activation",
    (
        Choice("relu", "max(0, x) (paper, eq. 11), or a leaky ReLU", f"{_OF}.relu:Relu", ("readout.relu_slope",)),
        Choice("tanh", "hyperbolic tangent", f"{_OF}.tanh:Tanh"),
        Choice("sigmoid", "logistic function", f"{_OF}.sigmoid:Sigmoid"),
        Choice("identity", "linear", f"{_OF}.identity:Identity"),
    ),
    user_class="a function or class of your own (docs/extending.md)",
)


def is_positive(name: object) -> bool:
    """Return whether all values of an activation of the table are above 0; False for a user's own."""
    return any(choice.name == name and getattr(choice, "positive", False) for choice in ACTIVATIONS)
