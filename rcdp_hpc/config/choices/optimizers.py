"""Optimisers of the training: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

_PACKAGE = "rcdp_hpc.training.optim.optimizers"

OPTIMIZERS = ChoiceTable(
    "optimizer.kind",
    (
        Choice("adam", "Adam (paper)", f"{_PACKAGE}.adam:Adam"),
        Choice("adamw", "Adam with decoupled weight decay", f"{_PACKAGE}.adamw:AdamW"),
        Choice(
            "sgd",
            "stochastic gradient descent with momentum",
            f"{_PACKAGE}.sgd:SGD",
            keys=("optimizer.momentum", "optimizer.nesterov"),
        ),
        Choice("lamb", "LAMB, for very large batches", f"{_PACKAGE}.lamb:Lamb"),
        Choice("muon", "Muon, which needs few epochs", f"{_PACKAGE}.muon:Muon", keys=("optimizer.momentum",)),
    ),
    user_class="a torch.optim.Optimizer of your own, or of torch (docs/extending.md)",
)
