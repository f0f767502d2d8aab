"""Networks: readouts, those that are trained together with an extractor, ensembles; and the links to probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch

from rcdp_hpc.config import Config
from rcdp_hpc.deploy.export.lowering.builder import Builder, Weights
from rcdp_hpc.deploy.export.lowering.convolutions import lower_convolutions, lower_normalised
from rcdp_hpc.deploy.export.lowering.readouts import lower_elm, lower_mlp, lower_ridge
from rcdp_hpc.deploy.export.lowering.reservoirs import lower_reservoir
from rcdp_hpc.deploy.export.lowering.step_readouts import lower_convolution, lower_gru, lower_lstm, lower_transformer
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.augment import views_of
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.convolutions import Convolutions
from rcdp_hpc.networks.end_to_end import EndToEnd
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.networks.losses.rms import LEAST_SCORE
from rcdp_hpc.networks.readouts.ridge import LEAST_SHARE
from rcdp_hpc.networks.readouts.solved_ensemble import SolvedEnsemble

# By ``readout.kind``. A solved readout returns z, which approximates one-hot classes, any other one class scores.
READOUTS: dict[str, Callable[..., str]] = {
    "ridge": lower_ridge,
    "network": lower_mlp,
    "elm": lower_elm,
    "lstm": lower_lstm,
    "gru": lower_gru,
    "transformer": lower_transformer,
    "convolution": lower_convolution,
}


def lower_probabilities(
    builder: Builder, config: Config, network: Network, weights: Weights, x: str
) -> tuple[str, str]:
    """Append what `Network.probabilities` does to `x`: features, or samples of a trained extractor.

    Returns
    -------
    probabilities : str
    z : str
        Of a single readout that is solved: what approximates one-hot classes; empty for others.

    Raises
    ------
    InputError
        If a part of the network has no operations.
    """
    if isinstance(network, EndToEnd) and network.changes.several_views:
        views = _views(builder, network, x)
        linked = [_linked(builder, config, _scores(builder, config, network, weights, view)) for _, view in views]
        return builder.op("weighted_sum", *linked, weights=[weight for weight, _ in views]), ""
    if not isinstance(network, Ensemble):
        single = _scores(builder, config, network, weights, x)
        return _linked(builder, config, single), "" if config.readout.trained else single
    scores = []
    for number, member in enumerate(network.members):
        score = _scores(builder, config, cast(Network, member), weights.part(f"members.{number}"), x)
        if not config.readout.trained:
            score = builder.op("activation", score, name="clip", low=LEAST_SHARE, high=None)
            score = builder.op("activation", score, name="log")
        scores.append(score)
    mean = builder.op("weighted_sum", *scores, weights=[1 / len(scores)] * len(scores))
    return _linked(builder, config, mean) if config.readout.trained else builder.op("softmax", mean), ""


def _scores(builder: Builder, config: Config, network: Network, weights: Weights, x: str) -> str:
    """Return the class scores of one network; of a solved readout, or the mean of several, z."""
    if isinstance(network, SolvedEnsemble):
        members = [
            _scores(builder, config, cast(Network, member), weights.part(f"members.{number}"), x)
            for number, member in enumerate(network.members)
        ]
        return builder.op("weighted_sum", *members, weights=[1 / len(members)] * len(members))
    if not isinstance(network, EndToEnd):
        if config.readout.kind not in READOUTS:
            raise InputError(f"readout.kind = {config.readout.kind!r} has no operations and cannot be exported")
        return READOUTS[config.readout.kind](builder, config.readout, network, weights, x)
    module = network.extractor
    if not isinstance(module, Convolutions):
        raise InputError(f"extractor.kind = {config.extractor.kind!r} has no operations and cannot be exported")
    shape, activation = network.sample_shape, config.extractor.activation
    x = lower_normalised(builder, weights, x, shape)
    u = lower_convolutions(builder, module, weights.part("extractor"), activation, x, shape)
    if network.reservoir is not None:
        states = lower_reservoir(builder, network.reservoir.reservoir, u)
    else:
        states = builder.op("reshape", u.name, shape=[u.steps * u.features])
    return _scores(builder, config, network.readout, weights.part("readout"), states)


def _views(builder: Builder, network: EndToEnd, x: str) -> list[tuple[float, str]]:
    """Return the views of images over which predictions are averaged, with their weights."""
    height, width = network.sample_shape[:2]
    places = torch.arange(height * width).view(1, height, width)
    views = []
    for weight, view in views_of(places, network.changes):
        name = x
        lines = ((1, view[0, :, 0] // width, height), (2, view[0, 0] % width, width))
        for axis, order, length in lines:
            if order.tolist() != list(range(length)):
                name = builder.op("gather", name, builder.constant("view", np.asarray(order), np.int64), axis=axis)
        views.append((weight, name))
    return views


def _linked(builder: Builder, config: Config, scores: str) -> str:
    """Append the link of the loss from class scores to probabilities; of a solved readout its positive part."""
    if not config.readout.trained:
        return builder.op("shares", scores, least=LEAST_SHARE, shift=False)
    if config.loss.kind == "eq12":
        return builder.op("shares", scores, least=LEAST_SCORE, shift=True)
    return builder.op("softmax", scores)
