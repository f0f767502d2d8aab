"""Shifted copies of training images for a readout that is solved."""

from __future__ import annotations

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.training.states.shifts import check_shifts, shifted, shifts_within

SMALL = [
    "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=128", "search.generations=0",
    "readout.kind=ridge", "training.threads=1", "run.progress=false",
]  # fmt: skip


def test_the_unshifted_image_is_first_and_every_shift_occurs_once():
    assert shifts_within(0) == [(0, 0)]
    assert set(shifts_within(1)) == {(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)}
    found = shifts_within(2)
    assert found[0] == (0, 0)
    assert len(found) == len(set(found)) == 13


def test_shifted_images_repeat_the_edge():
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert shifted(image, (0, 0)) is image
    assert shifted(image, (1, 0)).tolist() == [[[0, 1, 2], [0, 1, 2]]]
    assert shifted(image, (0, -1)).tolist() == [[[1, 2, 2], [4, 5, 5]]]
    colour = np.stack([image, image + 10], axis=3)
    assert shifted(colour, (0, 1))[..., 1].tolist() == [[[10, 10, 11], [13, 13, 14]]]


def test_a_readout_solved_with_shifts_reads_shifted_images_better(tmp_path):
    weights = []
    for name, shifts in ("none", 0), ("one", 1):
        config = load_config("digits", [*SMALL, f"augment.shifts={shifts}", "data.balance=none"])
        run_stages(["prepare", "train"], config, tmp_path / name)
        weights.append(TrainedModel.load(tmp_path / name / "train/model.pt"))
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = shifted((digits.images / 16).astype(np.float32), (0, 1))
    plain, told = (
        float((model.probabilities(images, scaled=True).argmax(1) == digits.target).mean()) for model in weights
    )
    assert told > plain + 0.05


@pytest.mark.parametrize(
    ("shape", "shortest"), [((64,), None), ((20, 3), 7), ((28, 2), None)], ids=["table", "lengths", "narrow"]
)
def test_samples_that_are_not_images_are_refused(shape, shortest):
    check_shifts(0, shape, shortest)
    with pytest.raises(InputError, match=r"augment\.shifts = 2 moves images.*set it to 0"):
        check_shifts(2, shape, shortest)


def test_a_trained_readout_has_no_shifts():
    with pytest.raises(InputError, match=r"augment\.shifts = 1 needs readout\.kind = 'ridge'"):
        load_config("digits", ["augment.shifts=1"])
