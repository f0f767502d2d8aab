"""Wavelet packets: cases by hand, energy, inverse, PyWavelets, extended lines, refusals, and whole runs."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import pywt
import torch
from networks.runs import assert_prediction_equals_evaluation
from settings import config_of

from rcdp_hpc.config import DataFacts, ExtractorSection, load_config, with_kind_defaults
from rcdp_hpc.config.choices import TABLES
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.networks.wavelet_packets import WaveletPackets
from rcdp_hpc.networks.wavelets import FILTERS, PacketShape, filters_of
from rcdp_hpc.pipeline.stages import run_stages

CPU = torch.device("cpu")
SIZES = [("haar", 3, 8), ("haar", 2, 20), ("db2", 2, 4), ("db2", 1, 10), ("db4", 3, 8), ("db4", 3, 32), ("db4", 5, 96)]


def section(**keys) -> ExtractorSection:
    return ExtractorSection(**{"kind": "wavelet_packets", **keys})


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("wavelet", FILTERS)
def test_filters_are_orthonormal_and_have_their_vanishing_moments(wavelet):
    low, high = (np.array(taps) for taps in filters_of(wavelet))
    for shift in range(0, len(low), 2):
        rest = slice(shift, None), slice(None, len(low) - shift)
        assert low[rest[0]] @ low[rest[1]] == pytest.approx(float(shift == 0), abs=1e-14)
        assert high[rest[0]] @ low[rest[1]] == pytest.approx(0, abs=1e-14)
    for moment in range(len(low) // 2):
        assert high @ np.arange(len(low)) ** moment == pytest.approx(0, abs=1e-11)
    assert [choice.name for choice in TABLES["extractor.wavelet"].choices] == list(FILTERS)


def test_haar_packets_of_8_points_by_hand():
    line = torch.tensor([[4.0, 2, 5, 5, 1, 3, 0, 8]], dtype=torch.float64)
    # Sums and differences of neighbours, without their factor 1 / sqrt(2) for each level; L and H name the path.
    # L: 6 10 4 8, H: 2 0 -2 -8. By frequency LL: 16 12, LH: -4 -4, HH: 2 6, HL: 2 -10.
    by_level = {
        1: [[6, 10, 4, 8], [2, 0, -2, -8]],
        2: [[16, 12], [-4, -4], [2, 6], [2, -10]],
        # LLL LLH LHH LHL HHL HHH HLH HLL
        3: [[28], [4], [0], [-8], [8], [-4], [12], [-8]],
    }
    for levels, expected in by_level.items():
        packets = WaveletPackets(section(wavelet="haar", levels=levels), (8,))(line)
        np.testing.assert_allclose(packets[0] * math.sqrt(2) ** levels, expected, atol=1e-12)


@pytest.mark.parametrize(("wavelet", "levels", "length"), SIZES)
def test_packets_keep_the_energy_and_the_transpose_is_the_inverse(wavelet, levels, length):
    packets = WaveletPackets(section(wavelet=wavelet, levels=levels), (length,))
    lines = normal(5, length)
    found = packets(lines).flatten(1)
    np.testing.assert_allclose(found.square().sum(1), lines.square().sum(1), rtol=1e-12)
    # The packets of the unit vectors are the columns of the transform; its transpose is the inverse of the tree.
    transform = packets(torch.eye(length, dtype=torch.float64)).flatten(1).T
    np.testing.assert_allclose(found @ transform, lines, atol=1e-12)


@pytest.mark.parametrize(("wavelet", "levels", "length"), SIZES)
def test_packets_are_those_of_pywavelets_in_the_order_of_frequencies(wavelet, levels, length):
    lines = normal(4, length)
    tree = pywt.WaveletPacket(lines.numpy(), wavelet, mode="periodization", maxlevel=levels, axis=1)
    expected = np.stack([node.data for node in tree.get_level(levels, order="freq")], 1)
    found = WaveletPackets(section(wavelet=wavelet, levels=levels), (length,))(lines)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_wave_is_in_the_band_of_its_frequency():
    packets, steps = WaveletPackets(section(), (512,)), torch.arange(512, dtype=torch.float64)
    for band in range(8):
        wave = torch.cos(math.pi * (band + 0.5) / 8 * steps)[None]
        energy = packets(wave).square().sum(2)[0]
        assert int(energy.argmax()) == band
        assert float(energy[band] / energy.sum()) > 0.65


@pytest.mark.parametrize("length", [9, 13, 15, 28])
def test_a_line_is_extended_by_its_last_value_to_a_multiple_of_the_bands(length):
    extended = math.ceil(length / 8) * 8
    lines = normal(3, length)
    same = WaveletPackets(section(), (extended,))(torch.cat([lines, lines[:, -1:].expand(3, extended - length)], 1))
    packets = WaveletPackets(section(), (length,))
    assert torch.equal(packets(lines), same)
    assert packets.shape.added == extended - length
    # The inverse gives the line itself, and then the added values.
    transform = WaveletPackets(section(), (extended,))(torch.eye(extended, dtype=torch.float64)).flatten(1).T
    np.testing.assert_allclose((packets(lines).flatten(1) @ transform)[:, :length], lines, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "axis", "lines"),
    [
        ((16,), "rows", lambda x: x[:, None, :, None]),
        ((16,), "steps", lambda x: x[:, None, :, None]),
        ((3, 16), "rows", lambda x: x[..., None]),
        ((16, 3), "steps", lambda x: x[:, None]),
        ((3, 16, 2), "rows", lambda x: x),
        ((16, 3, 2), "steps", lambda x: x.flatten(2)[:, None]),
    ],
)
def test_features_are_ordered_by_band_then_line_then_coefficient_then_channel(shape, axis, lines):
    samples = normal(4, *shape)
    packets = WaveletPackets(section(axis=axis), shape)
    found = packets(samples)
    cut = lines(samples)
    by_band = found.view(4, 8, cut.shape[1], 2, cut.shape[3])
    single = WaveletPackets(section(), (16,))
    for row in range(cut.shape[1]):
        for channel in range(cut.shape[3]):
            assert torch.equal(by_band[:, :, row, :, channel], single(cut[:, row, :, channel].contiguous()))
    assert (packets.steps, packets.features) == (8, 2 * math.prod(shape) // 16)


def test_packets_are_the_same_bits_in_any_batch(monkeypatch):
    samples = normal(37, 10, 12, 3).float()
    packets = WaveletPackets(section(), (10, 12, 3))
    whole = packets(samples)
    assert whole.dtype == torch.float32
    monkeypatch.setattr("rcdp_hpc.networks.wavelet_packets.BLOCK_BYTES", 9000)
    assert torch.equal(packets(samples), whole)
    assert torch.equal(packets(samples[5:6]), whole[5:6])
    assert packets(samples[:0]).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize(
    ("shape", "keys", "message"),
    [
        ((1,), {}, "lines of 1 value of samples of shape .* no wavelets of 1 value: choose another extractor.kind"),
        ((20, 1), {}, "no wavelets of 1 value: set extractor.axis = 'steps', or choose another extractor.kind"),
        ((4,), {}, "'db4' has 8 taps: set extractor.wavelet = 'db2' and extractor.levels = 2 or less, or choose"),
        ((12, 7), {"levels": 2}, "'db4' has 8 taps: set extractor.wavelet = 'db2', or set extractor.axis = 'steps'"),
        ((7, 12), {"levels": 3, "axis": "steps"}, "and extractor.levels = 2 or less, or set extractor.axis = 'rows'"),
        ((2, 3), {"wavelet": "haar", "levels": 2}, r"needs at least 4 \(2\^levels\): set extractor.levels = 1 or less"),
        ((28, 28), {"levels": 5}, r"levels = 5 needs at least 32 \(2\^levels\): set extractor.levels = 4 or less"),
        ((2, 3, 4, 5), {}, r"have the shape \(2, 3, 4, 5\): reshape the source"),
    ],
)
def test_samples_that_are_too_short_are_refused_with_a_remedy(shape, keys, message):
    with pytest.raises(InputError, match=message):
        PacketShape.of(section(**keys), shape)
    with pytest.raises(InputError, match=message):
        extractor_of(config_of(extractor=section(**keys), reservoir__kind="none"), shape).checked_shape(None)


def test_series_of_unequal_length_are_refused():
    extractor = extractor_of(config_of(extractor=section(axis="steps")), (20, 2))
    with pytest.raises(InputError, match="'wavelet_packets' reads samples of one length"):
        extractor.checked_shape(12)


def test_a_readout_finds_the_bands_in_the_shape_of_the_features(caplog):
    with caplog.at_level(logging.INFO, logger="rcdp_hpc"):
        plain = make_source(config_of(extractor=section(), reservoir__kind="none"), (28, 28), CPU)
    assert "lines of 28 values are extended to 32, a multiple of 8" in caplog.text
    assert "784 values become 896 features" in caplog.text
    shape = plain.feature_shape
    assert (shape.bands, shape.band_features, shape.features, shape.steps) == (8, 112, 896, 8)
    samples = normal(3, 28, 28).float()
    rows = plain.drive(samples.numpy())
    expected = WaveletPackets(section(), (28, 28))(samples)
    for band in range(8):
        assert torch.equal(rows[:, band * 112 : (band + 1) * 112], expected[:, band])
    after = make_source(config_of(extractor=section(), reservoir__nodes=10, reservoir__states=2), (28, 28), CPU)
    assert after.feature_shape.bands == 1
    torch.testing.assert_close(after.drive(samples.numpy()), after.inner.states(expected))


def test_defaults_of_a_kind_of_data_follow_the_axis_of_time(tmp_path):
    def completed(kind: str, shape: tuple[int, ...], levels: int):
        text = f'[extractor]\nkind = "wavelet_packets"\nlevels = {levels}\n[search]\ngenerations = 0\n'
        (tmp_path / "my.toml").write_text(text)
        return with_kind_defaults(load_config(tmp_path / "my.toml"), DataFacts(kind, shape))

    series = completed("series", (40, 3), 3)
    assert (series.extractor.axis, series.reservoir.differences) == ("steps", False)
    images = completed("images", (32, 32, 3), 1)
    assert (images.extractor.axis, images.reservoir.states) == ("rows", 2)
    # A step is one of 2 bands of 32 x 16 x 3 values.
    assert images.reservoir.input_scaling * math.sqrt(1536 / 3) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    "changes",
    [
        ["readout.kind=ridge", "reservoir.kind=none"],
        ["readout.kind=lstm", "reservoir.kind=none", "extractor.wavelet=haar", "optimizer.learning_rate=0.01"],
        ["readout.kind=network", "reservoir.states=4", "reservoir.input_scaling=0.2"],
    ],
    ids=["ridge", "lstm", "reservoir"],
)
def test_whole_runs_predict_as_they_evaluate(changes, tmp_path):
    settings = ["extractor.kind=wavelet_packets", "search.generations=0", "training.epochs=5", "run.progress=false"]
    config = load_config("digits", [*settings, "reservoir.nodes=100", *changes])
    results = run_stages(["prepare", "train", "evaluate"], config, tmp_path)
    assert results["evaluate"]["accuracy"] > 0.85
    assert_prediction_equals_evaluation(tmp_path, results["evaluate"])
