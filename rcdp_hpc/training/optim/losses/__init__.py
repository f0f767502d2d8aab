"""Losses of the training, one file each; `rcdp_hpc.config.choices.losses` lists them."""

from __future__ import annotations

from rcdp_hpc.training.optim.losses.base import Loss
from rcdp_hpc.training.optim.losses.load import load_loss

__all__ = ["Loss", "load_loss"]
