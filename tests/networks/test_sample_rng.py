"""Random numbers by sample: the generator, and that tables of an epoch change none of them."""

from __future__ import annotations

import pytest
import torch

from rcdp_hpc.networks.sample_rng import Draw, EpochKeys, SampleRng

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
DRAWS = [Draw(0, 40), Draw(1, 33), Draw(1_000_000, 5), Draw(1_000_000, 3, fixed=True), Draw(1_000_001, 2)]


def scrambled(value: int) -> int:
    """Return the finaliser of SplitMix64, in integers of Python."""
    value &= MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & MASK
    return value ^ value >> 31


def number(seed: int, epoch: int, sample: int, unit: int, layer: int) -> float:
    layer_key = scrambled((seed * 1_000_003 + epoch) * GOLDEN + layer)
    return (scrambled(scrambled(sample & MASK ^ layer_key) + unit * GOLDEN) >> 40) / 2**24


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**40 + 1, 1)])
def test_numbers_are_those_of_the_generator(seed, epoch):
    samples = torch.tensor([0, 5, 2**33])
    found = SampleRng.at(seed, epoch, samples).uniform(4, 1)
    expected = [[number(seed, epoch, sample, unit, 1) for unit in range(4)] for sample in samples.tolist()]
    assert torch.equal(found, torch.tensor(expected))


@pytest.mark.parametrize("source", ["rows", "samples"])
def test_numbers_that_are_drawn_together_are_the_same(source):
    samples = torch.tensor([9, 2, 70, 4])
    keys = EpochKeys(3, samples.device, DRAWS, samples).begin(5)
    rows = torch.tensor([2, 0, 2])
    for epoch in (5, 6):
        keys.begin(epoch)
        together = keys.of(rows) if source == "rows" else SampleRng(keys, samples[rows])
        alone = SampleRng.at(3, epoch, samples[rows])
        for draw in [*DRAWS, Draw(0, 7), Draw(2, 3), Draw(1, 50)]:
            assert torch.equal(together.uniform(*draw), alone.uniform(*draw))
        for fraction in (0.3, 0.5, 1e-9, 0.999):
            assert torch.equal(together.keep_mask(33, fraction, 1), alone.keep_mask(33, fraction, 1))
        first = SampleRng.at(3, 0, samples[rows])
        assert torch.equal(together.uniform(3, 1_000_000, fixed=True), first.uniform(3, 1_000_000))


def test_the_tensors_of_an_epoch_stay_the_same_ones():
    samples = torch.arange(6)
    keys = EpochKeys(1, samples.device, DRAWS, samples).begin(0)
    rng = keys.of(torch.arange(3))
    recorded = [keys.numbers(rng.rows), keys.row_keys(rng.rows)]
    places = [keys.keys.data_ptr(), keys.bases.data_ptr(), keys.parity.data_ptr(), keys._numbers.data_ptr()]
    keys.begin(1, samples + 10)
    assert places == [keys.keys.data_ptr(), keys.bases.data_ptr(), keys.parity.data_ptr(), keys._numbers.data_ptr()]
    assert keys.parity
    assert torch.equal(keys.of(torch.arange(3)).uniform(40, 0), SampleRng.at(1, 1, samples[:3] + 10).uniform(40, 0))
    assert not torch.equal(keys.numbers(torch.arange(3)), recorded[0])


def test_rows_need_samples():
    with pytest.raises(TypeError, match="samples"):
        EpochKeys(1, torch.device("cpu")).begin(0).of(torch.arange(2)).uniform(1, 0)
