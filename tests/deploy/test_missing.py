"""Missing values of new samples: filled as in training, and marked only where the model has a mask channel."""

import logging
from pathlib import Path

import numpy as np
import pytest
from made_models import made_model

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.deploy.in_memory import new_samples, predict_in_memory
from rcdp_hpc.deploy.predict import predict_new
from rcdp_hpc.model.model_data import _section, _standardization
from rcdp_hpc.runtime.comm.single import SingleProcess

READING = DataSection(source="npz", missing="median")


@pytest.fixture(scope="module")
def model():
    maps = Standardization("standard", np.zeros(4), np.ones(4), np.array([0.5, -1.0, 2.0, 0.25]), (0, 3))
    return made_model(['readout.kind="ridge"', "reservoir.nodes=9"], (6,), maps)


def samples():
    x = np.random.default_rng(0).normal(size=(8, 4))
    x[1, 0] = x[2, 1] = x[4, 1] = x[5, 3] = np.nan
    return x


def test_new_samples_are_given_without_channels_and_predicted_as_stored_ones(model, caplog):
    x = samples()
    assert model.raw_shape == (4,)
    found = predict_in_memory(model, x, READING, SingleProcess()).probabilities
    channels = np.isnan(x[:, [0, 3]])
    stored = np.hstack([np.where(np.isnan(x), model.data.standardization.fill, x), channels]).astype(np.float32)
    np.testing.assert_array_equal(found, model.probabilities(stored, scaled=True))
    assert "2 values are missing in features that had no missing values in the training rows: feature 1" in caplog.text


def test_missing_values_with_a_channel_are_not_a_warning(model, caplog):
    x = samples()
    x[:, 1] = 0
    caplog.set_level(logging.WARNING)
    predict_new(SingleProcess(), model, new_samples(model, x, READING), Path("x"), READING, None)
    assert "missing" not in caplog.text


@pytest.mark.parametrize("mask", [[3, 0], [0, 4], [0, 0], ["a", 1], [True, 2]])
def test_a_damaged_mask_is_refused(model, mask):
    content = model.data.standardization.to_json() | {"mask": mask}
    with pytest.raises(ValueError, match="ascending"):
        _standardization(content, (6,), False)


def test_settings_of_earlier_files_have_their_present_names():
    earlier = _section({"source": "csv", "missing": "fill", "group_column": "id"})
    assert (earlier.missing, earlier.sequence_column, earlier.group_column) == ("mean", "id", "")
    assert _section({"source": "csv", "missing": "median", "sequence_column": "id"}).missing == "median"
