"""The patch dictionary: codes computed by hand, learning, and whole runs with each kind of readout."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from networks.runs import assert_prediction_equals_evaluation
from settings import config_of

from rcdp_hpc.config import ExtractorSection, ReservoirSection, load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.networks.dictionary import LEAST_ATOMS, PatchDictionary
from rcdp_hpc.networks.dictionary_learning import (
    EIGENVALUE_FLOOR,
    VARIANCE_FLOOR,
    cut_patches,
    learn,
    spherical_kmeans,
    zca,
)
from rcdp_hpc.networks.dictionary_source import DictionarySource
from rcdp_hpc.networks.shapes import FARTHEST_CODE
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.solve.dictionary_fit import learn_extractor, sampled_rows

CPU = torch.device("cpu")


def section(**keys) -> ExtractorSection:
    return ExtractorSection(**{"kind": "dictionary", "patch": 3, "atoms": 5, "pool": 2, "patches": 400, **keys})


def learned(shape: tuple[int, ...] = (8, 7, 2), rows: int = 20, **keys) -> tuple[PatchDictionary, torch.Tensor]:
    samples = torch.rand(rows, *shape, generator=torch.Generator().manual_seed(1)) ** 3
    dictionary = PatchDictionary(section(**keys), shape)
    learn(dictionary, samples, seed=2)
    return dictionary, samples


@pytest.mark.parametrize("keys", [{}, {"stride": 2}, {"sequence": "positions"}, {"learning": "patches", "pool": 3}])
@pytest.mark.parametrize("shape", [(8, 7, 2), (8, 7)])
def test_codes_by_hand(shape, keys):
    dictionary, samples = learned(shape, **keys)
    settings = dictionary.settings
    images = samples.view(20, 8, 7, -1).permute(0, 3, 1, 2)
    # What was learned, once more, in the order of the equations.
    generator = torch.Generator().manual_seed(2)
    patches = cut_patches(images, 3, 400, generator)
    floor = VARIANCE_FLOOR * patches.var(1, correction=0).mean()

    def normal(v):
        return (v - v.mean(-1, keepdim=True)) / torch.sqrt(v.var(-1, correction=0, keepdim=True) + floor)

    centre, whitening = zca(normal(patches))
    white = (normal(patches).double() - centre) @ whitening
    atoms = torch.nn.functional.normalize(white[torch.randperm(400, generator=generator)[:5]], dim=1).float()
    if settings.learning == "kmeans":
        atoms = spherical_kmeans(white.float(), atoms)
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(5))
    step = settings.stride
    cut = images.unfold(2, 3, step).unfold(3, 3, step).permute(0, 2, 3, 1, 4, 5).flatten(3)
    z = (normal(cut).double() - centre) @ whitening
    projected = z @ atoms.T.double()
    codes = torch.cat([projected - 0.5, -projected - 0.5], dim=-1).clamp_min(0).permute(0, 3, 1, 2)
    pooled = torch.nn.functional.adaptive_avg_pool2d(codes, settings.pool)
    mean, deviation = pooled.mean((0, 2, 3)), pooled.std((0, 2, 3), correction=0)
    standard = ((pooled - mean[:, None, None]) / deviation[:, None, None]).permute(0, 2, 3, 1)
    found = dictionary(samples)
    steps = settings.pool if settings.sequence == "rows" else settings.pool**2
    assert found.shape == (20, steps, dictionary.features)
    torch.testing.assert_close(found.double(), standard.reshape(found.shape), rtol=1e-3, atol=1e-3)


def test_filters_ignore_the_mean_of_a_patch():
    dictionary, samples = learned()
    assert float(dictionary.filters.sum((1, 2, 3)).abs().max()) < 1e-5
    torch.testing.assert_close(dictionary(samples + 0.3), dictionary(samples), rtol=1e-2, atol=1e-2)


def test_codes_do_not_depend_on_the_rows_computed_at_once():
    dictionary, samples = learned()
    whole = dictionary(samples)
    dictionary.rows_at_once = 3
    torch.testing.assert_close(dictionary(samples), whole, rtol=1e-5, atol=1e-5)
    assert dictionary(samples[:0]).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_image_and_its_mirror_image_have_the_mean_of_both_maps(precision):
    plain, samples = learned(precision=precision)
    mirror, _ = learned(precision=precision, mirror=True)
    turned = torch.flip(samples, [2])
    images, mirrored = plain.images(samples), plain.images(turned)
    assert torch.equal(mirror(samples), mirror(turned))
    torch.testing.assert_close(mirror.codes(images), (plain.codes(images) + plain.codes(mirrored)) / 2)
    assert not torch.allclose(plain(samples), plain(turned), atol=0.1)


def test_ridge_of_mirrored_maps_is_ridge_over_mirror_images_with_twice_the_atoms():
    plain, samples = learned(atoms=3)
    images, targets = plain.images(samples), torch.randn(20, 2, generator=torch.Generator().manual_seed(4)).double()

    def codes_of(x):
        # An atom's mirror image finds in an image what the atom finds in the mirror image, at the mirrored place.
        return torch.cat([plain.codes(x), plain.codes(x.flip(3)).flip(3)], 1).flatten(1).double()

    def scores(rows, wanted, new, penalty):
        gram = rows.T @ rows + penalty * len(rows) * torch.eye(rows.shape[1])
        return new @ torch.linalg.solve(gram, rows.T @ wanted)

    both = torch.cat([codes_of(images), codes_of(images.flip(3))])
    views = scores(both, targets.repeat(2, 1), both, 0.02).view(2, 20, 2).mean(0)
    mean = learned(atoms=3, mirror=True)[0].codes(images).flatten(1).double()
    torch.testing.assert_close(scores(mean, targets, mean, 0.01), views, rtol=1e-4, atol=1e-5)


def test_a_power_of_the_averages():
    plain, samples = learned(mirror=True)
    root, _ = learned(mirror=True, power=0.5)
    codes = plain.codes(plain.images(samples)).sqrt()
    torch.testing.assert_close(root.codes(root.images(samples)), codes)
    mean, deviation = codes.mean((0, 2, 3)), codes.std((0, 2, 3), correction=0)
    expected = (codes - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(root(samples), expected.permute(0, 2, 3, 1).reshape(20, 2, 20), rtol=1e-4, atol=1e-4)


def test_codes_are_bounded():
    dictionary, samples = learned()
    dictionary.code_scale.mul_(1e6)
    found = dictionary(samples)
    assert float(found.min()) == -FARTHEST_CODE
    assert float(found.max()) == FARTHEST_CODE


def test_few_atoms_at_once_give_the_same_codes():
    dictionary, samples = learned()
    whole = dictionary(samples)
    dictionary.atoms_at_once = 2
    torch.testing.assert_close(dictionary(samples), whole, rtol=1e-5, atol=1e-5)


def test_codes_computed_at_once_fit_the_given_bytes():
    large = PatchDictionary(section(atoms=2000, patches=2000, patch=5), (64, 64, 3))
    assert large.rows_at_once == 1
    assert large.atoms_at_once == LEAST_ATOMS
    small = PatchDictionary(section(atoms=2000, patches=2000), (12, 12))
    assert 2**18 < small.rows_at_once * small.atoms_at_once * 4 * 100 <= 2**19
    assert 2**18 < PatchDictionary(section(atoms=10), (12, 12)).rows_at_once * 4 * 10 * 100 <= 2**19


def test_codes_in_16_bits_are_close_to_those_in_32():
    dictionary, samples = learned()
    exact = dictionary(samples)
    dictionary.settings = section(precision="bf16")
    assert float((dictionary(samples) - exact).abs().mean()) < 0.02


def test_whitened_patches_have_no_correlation():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(5000, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    centre, matrix = zca(patches)
    torch.testing.assert_close(matrix, matrix.T)
    white = (patches.double() - centre) @ matrix
    values = torch.linalg.eigvalsh(torch.cov(patches.double().T, correction=0))
    found = torch.linalg.eigvalsh(torch.cov(white.T, correction=0))
    torch.testing.assert_close(found, (values / (values + EIGENVALUE_FLOOR)).sort()[0])


def test_kmeans_finds_directions_of_either_sign():
    generator = torch.Generator().manual_seed(3)
    truth = torch.linalg.qr(torch.randn(8, 4, generator=generator))[0].T
    which = torch.randint(4, (3000,), generator=generator)
    size = torch.randn(3000, 1, generator=generator)
    points = size * truth[which] + 0.02 * torch.randn(3000, 8, generator=generator)
    first = torch.nn.functional.normalize(truth + 0.25 * torch.randn(4, 8, generator=generator), dim=1)
    assert float((spherical_kmeans(points, first) * truth).sum(1).abs().min()) > 0.999


def test_the_learned_dictionary_depends_on_seed_and_samples():
    one, two = learned()[0].state_dict(), learned()[0].state_dict()
    assert all(torch.equal(two[name], value) for name, value in one.items())


def test_constant_samples_give_codes_that_are_finite():
    dictionary = PatchDictionary(section(), (8, 8))
    learn(dictionary, torch.ones(10, 8, 8), 1)
    assert torch.isfinite(dictionary(torch.rand(4, 8, 8))).all()


def test_samples_that_are_not_finite_are_refused():
    samples = torch.rand(10, 8, 8)
    samples[2] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        learn(PatchDictionary(section(), (8, 8)), samples, 1)


@pytest.mark.parametrize(
    ("keys", "shape", "message"),
    [
        ({"patch": 9}, (8, 10), r"at least 9 x 9.*\(8, 10\)"),
        ({}, (20,), "needs images"),
        ({"pool": 7}, (8, 8), r"extractor\.pool = 7 needs a map of at least 7 x 7 positions, but it has 6 x 6"),
    ],
)
def test_samples_that_do_not_fit_are_refused(keys, shape, message):
    with pytest.raises(InputError, match=message):
        PatchDictionary(section(**keys), shape)


def test_more_states_than_the_map_has_rows_are_refused():
    with pytest.raises(InputError, match="states"):
        make_source(config_of(reservoir=ReservoirSection(nodes=20, states=3), extractor=section()), (8, 8), CPU)


def test_states_are_those_of_the_reservoir_driven_by_the_codes():
    settings = config_of(extractor=section(), reservoir={"nodes": 20, "states": 2, "kernel": "auto"})
    source = make_source(settings, (8, 7, 2), CPU)
    assert isinstance(source, DictionarySource)
    dictionary, samples = learned()
    source.learned.load_state_dict(dictionary.state_dict())
    expected = source.inner.states(dictionary(samples))
    torch.testing.assert_close(source.drive(samples.numpy()), expected)
    torch.testing.assert_close(source.states(source.sequencer.sequences(samples.numpy())), expected)


SMALL = [
    "reservoir.nodes=60", "reservoir.states=2", "reservoir.input_scaling=0.2", "search.generations=0",
    "training.epochs=6", "training.threads=1", "readout.outputs=20", "readout.hidden=24", "training.batch=64",
    "optimizer.learning_rate=5e-3", "run.progress=false", "extractor.kind=dictionary",
    "extractor.patch=3", "extractor.atoms=12", "extractor.pool=3",
    "extractor.patches=4000",
]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        ["states.precision=float16"],
        ["readout.kind=lstm", "extractor.sequence=positions", "reservoir.reduction=all"],
        ["readout.kind=ridge", "augment.shifts=1"],
        ["reservoir.kind=none", "extractor.precision=bf16", "readout.warm_start=true"],
    ],
    ids=["network", "lstm", "ridge", "none"],
)
def test_whole_runs_predict_as_they_evaluate(changes, tmp_path):
    results = run_stages(["prepare", "train", "evaluate"], load_config("digits", [*SMALL, *changes]), tmp_path)
    assert results["evaluate"]["accuracy"] > 0.85
    if "readout.kind=ridge" not in changes:
        assert results["evaluate"]["ridge"]["accuracy"] > 0.85
    assert_prediction_equals_evaluation(tmp_path, results["evaluate"])


def test_a_resumed_training_loads_its_dictionary_and_ends_with_the_same_bits(tmp_path):
    def trained(out, epochs: int) -> dict:
        changes = ["schedule.kind=constant", f"training.epochs={epochs}"]
        run_stages(["prepare", "train"], load_config("digits", [*SMALL, *changes]), out)
        return torch.load(out / "train/last.pt", weights_only=True)["trainer"]["network"]

    whole = trained(tmp_path / "whole", 2)
    trained(tmp_path / "halves", 1)
    file = tmp_path / "halves/train/dictionary.pt"
    before = file.stat().st_mtime_ns
    halves = trained(tmp_path / "halves", 2)
    assert file.stat().st_mtime_ns == before
    assert all(torch.equal(halves[name], value) for name, value in whole.items())


def test_the_dictionary_is_learned_from_runs_of_training_rows(tmp_path):
    run_stages(["prepare"], load_config("digits", SMALL), tmp_path)
    shards = ShardReader(tmp_path / "shards")
    total = shards.rows("train")
    training = {row.tobytes() for row in shards.read("train", 0, total).x}
    found = sampled_rows(shards, 320, seed=1)
    assert len(found) == 320
    assert {row.tobytes() for row in found} <= training
    assert np.array_equal(found, sampled_rows(shards, 320, seed=1))
    assert not np.array_equal(found, sampled_rows(shards, 320, seed=2))
    assert len(sampled_rows(shards, total + 5, seed=1)) == total


def test_the_dictionary_does_not_depend_on_the_number_of_threads(tmp_path):
    config = load_config("digits", SMALL)
    run_stages(["prepare"], config, tmp_path / "0")
    shards, found = ShardReader(tmp_path / "0/shards"), []
    for threads in (1, 2):
        source = make_source(config, shards.sample_shape, CPU)
        with limit_threads(threads):
            run = RunDirectory(tmp_path / str(threads))
            found.append(learn_extractor(config, SingleProcess(), run, shards, source))
        assert torch.equal(found[-1]["filters"], source.learned.filters)
    assert all(torch.equal(found[1][name], value) for name, value in found[0].items())


def test_a_truncated_file_is_reported_and_learned_again_to_the_same_bits(tmp_path, caplog):
    config = load_config("digits", SMALL)
    run_stages(["prepare"], config, tmp_path)
    shards, run = ShardReader(tmp_path / "shards"), RunDirectory(tmp_path)
    found = []
    for cut in (False, True):
        if cut:
            os.truncate(run.train / "dictionary.pt", 900)
        source = make_source(config, shards.sample_shape, CPU)
        with caplog.at_level("WARNING", logger="rcdp_hpc"):
            found.append(learn_extractor(config, SingleProcess(), run, shards, source))
    assert caplog.text.count("dictionary.pt: has no SHA-256") == caplog.text.count("Learning the dictionary again") == 1
    assert all(torch.equal(found[1][name], value) for name, value in found[0].items())
    assert checkpoint.load(run.train / "dictionary.pt")["dictionary"].keys() == found[0].keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["extractor.patches=5"], "needs to be at least extractor.atoms = 12"),
        (["augment.flip=true"], "needs a trained extractor"),
        (["reservoir.sequence=both", "reservoir.scans=['rows']"], "makes the sequences"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        load_config("digits", [*SMALL, *changes])
