"""Trained convolutions: maps, gradients through the fixed reservoir, random changes of images, whole runs."""

from __future__ import annotations

import pytest
import torch
from networks.runs import assert_prediction_equals_evaluation
from settings import config_of

from rcdp_hpc.config import AugmentSection, load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.augment import augment
from rcdp_hpc.networks.convolutions import Convolutions
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.single import SingleProcessEngine, single_process
from rcdp_hpc.parallel.synchronous import Synchronous
from rcdp_hpc.pipeline.stages import run_stages

EXTRACTOR = {"kind": "convolution", "channels": [4, 6]}


def network(reservoir: dict | None = None, **training):
    section = {"nodes": 20, **(reservoir or {})}
    settings = config_of(extractor=EXTRACTOR, reservoir=section, readout__outputs=8, readout__hidden=8, **training)
    source = make_source(settings, (8, 8), torch.device("cpu"))
    return build_network(settings, (8, 8), source, classes=3, seed=1)


@pytest.mark.parametrize(("sequence", "shape"), [("rows", (2, 3 * 6)), ("positions", (6, 6))])
@pytest.mark.parametrize("residual", [True, False])
def test_the_map_is_read_by_rows_or_positions(sequence, shape, residual):
    extractor = Convolutions((8, 12, 3), [4, 6], residual, sequence).eval()
    images = torch.randn(5, 8, 12, 3)
    found = extractor(images)
    assert found.shape == (5, *shape)
    assert (extractor.steps, extractor.features) == shape
    x = images.permute(0, 3, 1, 2)
    for stage in extractor.stages:
        x = stage(x)
    # Row 1 of the map, then position 2 of it: its channels.
    expected = x[:, :, 1, 2] / (1 + extractor.norm.eps) ** 0.5
    where = (1, slice(12, 18)) if sequence == "rows" else (5, slice(0, 6))
    torch.testing.assert_close(found[:, where[0], where[1]], expected)


def test_a_stage_by_hand():
    stage = Convolutions((2, 2), [1]).stages[0].eval()
    image = torch.tensor([[[[1.0, -2.0], [3.0, 0.5]]]])
    with torch.no_grad():
        stage.kernel.weight.copy_(torch.tensor([[0, 0, 0], [0, 2.0, 0], [0, 0, 0]])[None, None])
        stage.residual_kernel.weight.copy_(torch.tensor([[5, 5, 5], [5, 0.5, 5], [5, 5, 5]])[None, None])
    scale = 1 / (1 + stage.norm.eps) ** 0.5
    y = 2 * 3 * scale  # the largest of four, doubled; beyond the edge there is nothing
    torch.testing.assert_close(stage(image), torch.tensor([[[[y + 0.5 * y * scale]]]]))


@pytest.mark.parametrize("rows", [7, 1])
def test_batch_normalisation_of_maps_equals_that_of_torch(rows):
    torch.manual_seed(0)
    ours, theirs = SyncBatchNorm(3, single_process(), "n"), torch.nn.BatchNorm2d(3)
    x = torch.randn(rows, 3, 4, 5) * 3 + 2
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn_like(x)
    (ours(a) * weight).sum().backward()
    (theirs(b) * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_batch_normalisation_of_maps_in_bf16_is_close_and_returns_bf16():
    torch.manual_seed(0)
    norm = SyncBatchNorm(16, single_process(), "n")
    rounded = (torch.randn(8, 16, 6, 6) * 2 + 1).bfloat16()
    halved, whole = rounded.clone().requires_grad_(), rounded.float().requires_grad_()
    slope = torch.randn(8, 16, 6, 6).bfloat16()
    for x in (halved, whole):
        y = norm(x)
        assert y.dtype == x.dtype
        y.backward(slope.to(x.dtype))
    torch.testing.assert_close(halved.grad.float(), whole.grad, atol=0.02, rtol=0.02)


class _Summing(SingleProcessEngine):
    """An engine that adds the sums of another rank, which holds the other half of a batch and runs first."""

    alone = False

    def __init__(self) -> None:
        self.other = None

    def sum(self, values, name):
        total = values if self.other is None else values + self.other
        self.other = values.detach()
        return total


class _Beside(SingleProcessEngine):
    """An engine to which another rank has already added its sums."""

    alone = False

    def __init__(self, others: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.others = others

    def sum(self, values, name):
        return values + self.others[name]


def test_a_rank_without_rows_normalises_maps():
    others = {"n": torch.tensor([8.0, 40.0, 2.0]), "n.backward": torch.ones(2)}
    norm = SyncBatchNorm(1, Synchronous(_Beside(others)), "n")
    x = torch.empty(0, 1, 4, 4, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad.shape == x.shape
    assert not norm.weight.grad.any()
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.4]))  # of mean 4, variance 4, unbiased 8
    torch.testing.assert_close(norm.running_var, torch.tensor([0.9 + 0.8]))


