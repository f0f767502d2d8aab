"""The input of the reservoir: scaled series, differences, input weights normalised by the number of inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from reservoir.reference import driven_together, expected, read

from rcdp_hpc.config import ReservoirSection, parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir import inputs
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.reservoir.identity_source import make_reservoir
from rcdp_hpc.reservoir.inputs import prepare_inputs
from rcdp_hpc.reservoir.kernels import kernel_names
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.training.checks import check_sequences

NO_SEARCH = {"search": {"generations": 0}}
BOTH = {"series_scaling": "standard", "differences": True}


def section(**values):
    return ReservoirSection.model_validate({"nodes": 40, "density": 0.3, **values})


def test_scaled_and_differenced_by_hand():
    """[1, 3, 5, 3] has mean 3, deviation sqrt(2) and differences 0, 2, 2, -2; the second feature is constant."""
    u = torch.tensor([[[1.0, 0.1], [3.0, 0.1], [5.0, 0.1], [3.0, 0.1]]])
    result = prepare_inputs(section(**BOTH), u)
    root = np.sqrt(2)
    target = [[-root, 0, 0, 0], [0, 0, 1, 0], [root, 0, 1, 0], [0, 0, -1, 0]]
    np.testing.assert_allclose(result[0], target, atol=1e-7)
    plain = prepare_inputs(section(differences=True, difference_scaling=0.5), u)
    np.testing.assert_allclose(plain[0, :, 2:], [[0, 0], [1, 0], [1, 0], [-1, 0]])
    assert torch.equal(plain[0, :, :2], u[0])
    assert prepare_inputs(section(), u) is u


@settings(max_examples=60, deadline=None)
@given(
    lengths=strategies.lists(strategies.integers(1, 15), min_size=1, max_size=8),
    scaling=strategies.sampled_from(["none", "standard"]),
    differences=strategies.sampled_from([0.0, 2.5]),
    offset=strategies.sampled_from([0.0, 1e4]),
    at_once=strategies.sampled_from([1, 60, 1 << 22]),
)
def test_padding_does_not_change_a_series(lengths, scaling, differences, offset, at_once):
    values = section(series_scaling=scaling, differences=True, difference_scaling=differences)
    u = np.random.default_rng(sum(lengths)).normal(size=(len(lengths), max(lengths) + 1, 3)).astype(np.float32) + offset
    u[:, :, 1] = 0.1
    u = u.astype(np.float32)
    for row, length in enumerate(lengths):
        u[row, length:] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "BLOCK_NUMBERS", at_once)
        result = prepare_inputs(values, torch.from_numpy(u), torch.tensor(lengths)).numpy()
    for row, length in enumerate(lengths):
        target = read(values, u[row, :length].astype(np.float64))
        np.testing.assert_allclose(result[row, :length], target, rtol=1e-6, atol=1e-5)
        assert (result[row, length:] == 0).all()


def test_the_scale_of_a_series_does_not_change_its_input(rng):
    u = torch.from_numpy(rng.normal(size=(4, 9, 2)))
    result = prepare_inputs(section(**BOTH), u)
    torch.testing.assert_close(prepare_inputs(section(**BOTH), u * 1e-30 + 3e-30), result, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(prepare_inputs(section(**BOTH), u * 1e30), result, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", [name for name in kernel_names() if name != "dense-fp16"])
@pytest.mark.parametrize("lengths", [None, [9, 3, 12, 1, 12, 4]])
def test_states_agree_with_the_reference(kernel, lengths, rng):
    reservoir = Reservoir(section(**BOTH, input_normalised=True, leak=0.6, reduction="mean"), 4, kernel)
    u = rng.normal(size=(6, 12, 4)).astype(np.float32) * 50
    errors = np.abs(reservoir.states(u, lengths=lengths).double().numpy() - expected(reservoir, u, lengths))
    assert errors.max() < (2e-6 if kernel.endswith("fp32") else 0.05)


@pytest.mark.parametrize(
    "values",
    [
        {"layers": 2, "bidirectional": True, "window": 2, "feature_scaling": [1, 2, 3, 4, 5, 6, 7, 8] * 2},
        {"scans": ["rows", "columns-backward", "forward"], "sequence": "both"},
    ],
)
def test_scans_and_layers_agree_with_the_reference(values, rng):
    reservoir = Reservoir(section(**BOTH, input_normalised=True, **values), 4)
    u, lengths = rng.normal(size=(5, 8, 4)).astype(np.float32), [8, 2, 5, 7, 8]
    np.testing.assert_allclose(reservoir.states(u, lengths=lengths).numpy(), expected(reservoir, u, lengths), atol=5e-6)


def test_stacked_reservoirs_have_the_same_input(rng):
    candidates = [Reservoir(section(**BOTH, leak=leak), 4) for leak in (0.1, 1.0)]
    u = torch.from_numpy(rng.normal(size=(5, 8, 4)).astype(np.float32))
    for result, reservoir in zip(driven_together(candidates, u), candidates, strict=True):
        np.testing.assert_allclose(result.numpy(), reservoir.states(u).numpy(), atol=1e-6)


def test_without_a_reservoir_the_features_are_the_prepared_input(rng):
    values = section(kind="none", **BOTH)
    x = rng.normal(size=(3, 6, 2)).astype(np.float32)
    result = make_reservoir(values, (6, 2)).drive(x, [6, 4, 1]).view(3, 6, 4)
    for row, length in enumerate([6, 4, 1]):
        np.testing.assert_allclose(result[row, 6 - length :], read(values, x[row, :length].astype(float)), atol=1e-6)
        assert (result[row, : 6 - length] == 0).all()


@pytest.mark.parametrize("distribution", ["uniform", "normal", "bernoulli"])
@pytest.mark.parametrize(("features", "density"), [(1, 1.0), (400, 1.0), (400, 0.25)])
def test_normalised_inputs_give_the_deviation_of_input_scaling(distribution, features, density, rng):
    values = section(
        nodes=1000, input_scaling=0.7, input_weights=distribution, input_density=density, input_normalised=True
    )
    weights = reservoir_matrices(values.model_copy(update={"topology": "ring"}), features).input
    assert (weights @ rng.normal(size=(features, 2000))).std() == pytest.approx(0.7, rel=0.1)


def test_shared_matrices_are_normalised_too():
    values = section(input_normalised=True)
    np.testing.assert_array_equal(MatrixCache().matrices(values, 6).input, reservoir_matrices(values, 6).input)


@pytest.mark.parametrize(
    ("sections", "shape", "words"),
    [
        ({"reservoir": {"differences": True}}, (9,), r"reservoir\.differences is for samples of several steps"),
        ({"reservoir": {"series_scaling": "standard"}}, (9,), "series_scaling = 'standard' is for samples of several"),
        ({"reservoir": {"series_scaling": "standard", "kind": "none"}}, (9,), "is for samples of several steps"),
        ({"reservoir": {"differences": True, "feature_scaling": [1, 2, 3]}}, (8, 3), "but a step has 6 features"),
        (
            {
                "reservoir": {"differences": True, "kind": "none"},
                "extractor": {"kind": "convolution"},
                **NO_SEARCH,
            },
            (8, 8),
            "reads the output of the trained extractor: set reservoir.differences = false",
        ),
    ],
)
def test_samples_that_do_not_fit_are_refused(sections, shape, words):
    with pytest.raises(InputError, match=words):
        check_sequences(parse_config(sections, "(of a test)"), shape, None)


def test_own_matrices_are_not_normalised():
    with pytest.raises(ValueError, match="are taken as they are"):
        section(matrices="own.npz", input_normalised=True)
