"""Optimisers of the training, one file each; `rcdp_hpc.config.choices.optimizers` lists them."""

from __future__ import annotations

from rcdp_hpc.training.optim.optimizers.load import make_optimizer
from rcdp_hpc.training.optim.optimizers.trial import check_optimizer

__all__ = ["check_optimizer", "make_optimizer"]
