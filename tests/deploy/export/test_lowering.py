"""Programs of all kinds of parts compute what the models compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_models import made_model, samples_of

from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.deploy.export import rcdp_predict
from rcdp_hpc.deploy.export.lowering import lower
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answer_rule import AnswerRule
from rcdp_hpc.model.calibration.choose import Calibration
from rcdp_hpc.model.calibration.isotonic import IsotonicScores
from rcdp_hpc.model.calibration.scaling import ScaledScores
from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.model.quantization import rounded_model
from rcdp_hpc.model.trained_model import TrainedModel

SMALL = ["reservoir.nodes=17", "readout.hidden=6", "readout.outputs=4"]
NETWORK = [*SMALL, 'readout.kind="network"']
IMAGE, COLOUR, SERIES = (8, 8), (8, 8, 3), (14, 3)

CASES = {
    "ridge": (['readout.kind="ridge"'], IMAGE),
    "ridge, several states": (['readout.kind="ridge"', "reservoir.states=4", "reservoir.leak=0.3"], IMAGE),
    "eq. 11": ([*NETWORK, "readout.layers=2"], IMAGE),
    "leaky relu": ([*NETWORK, "readout.relu_slope=0.1"], IMAGE),
    "tanh, focal": ([*NETWORK, 'readout.activation="tanh"', 'loss.kind="focal"'], IMAGE),
    "eq. 12": ([*NETWORK, 'loss.kind="eq12"'], IMAGE),
    "elm": (['readout.kind="elm"', "readout.layers=2", "readout.hidden=8"], IMAGE),
    "ridge, members": (
        ['readout.kind="ridge"', "readout.members=3", 'readout.member_rows="under_sampled"', 'data.balance="none"'],
        IMAGE,
    ),
    "elm, members": (['readout.kind="elm"', "readout.hidden=8", "readout.members=2"], IMAGE),
    "scans, bidirectional, stacked": (
        [*NETWORK, 'reservoir.scans=["rows", "columns-backward"]', "reservoir.bidirectional=true", "reservoir.layers=2",
         'reservoir.sequence="both"', "reservoir.leak_low=0.2", "reservoir.window=3"],
        IMAGE,
    ),
    "diagonal": ([*NETWORK, 'reservoir.kind="diagonal"', "reservoir.memory_units=5", "reservoir.layers=2"], IMAGE),
    "no reservoir": (['readout.kind="lstm"', *SMALL, 'reservoir.kind="none"'], IMAGE),
    "moments": (
        [*NETWORK, 'reservoir.reduction=["mean_std", "max", "positive", "segments", "last", "states"]',
         "reservoir.segments=3", "reservoir.states=2", "reservoir.warm_up=2"],
        IMAGE,
    ),
    "chosen steps": ([*NETWORK, "reservoir.steps=[1, -3]"], IMAGE),
    "differences": ([*NETWORK, 'reservoir.series_scaling="standard"', "reservoir.differences=true"], IMAGE),
    "halved differences": (
        [*NETWORK, "reservoir.differences=true", "reservoir.difference_scaling=2", 'reservoir.sequence="both"',
         'reservoir.scans=["rows", "columns"]'],
        IMAGE,
    ),
    "columns": ([*NETWORK, 'reservoir.sequence="columns"'], COLOUR),
    "channels": ([*NETWORK, 'reservoir.sequence="channels"'], COLOUR),
    "patches": (
        [*NETWORK, 'reservoir.sequence="patches"', "reservoir.piece_size=[4, 4]", "reservoir.piece_stride=[2, 2]"],
        COLOUR,
    ),
    "windows": (
        [*NETWORK, 'reservoir.sequence="windows"', "reservoir.piece_size=[4]", "reservoir.piece_stride=[2]"],
        SERIES,
    ),
    "table": (NETWORK, (7,)),
    "table, leaky layers": (
        [*NETWORK, "reservoir.layers=2", "reservoir.leak_low=0.2", 'reservoir.activation="relu"'], (7,),
    ),
    "pixels": ([*NETWORK, 'reservoir.sequence="pixels"'], (7,)),
    "lstm": (['readout.kind="lstm"', *SMALL, 'reservoir.reduction=["all"]', "readout.layers=2"], IMAGE),
    "gru": (['readout.kind="gru"', *SMALL, "reservoir.states=5", "reservoir.bidirectional=true"], IMAGE),
    "transformer": (['readout.kind="transformer"', *SMALL, 'reservoir.reduction=["all"]', "readout.heads=2"], IMAGE),
    "convolution": (['readout.kind="convolution"', *SMALL, 'reservoir.reduction=["all"]', "readout.layers=2"], IMAGE),
    "convolutions": (
        [*NETWORK, 'extractor.kind="convolution"', "extractor.channels=[4, 6]", 'extractor.activation="gelu"',
         "augment.test_flips=true", "augment.test_shift=1"],
        COLOUR,
    ),
    "whitened convolutions": (
        [*NETWORK, 'extractor.kind="convolution"', "extractor.channels=[4]", "extractor.whitening=2",
         'extractor.sequence="positions"', "extractor.residual=false", 'reservoir.kind="none"'],
        IMAGE,
    ),
    "dictionary": (
        ['readout.kind="ridge"', 'extractor.kind="dictionary"', "extractor.atoms=6", "extractor.patch=3",
         "extractor.pool=2", "extractor.mirror=true", "extractor.power=0.5", 'reservoir.kind="none"'],
        COLOUR,
    ),
    "kernels": (['readout.kind="ridge"', 'extractor.kind="kernels"', "extractor.kernels=336"], (30, 1)),
    "kernels of channels": (
        [*NETWORK, 'extractor.kind="kernels"', "extractor.kernels=672", 'reservoir.kind="none"',
         'extractor.kernel_inputs=["values", "differences", "standardised"]'],
        (30, 3),
    ),
    "components": (
        [*NETWORK, 'extractor.kind="pca"', "extractor.components=5", 'reservoir.sequence="columns"'],
        COLOUR,
    ),
    "components of samples": (
        ['readout.kind="ridge"', 'extractor.kind="pca"', "extractor.components=5", 'extractor.over="sample"'],
        IMAGE,
    ),
    "projection": (
        [*NETWORK, 'extractor.kind="random_projection"', "extractor.components=3", 'extractor.projection="sparse"'],
        IMAGE,
    ),
    "selection": (
        ['readout.kind="lstm"', *SMALL, 'reservoir.reduction=["all"]', 'extractor.kind="selection"',
         "extractor.components=4"],
        IMAGE,
    ),
    "pretrained": (
        [*NETWORK, 'extractor.kind="pretrained"', 'extractor.model="other.pt"', 'extractor.model_kind="convolution"',
         "extractor.model_shape=[8, 8, 3]", "extractor.channels=[4]", 'extractor.activation="gelu"'],
        COLOUR,
    ),
    "wavelet packets": (
        ['readout.kind="elm"', 'extractor.kind="wavelet_packets"', 'extractor.wavelet="db4"', "extractor.levels=3",
         'readout.bands="separate"', 'reservoir.kind="none"'],
        (9, 9, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_program_computes_what_the_model_computes(name):
    settings, shape = CASES[name]
    model = made_model(settings, shape)
    program = lower(model, varying_steps=False)
    samples = samples_of(model)
    expected = model.probabilities(samples, scaled=False)
    assert np.abs(program.run(samples) - expected).max() <= 2e-6
    assert np.ptp(expected, axis=0).max() > 1e-4  # the samples matter
    assert set(program.shapes()) >= {op.output for op in program.ops}


@pytest.mark.parametrize("name", ["table", "table, leaky layers"])
def test_a_reservoir_of_one_step_has_no_recurrent_matrix(name):
    settings, shape = CASES[name]
    program = lower(made_model(settings, shape), varying_steps=False)
    assert "reservoir" not in program.kinds
    assert not [name for name in program.constants if name.startswith(("reservoir.data", "reservoir.indices"))]


def test_series_of_unequal_length():
    settings = [*NETWORK, 'reservoir.reduction=["mean_std", "last", "states", "segments", "max"]', "reservoir.states=3",
                "reservoir.warm_up=1", "reservoir.bidirectional=true", 'reservoir.series_scaling="standard"',
                "reservoir.differences=true", "reservoir.window=2"]  # fmt: skip
    check_series(settings)


def test_windows_of_series_of_unequal_length():
    settings = ['reservoir.sequence="windows"', "reservoir.piece_size=[3]", "reservoir.piece_stride=[2]",
                'reservoir.piece_edge="drop"']  # fmt: skip
    check_series([*NETWORK, *settings, "reservoir.steps=[0, -1]"])


def test_all_steps_of_series_of_unequal_length():
    check_series(['readout.kind="lstm"', *SMALL, 'reservoir.reduction=["all"]'])
    check_series(['readout.kind="gru"', *SMALL, 'reservoir.kind="none"'])


def test_kernels_of_series_of_unequal_length():
    inputs = 'extractor.kernel_inputs=["values", "differences", "standardised"]'
    check_series([*NETWORK, 'extractor.kind="kernels"', "extractor.kernels=672", inputs])


def check_series(settings: list[str]) -> None:
    model = made_model(settings, SERIES, Standardization("standard", np.full(3, 0.5), np.full(3, 2.0)))
    program = lower(model, varying_steps=True)
    lengths = np.array([14, 9, 11, 14, 10, 13, 9, 12, 14])
    samples = samples_of(model)
    for row, length in enumerate(lengths):
        samples[row, length:] = 7
    expected = model.probabilities(samples, scaled=False, lengths=lengths)
    assert np.abs(program.run(samples, lengths) - expected).max() <= 2e-6
    alike = model.probabilities(samples, scaled=False, lengths=np.full(9, 14))
    assert np.abs(program.run(samples) - alike).max() <= 2e-6
    assert np.abs(alike - expected).max() > 1e-4


@pytest.mark.parametrize("method", ["none", "standard", "series"])
def test_raw_samples_are_filled_and_standardised(method):
    center, deviation = np.array([1e9, 0.0, -3.0]), np.array([0.5, 2.0, 1e-3])
    fill = center if method != "series" else np.zeros(3)
    model = made_model(NETWORK, SERIES, Standardization(method, center, deviation, fill), scale=0.5)
    program = lower(model, varying_steps=False)
    samples = 2 * (
        samples_of(model) * (deviation if method == "standard" else 1) + (center if method == "standard" else 0)
    )
    samples[0, 3, 1] = np.nan
    expected = model.probabilities(samples, scaled=False)
    assert program.sample_dtype == "float64"
    assert np.abs(program.run(samples) - expected).max() <= 2e-6
    assert np.ptp(expected, axis=0).max() > 1e-4


@pytest.mark.parametrize(("method", "shape"), [("none", (7,)), ("standard", SERIES), ("series", SERIES)])
def test_mask_channels_mark_missing_samples(method, shape):
    features, mask = shape[-1], (0, 2)
    parts = (np.full(features, 0.25), np.full(features, 1.5), np.linspace(-1, 1, features))
    stored = (*shape[:-1], features + len(mask))
    model = made_model(NETWORK, stored, Standardization(method, *parts, mask))
    program = lower(model, varying_steps=False)
    samples = np.delete(samples_of(model), mask, axis=-1)
    samples[::2, ..., 1], samples[1::3, ..., 2] = np.nan, np.nan
    assert program.sample_shape == shape
    expected = model.probabilities(samples, scaled=False)
    assert np.abs(program.run(samples) - expected).max() <= 2e-6
    assert np.abs(expected - model.probabilities(np.nan_to_num(samples), scaled=False)).max() > 1e-4


def test_an_ensemble_averages_scores():
    model = made_model([*NETWORK, 'parallel.replicas="ensemble"'], IMAGE, members=3)
    program = lower(model, varying_steps=False)
    samples = samples_of(model)
    assert np.abs(program.run(samples) - model.probabilities(samples, scaled=False)).max() <= 2e-6


@pytest.mark.parametrize("settings", [NETWORK, CASES["convolution"][0], CASES["dictionary"][0]])
def test_quantised_weights_stay_codes(settings):
    shape = COLOUR if "dictionary" in str(settings) else IMAGE
    model = TrainedModel(rounded_model(made_model(settings, shape).file))
    program = lower(model, varying_steps=False)
    codes = [constant for constant in program.constants.values() if isinstance(constant, Quantized)]
    assert len(codes) >= len(model.file.quantized)
    samples = samples_of(model)
    assert np.abs(program.run(samples) - model.probabilities(samples, scaled=False)).max() <= 2e-6


def test_blocks_and_sparse_products_change_nothing(monkeypatch):
    settings = [*NETWORK, 'extractor.kind="convolution"', "extractor.channels=[4, 6]"]
    model = made_model(settings, COLOUR)
    samples = samples_of(model, rows=20)
    program = lower(model, varying_steps=False)
    expected = program.run(samples)
    monkeypatch.setattr(rcdp_predict, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(rcdp_predict, "MOST_DENSE_NODES", 1)
    assert np.abs(program.run(samples) - expected).max() <= 1e-6


def test_blocks_of_rows_change_nothing():
    model = made_model(NETWORK, IMAGE)
    samples = samples_of(model, rows=600)
    found = lower(model, varying_steps=False).run(samples)
    assert np.abs(found - model.probabilities(samples, scaled=False)).max() <= 2e-6
    assert len(lower(model, varying_steps=False).run(samples[:0])) == 0


SCALED = ScaledScores("vector", np.linspace(0.6, 2.0, 3), np.array([1.5, -0.5, 0.0]))
CALIBRATED = AnswerRule(Calibration(SCALED, "validation", [9, 9, 9]), np.array([0.7, 0.2, 0.1]))
RULES = {
    "calibrated": CALIBRATED,
    "priors": replace(CALIBRATED, priors=np.array([0.1, 0.0, 0.9])),
    "thresholds": replace(CALIBRATED, thresholds=np.array([0.9, 0.1, 2.0])),
    "costs": AnswerRule(costs=np.array([[0.0, 1.0, 1.0], [9.0, 0.0, 1.0], [1.0, 1.0, 0.0]])),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("settings", [['readout.kind="ridge"'], NETWORK], ids=["ridge", "network"])
def test_a_program_reports_and_answers_as_the_rule_of_the_model(settings, rule):
    model = made_model(settings, IMAGE)
    model.rule = rule
    program = lower(model, varying_steps=False)
    samples = samples_of(model, rows=40)
    expected = model.answers(samples, scaled=False)
    constants = {name: program.array(name) for name in program.constants}
    exported = rcdp_predict.Model(program.description(), constants)
    found, answers = exported.answers(samples)
    assert np.abs(found - expected.probabilities).max() <= 5e-6
    np.testing.assert_array_equal(answers, expected.predicted)
    assert exported.predict(samples).tolist() == [model.classes[label] for label in answers]
    assert not np.allclose(found, expected.raw) or rule.calibration is None


def test_an_isotonic_calibration_has_no_operations():
    model = made_model(NETWORK, IMAGE)
    model.rule = AnswerRule(Calibration(IsotonicScores([], []), "validation", [9, 9, 9]))
    with pytest.raises(InputError, match=r"'isotonic' has no operations in exported files.*--uncalibrated"):
        lower(model, varying_steps=False)
