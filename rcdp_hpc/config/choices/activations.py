"""Activations of the reservoir's neurons: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

ACTIVATIONS = ChoiceTable(
    "reservoir.activation",
    (
        Choice("tanh", "hyperbolic tangent (paper, eq. 9)"),
        Choice("sigmoid", "logistic function (paper, Table 2)"),
        Choice("relu", "max(0, x)"),
        Choice("identity", "linear"),
    ),
)
