"""Optimisers of the training: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

OPTIMIZERS = ChoiceTable(
    "optimizer.kind",
    (
        Choice("adam", "Adam (paper)"),
        Choice("adamw", "Adam with decoupled weight decay"),
        Choice("sgd", "stochastic gradient descent with momentum"),
        Choice("lamb", "LAMB, for very large batches"),
        Choice("muon", "Muon, which needs few epochs"),
    ),
)
