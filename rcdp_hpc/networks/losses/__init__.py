"""Losses of the training and their links to probabilities; `rcdp_hpc.config.choices.losses` lists them."""

from __future__ import annotations

from rcdp_hpc.networks.losses.base import Loss
from rcdp_hpc.networks.losses.load import has_own_link, load_loss, loss_of

__all__ = ["Loss", "has_own_link", "load_loss", "loss_of"]
