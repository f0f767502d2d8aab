"""A trained model as an object with the methods of scikit-learn's classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.in_memory import Prediction, predict_in_memory
from rcdp_hpc.model.prediction_model import PredictionModel
from rcdp_hpc.runtime.comm.single import SingleProcess


class Predictor:
    """A trained model that predicts raw samples, in this process.

    Parameters
    ----------
    model : PredictionModel
        A `TrainedModel`, or the model of an exported file.
    any_scale : bool
        Predict samples on another scale than the training data, with a warning.

    Attributes
    ----------
    classes : list of str
        Names of the classes, in the order of the columns of `predict_proba`.
    sample_shape : tuple of int
        Shape of one sample.
    """

    def __init__(self, model: PredictionModel, any_scale: bool = False) -> None:
        self.model = model
        self.any_scale = any_scale
        self.classes = list(model.classes)
        self.sample_shape = tuple(model.raw_shape)

    def predict_proba(self, samples: Any) -> NDArray[np.float32]:
        """Return class probabilities, shape (n, classes): calibrated if the model is.

        Parameters
        ----------
        samples : array_like, DataFrame, list of array_like, str or Path
            As in `rcdp_hpc.predict`.

        Raises
        ------
        InputError
            If samples do not fit the model.
        """
        probabilities = self._prediction(samples).probabilities
        assert probabilities is not None
        return probabilities

    def predict(self, samples: Any) -> NDArray[np.str_]:
        """Return the name of the class that is answered for each sample, shape (n,); parameters as `predict_proba`.

        It is the most probable class of the model itself, or the class that its priors, thresholds or costs decide for.
        """
        return self._prediction(samples).labels

    def __repr__(self) -> str:
        """Return the file, and what it takes and gives."""
        return f"<{Path(self.model.where).name}: samples {self.sample_shape}, {len(self.classes)} classes>"

    def _prediction(self, samples: Any) -> Prediction:
        reading = self.model.data.reading
        return predict_in_memory(self.model, samples, reading, SingleProcess(), any_scale=self.any_scale)
