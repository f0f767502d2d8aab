"""The network of eq. 11 begun as the ridge readout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcdp_hpc.config import LossSection, ReadoutSection, load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.losses import loss_of
from rcdp_hpc.networks.readouts.mlp import MLPReadout
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.ridge import one_hot, score_moments, solve
from rcdp_hpc.training.solve.ridge_fit import RidgeFit
from rcdp_hpc.training.solve.warm_start import warm_start

ROWS, FEATURES, CLASSES = 400, 9, 3


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def fitted(states: torch.Tensor, labels: np.ndarray) -> RidgeFit:
    sums = GramSums(FEATURES, CLASSES)
    sums.add(states, one_hot(labels, CLASSES))
    readout = solve(sums, 1e-3)
    return RidgeFit(readout, 1e-3, 0.0, *score_moments(sums, readout, 1e-3))


def begun(
    states: torch.Tensor, fit: RidgeFit, raw: bool = False, slope: float = 0.0, layers: int = 1, factor: float = 10.0
) -> MLPReadout:
    settings = ReadoutSection(outputs=7, hidden=11, relu_slope=slope, layers=layers)
    network = MLPReadout(settings, FeatureShape(1, 1, FEATURES, raw=raw), CLASSES)
    network.standardise(states.double().sum(0), states.double().square().sum(0), ROWS)
    warm_start(network, fit, factor)
    return network


def test_means_and_deviations_are_those_of_the_scores(rng):
    states = torch.from_numpy(rng.random((ROWS, FEATURES)))
    fit = fitted(states, rng.integers(0, CLASSES, ROWS))
    scores = fit.readout.predict(states).astype(np.float64)
    np.testing.assert_allclose(fit.means, scores.mean(0), atol=1e-6)
    np.testing.assert_allclose(fit.deviations, scores.std(0), rtol=1e-4)


@pytest.mark.parametrize("raw", [False, True], ids=["states", "inputs"])
@pytest.mark.parametrize(("slope", "layers"), [(0.0, 1), (0.2, 1), (0.0, 3), (0.2, 2)])
@pytest.mark.parametrize(("loss", "factor"), [("cross_entropy", 10.0), ("eq12", 1.0)])
def test_the_network_starts_as_the_ridge_readout(rng, slope, layers, raw, loss, factor):
    assert loss_of(LossSection(kind=loss)).warm_start_factor == factor
    labels = rng.integers(0, CLASSES, ROWS)
    states = torch.from_numpy(rng.random((ROWS, FEATURES)) + 0.5 * (labels[:, None] == np.arange(FEATURES))).float()
    fit = fitted(states, labels)
    network = begun(states, fit, raw, slope, layers, factor)
    expected = factor * fit.readout.predict(states)
    with torch.no_grad():
        np.testing.assert_allclose(network.eval()(states), expected, atol=2e-3)
        np.testing.assert_allclose(network.train()(states), expected, atol=2e-3)


@pytest.mark.parametrize("layers", [1, 3])
def test_all_weights_after_a_warm_start_are_trained(rng, layers):
    labels = rng.integers(0, CLASSES, ROWS)
    states = torch.from_numpy(rng.random((ROWS, FEATURES))).float()
    network = begun(states, fitted(states, labels), layers=layers)
    before = {name: weights.detach().clone() for name, weights in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(states), torch.from_numpy(labels)).backward()
        optimizer.step()
    moved = {name: (weights != before[name]).any(-1).all() for name, weights in network.named_parameters()}
    assert all(moved.values()), moved


@pytest.mark.parametrize("narrow", ["readout.outputs=9", "readout.hidden=19"])
def test_a_network_too_narrow_for_the_classes_is_refused(narrow, tmp_path):
    config = load_config("digits", ["readout.warm_start=true", "search.generations=0", narrow])
    with pytest.raises(InputError, match=r"scores of 10 classes .*\.outputs = 10 or more.*\.hidden = 20 or more"):
        run_stages(["prepare", "train"], config, tmp_path)