def test_statistics_of_all_ranks_have_shapes_on_the_meta_device():
    class Apart(SingleProcessEngine):
        alone = False

    norm = SyncBatchNorm(3, Synchronous(Apart()), "n").to("meta")
    x = torch.empty(4, 3, 2, 2, device="meta", dtype=torch.bfloat16, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert x.grad.shape == x.shape


def test_batch_normalisation_of_maps_sums_over_ranks():
    x = torch.randn(6, 3, 4, 4)
    parallel = Synchronous(_Summing())
    norm = SyncBatchNorm(3, parallel, "n")
    norm(x[:2])
    torch.testing.assert_close(norm(x[2:]), torch.nn.BatchNorm2d(3)(x)[2:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reservoir", [{}, {"kind": "none"}, {"reduction": "mean_std"}, {"reduction": "all"}])
def test_gradients_flow_through_the_frozen_reservoir(reservoir):
    made = network(reservoir).train()
    labels = torch.arange(12) % 3
    torch.nn.functional.cross_entropy(made(torch.randn(12, 64)), labels).backward()
    assert all(value.grad is not None and value.grad.any() for value in made.extractor.parameters() if value.ndim > 1)
    assert not any("recurrent_0_0" in name for name in [*made.state_dict(), *dict(made.named_parameters())])


@pytest.mark.parametrize("reservoir", [{}, {"reduction": "mean"}, {"states": 2}, {"reduction": "all"}])
def test_a_rank_without_rows_computes_gradients(reservoir):
    made = network(reservoir).eval()
    scores = made(torch.empty(0, 64), SampleRng.at(1, 0, torch.empty(0, dtype=torch.int64)))
    assert scores.shape == (0, 3)
    scores.sum().backward()
    assert all(value.grad is not None and not value.grad.any() for value in made.parameters())


def test_samples_are_normalised_by_channel():
    settings = config_of(extractor={"kind": "convolution", "channels": [2]}, reservoir__kind="none")
    source = make_source(settings, (2, 2, 2), torch.device("cpu"))
    made = build_network(settings, (2, 2, 2), source, classes=2, seed=1)
    rows = torch.tensor([[0.0, 5, 2, 5, 0, 5, 2, 5]], dtype=torch.float64)
    made.standardise(rows.sum(0), rows.square().sum(0), 1)
    torch.testing.assert_close(made.input_mean, torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(made.input_scale, torch.tensor([1 / 1.001, 1000.0]))


def rng_of(*samples: int, epoch: int = 0) -> SampleRng:
    return SampleRng.at(1, epoch, torch.tensor(samples))


def test_changes_of_an_image_depend_on_the_sample_not_on_the_batch():
    settings = AugmentSection(crop=2, flip=True, cutout=3)
    images = torch.rand(6, 8, 8, 3) + 1
    whole = augment(images, settings, rng_of(0, 1, 2, 3, 4, 5))
    assert torch.equal(augment(images[4:], settings, rng_of(4, 5)), whole[4:])
    assert not torch.equal(augment(images, settings, rng_of(0, 1, 2, 3, 4, 5, epoch=1)), whole)


def test_a_shift_moves_the_image_and_fills_with_zeros():
    image = torch.arange(1, 10, dtype=torch.float32).view(1, 3, 3)
    seen = {}
    for sample in range(200):
        moved = augment(image, AugmentSection(crop=1), rng_of(sample))[0]
        at = next((y, x) for y in range(3) for x in range(3) if moved[y, x] == 5)
        expected = torch.nn.functional.pad(image, (1, 1, 1, 1))[0, 2 - at[0] : 5 - at[0], 2 - at[1] : 5 - at[1]]
        assert torch.equal(moved, expected)
        seen[at] = seen.get(at, 0) + 1
    assert len(seen) == 9
    assert max(seen.values()) < 50


def test_half_of_the_images_are_mirrored():
    images = torch.arange(6, dtype=torch.float32).view(1, 2, 3).expand(400, -1, -1)
    found = augment(images, AugmentSection(flip=True), rng_of(*range(400)))
    mirror = (found == images.flip(2)).flatten(1).all(1)
    assert bool(((found == images).flatten(1).all(1) ^ mirror).all())
    assert 150 < int(mirror.sum()) < 250


def test_alternate_mirrors_each_image_in_every_second_epoch():
    images = torch.arange(6, dtype=torch.float32).view(1, 2, 3).expand(400, -1, -1)
    settings = AugmentSection(flip=True, alternate=True)
    first, second, third = (augment(images, settings, rng_of(*range(400), epoch=epoch)) for epoch in range(3))
    assert torch.equal(second, first.flip(2))
    assert torch.equal(third, first)
    assert 150 < int((first == images).flatten(1).all(1).sum()) < 250


def test_a_shift_can_mirror_the_image_at_its_edge():
    image = torch.arange(1, 17, dtype=torch.float32).view(1, 4, 4)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")[0]
    crops = {tuple(padded[y : y + 4, x : x + 4].flatten().tolist()) for y in range(5) for x in range(5)}
    settings = AugmentSection(crop=2, edges="reflect")
    found = {tuple(augment(image, settings, rng_of(sample)).flatten().tolist()) for sample in range(400)}
    assert found == crops


@pytest.mark.parametrize("changes", [{"crop": 8, "edges": "reflect"}, {"test_shift": 8}])
def test_a_shift_larger_than_the_image_is_refused(changes):
    with pytest.raises(InputError, match=r"augment\.(crop|test_shift) = 8 .*set it to at most 7"):
        network(augment=changes)


def test_a_square_is_cut_out():
    found = augment(torch.ones(300, 9, 9), AugmentSection(cutout=3), rng_of(*range(300)))
    missing = (found == 0).flatten(1).sum(1)
    assert int(missing.max()) == 9
    assert int(missing.min()) == 4  # centred in a corner
    assert all(int((found[:, y, x] == 0).sum()) for y in range(9) for x in range(9))


SMALL = [
    "reservoir.nodes=40", "reservoir.states=2", "reservoir.input_scaling=0.3", "reservoir.sequence=rows",
    "search.generations=0", "training.epochs=8", "training.threads=1", "readout.outputs=20", "readout.hidden=24",
    "training.batch=64", "optimizer.learning_rate=5e-3", "run.progress=false", "extractor.kind=convolution",
    "extractor.channels=[8, 16]",
]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        ["augment.crop=1", "augment.test_flips=true", "states.precision=float16"],
        ["reservoir.kind=none", "augment.cutout=2"],
        ["readout.kind=gru", "extractor.sequence=positions", "reservoir.reduction=all"],
    ],
)
def test_whole_runs_predict_as_they_evaluate(changes, tmp_path, caplog):
    with caplog.at_level("INFO"):
        results = run_stages(["prepare", "train", "evaluate"], load_config("digits", [*SMALL, *changes]), tmp_path)
    assert results["evaluate"]["accuracy"] > 0.6
    assert "no ridge baseline" in caplog.text
    assert_prediction_equals_evaluation(tmp_path, results["evaluate"])


@pytest.mark.parametrize("shift", [0, 1])
def test_predictions_are_means_over_views(shift, tmp_path):
    changes = [*SMALL, "training.epochs=1", "augment.test_flips=true", f"augment.test_shift={shift}"]
    run_stages(["prepare", "train"], load_config("digits", changes), tmp_path)
    model = TrainedModel.load(tmp_path / "train/model.pt")
    samples = torch.rand(5, 8, 8)
    found = model.probabilities(samples.numpy(), scaled=True)
    model.network.changes.test_flips = False
    model.network.changes.test_shift = 0
    padded = torch.nn.functional.pad(samples, (1, 1, 1, 1), mode="reflect")
    moved = [padded[:, :-2, :-2], padded[:, 2:, 2:]]
    views = [(1.0, samples)] if not shift else [(0.5, samples), *((0.25, view) for view in moved)]
    expected = sum(
        weight / 2 * torch.from_numpy(model.probabilities(seen.numpy(), scaled=True))
        for weight, view in views
        for seen in (view, view.flip(2))
    )
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["readout.kind=ridge"], "needs another readout.kind than 'ridge'"),
        (["reservoir.sequence=both", "reservoir.scans=['rows']"], "makes the sequences"),
        (["extractor.channels=[0]"], "every entry must be 1 or more"),
        (["extractor.kind=none", "augment.flip=true"], "needs a trained extractor"),
        (["extractor.kind=perceptron"], "extractor.kind"),
        (["readout.warm_start=true"], "needs an extractor that is not trained"),
        (["reservoir.noise=0.1"], "needs reservoir.noise = 0"),
        (["reservoir.kernel=fused-bf16"], "needs reservoir.kernel = 'auto'"),
        (["augment.alternate=true"], "needs augment.flip = true"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        load_config("digits", [*SMALL, *changes])


def test_images_too_small_for_the_stages_are_refused(tmp_path):
    changes = [*SMALL, "extractor.channels=[4, 4, 4, 4]"]
    with pytest.raises(InputError, match=r"at least 16 x 16.*\(8, 8\).*fewer extractor\.channels"):
        run_stages(["prepare", "train"], load_config("digits", changes), tmp_path)


def trained(out, *changes: str) -> dict:
    run_stages(["prepare", "train"], load_config("digits", [*SMALL, "schedule.kind=constant", *changes]), out)
    return torch.load(out / "train/last.pt", weights_only=True)["trainer"]["network"]


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    changed = ["augment.crop=1", "augment.flip=true", "augment.mixup=0.5"]
    whole = trained(tmp_path / "whole", *changed, "training.epochs=2")
    trained(tmp_path / "halves", *changed, "training.epochs=1")
    halves = trained(tmp_path / "halves", *changed, "training.epochs=2")
    assert all(torch.equal(halves[name], value) for name, value in whole.items())
    # Without dropout, too, images change; and they change the same way each time.
    plain = trained(tmp_path / "plain", "training.epochs=2")
    assert not torch.equal(plain["extractor.stages.0.kernel.weight"], whole["extractor.stages.0.kernel.weight"])
