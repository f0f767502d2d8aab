"""The layer of whitened patches."""

from __future__ import annotations

import pytest
import torch
from settings import config_of

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.convolutions import Convolutions
from rcdp_hpc.networks.whitening import PatchWhitening


def images(rows: int) -> torch.Tensor:
    """Return images whose channels and neighbouring pixels are correlated."""
    torch.manual_seed(0)
    x = torch.randn(rows, 3, 9, 9)
    return (x + x.roll(1, 3) + x.mean(1, keepdim=True))[:, :, 1:, 1:]


@pytest.mark.parametrize("side", [1, 2])
def test_whitened_patches_are_uncorrelated_with_unit_variance(side):
    x = images(200)
    layer = PatchWhitening(side, 3, "relu")
    layer.fit(layer.moments(x[:70]) + layer.moments(x[70:]) + layer.moments(x[:0]))
    found = layer(x)
    width = 3 * side * side
    assert found.shape == (200, 2 * width, 9 - side, 9 - side)
    # Positive and negative parts: their difference is the whole.
    values = (found[:, :width] - found[:, width:]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(values @ values.T / values.shape[1], torch.eye(width), atol=5e-3, rtol=0)


def test_kernels_do_not_depend_on_how_moments_were_summed():
    x = images(60)
    one, two = PatchWhitening(2, 3, "gelu"), PatchWhitening(2, 3, "gelu")
    one.fit(one.moments(x))
    two.fit(sum((two.moments(part) for part in x.split(7)), two.no_moments()))
    torch.testing.assert_close(one.kernels, two.kernels, atol=1e-4, rtol=1e-4)


def test_a_network_fits_the_whitening_to_normalised_samples():
    settings = config_of(extractor={"kind": "convolution", "channels": [4], "whitening": 2}, reservoir__nodes=20)
    source = make_source(settings, (8, 8, 3), torch.device("cpu"))
    made = build_network(settings, (8, 8, 3), source, classes=2, seed=1)
    samples = 5 + 3 * images(30).permute(0, 2, 3, 1).flatten(1)
    made.standardise(samples.sum(0).double(), samples.square().sum(0).double(), 30)
    halves = []
    made.fit_patches(samples.split(16), lambda moments: halves.append(moments) or 2 * moments)
    kernels = made.state_dict()["extractor.whitening.kernels"]
    expected = PatchWhitening(2, 3, "relu")
    normal = ((samples.view(30, 64, 3) - made.input_mean) * made.input_scale).view(30, 8, 8, 3).permute(0, 3, 1, 2)
    expected.fit(expected.moments(normal))
    torch.testing.assert_close(kernels, expected.kernels, atol=1e-4, rtol=1e-4)
    assert len(halves) == 1
    assert not any("whitening" in name for name, _ in made.named_parameters())
    scores = made(samples)
    assert scores.shape == (30, 2)
    assert made(samples[:0]).shape == (0, 2)


def test_images_too_small_for_patches_and_stages_are_refused():
    assert Convolutions((9, 9), [2, 2, 2], whitening=2).steps == 1
    with pytest.raises(InputError, match="at least 9 x 9"):
        Convolutions((8, 8), [2, 2, 2], whitening=2)
