"""A short training of the readout in one process: how the search judges learning rate, ReLU slope and width."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.training.optim.gradients import add_penalties, clip
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.optim.optimizers import make_optimizer
from rcdp_hpc.training.partition.batches import BatchPlan


def fit_readout(
    features: torch.Tensor,
    kept: FeatureShape,
    labels: torch.Tensor,
    validation_features: torch.Tensor,
    *,
    config: Config,
    classes: int,
    epochs: int,
    seed: int,
    before_step: Callable[[], object] = lambda: None,
) -> NDArray[np.float64]:
    """Train a readout for a few epochs and return its class probabilities on the validation rows.

    Parameters
    ----------
    features : torch.Tensor, shape (rows, kept * nodes)
        States of the rows to fit.
    kept : FeatureShape
        How the states of a sample lie in its row.
    labels : torch.Tensor, shape (rows,), int64
        Their class numbers.
    validation_features : torch.Tensor, shape (validation rows, kept * nodes)
        States of the rows to judge by.
    config : Config
        Loss, batch, optimiser, widths, slope. The learning rate stays constant.
    classes, epochs, seed : int
        Number of classes; passes over the rows; seed of weights and shuffles.
    before_step : callable
        Called before each step; what it raises ends the training.

    Returns
    -------
    ndarray, shape (validation rows, classes), float64
        Probabilities (softmax of the scores).

    Raises
    ------
    CandidateError
        If the loss is no longer finite.
    """
    network = build_readout(config, kept, classes, seed)
    wide = features.double()
    network.standardise(wide.sum(0), (wide * wide).sum(0), len(labels))
    optimizer, trained = make_optimizer(config, network), list(network.parameters())
    plan = BatchPlan(len(labels), config.training.batch, config.partition.count, rank=0, ranks=1, seed=seed)
    # A class that these few rows lack needs no weight.
    objective = Objective(config, np.bincount(labels.cpu().numpy(), minlength=classes).clip(1))
    for epoch in range(epochs):
        orders = plan.orders(epoch)
        for step in range(plan.steps):
            before_step()
            rows = torch.from_numpy(plan.batch(orders, step))
            draw = SampleRng(seed, epoch, rows) if config.readout.dropout else None
            value = objective.sum(network(features[rows].float(), draw), labels[rows])
            optimizer.zero_grad()
            (value / objective.weights(labels[rows]).sum()).backward()
            add_penalties(trained, config.loss.l1, config.loss.l2)
            clip(trained, config.optimizer.clip_norm)
            optimizer.step()
        if not torch.isfinite(value):
            raise CandidateError(f"the readout's loss is {value.item()} after epoch {epoch + 1}")
    network.eval()
    with torch.no_grad():
        scores: torch.Tensor = network(validation_features.float())
    return np.asarray(torch.softmax(scores.double(), 1).numpy())
