"""A short training, or the solution, of the readout in one process, with which the search evaluates a candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.networks.sample_rng import EpochKeys, SampleRng
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.training.optim.gradients import add_penalty, clip, shrink
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.optim.optimizers import make_optimizer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve.candidate_solution import CandidateRows, solved_scores


def fit_readout(
    features: torch.Tensor,
    feature_shape: FeatureShape,
    labels: torch.Tensor,
    validation_features: torch.Tensor,
    *,
    config: Config,
    classes: int,
    epochs: int,
    seed: int,
    validation_labels: torch.Tensor,
    before_step: Callable[[], object] = lambda: None,
    class_names: tuple[str, ...] = (),
) -> NDArray[np.float64]:
    """Train a readout for a few epochs, or solve it, and return what approximates one-hot on the validation rows.

    The features stay on their device, where everything is computed; labels follow them. One number is read from it per
    epoch.

    Parameters
    ----------
    features : torch.Tensor, shape (rows, width)
        States of the training rows.
    feature_shape : FeatureShape
        Layout of the states of a sample in its row.
    labels : torch.Tensor, shape (rows,), int64
        Class indices of the training rows.
    validation_features : torch.Tensor, shape (validation rows, width)
        States of the validation rows.
    config : Config
        Sections ``readout``, ``loss``, ``optimizer``, ``partition`` and ``training``. The learning rate is constant.
    classes, epochs, seed : int
        Number of classes; epochs; seed of weights, shuffles and dropout.
    validation_labels : torch.Tensor, shape (validation rows,), int64
        Class indices of the validation rows. They choose the ridge penalty of a readout that is solved.
    before_step : callable
        Called before each step or block of rows; an error that it raises ends the training.
    class_names : tuple of str
        For ``readout.ridge_criterion``; empty if they are not known.

    Returns
    -------
    ndarray, shape (validation rows, classes), float64
        `Loss.driven`: the probabilities, or with eq. 12 the scores. Of a readout that is solved, the scores.

    Raises
    ------
    CandidateError
        If the loss is not finite, or the readout cannot be solved.
    """
    if not config.readout.trained:
        given = CandidateRows(features, labels, validation_features, validation_labels, classes, class_names)
        return solved_scores(config, given, feature_shape, seed, before_step)
    device = features.device
    labels, validation_features = labels.to(device), validation_features.to(device)
    network = build_readout(config, feature_shape, classes, seed)
    network.to(device)
    wide = features.double()
    network.standardise(wide.sum(0), (wide * wide).sum(0), len(labels))
    optimizer = make_optimizer(config, network)
    trained = list(network.parameters())
    plan = BatchPlan(len(labels), config.training.batch, config.partition.count, rank=0, ranks=1, seed=seed)
    # Classes without a row among these have no effect; 1 avoids a division by 0.
    objective = Objective(config, np.bincount(labels.cpu().numpy(), minlength=classes).clip(1))
    keys = EpochKeys(seed, device) if config.readout.dropout else None
    for epoch in range(epochs):
        if keys is not None:
            keys.begin(epoch)
        for rows in _batches(plan, epoch, device):
            before_step()
            draw = None if keys is None else SampleRng(keys, rows)
            value = objective.sum(network(features[rows].float(), draw), labels[rows])
            optimizer.zero_grad()
            (value / objective.weights(labels[rows]).sum()).backward()
            add_penalty(trained, config.loss.l2)
            clip(trained, config.optimizer.clip_norm)
            optimizer.step()
            shrink(optimizer, trained, config.loss.l1)
        if not torch.isfinite(value):
            raise CandidateError(f"the readout's loss is {value.item()} after epoch {epoch + 1}")
    network.eval()
    with torch.no_grad():
        scores: torch.Tensor = network(validation_features.float())
    return np.asarray(objective.loss.driven(scores.double()).cpu().numpy())


def _batches(plan: BatchPlan, epoch: int, device: torch.device) -> Sequence[torch.Tensor]:
    """Return the rows of each step of an epoch, which are copied to the device together."""
    orders = plan.orders(epoch)
    batches = [plan.batch(orders, step) for step in range(plan.steps)]
    return torch.from_numpy(np.concatenate(batches)).to(device).split([len(rows) for rows in batches])
