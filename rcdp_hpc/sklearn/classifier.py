"""The estimator: a reservoir and its readout with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from rcdp_hpc.config import Config
from rcdp_hpc.config.data import FILLS
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.data.sources.group_names import groups_of_array
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.pipeline.interface import load_model, model_file
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.sklearn.errors import InvalidInputError, input_errors_as_value_errors
from rcdp_hpc.sklearn.fitted import FittedModel
from rcdp_hpc.sklearn.run import fit_model, predict_model
from rcdp_hpc.sklearn.samples import checked_x, checked_y, refuse_different_data
from rcdp_hpc.sklearn.settings import KEYS, config_of, fills_missing_values, seed_of

if TYPE_CHECKING:
    from rcdp_hpc.deploy.in_memory import Prediction

T = TypeVar("T")


class ReservoirClassifier(ClassifierMixin, BaseEstimator):
    """Classify tables, series or images with a reservoir and a readout.

    ``fit`` balances the classes, searches for a reservoir if ``generations`` is positive, and trains the readout, as
    ``rcdp run`` does. The same settings and rows give the same model. A parameter that is None takes its value from
    `config`, or the default for the kind of data. ``rcdp config table``, ``series`` and ``image`` print the defaults.

    Parameters
    ----------
    nodes : int, optional
        Number of reservoir neurons.
    spectral_radius : float, optional
        Largest eigenvalue modulus of the recurrent weights.
    leak : float, optional
        Leak rate, above 0 and at most 1.
    input_scaling : float, optional
        Scale of the input weights.
    readout : str, optional
        Kind of readout: "ridge" and "elm" are solved; "network", "lstm", "transformer" and others are trained.
    epochs : int, optional
        Largest number of epochs. It makes "network" the default readout.
    balance : str, optional
        Method that balances the classes of the training rows, such as "smote" or "none".
    validation_fraction : float, optional
        Fraction of the rows held out for validation: they choose the best epoch and the search's winner. A ridge
        readout whose penalty is chosen by left-out error is fitted to them as well.
    generations : int, optional
        Generations of the search for a reservoir; 0 is no search.
    kind : {"auto", "table", "series", "images"}, optional
        Kind of data. With "auto", samples of one axis are rows of a table, of two axes series (uint8: grey images), of
        three axes images.
    random_state : int or numpy.random.RandomState, optional
        Seed of the run and of the reservoir. With None, each fit uses the seeds of the configuration and is repeatable.
    config : dict, str, Path or Config, optional
        All other settings: a dict of sections, such as ``{"reservoir": {"density": 0.05}}``, the name of a profile such
        as "digits", the path of a TOML file, or what `rcdp_hpc.load_config` returns.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        Ranks that share the work; every rank calls every method with the same arguments. Default: this process alone.
        A clone has the same communicator; a pickled or deep-copied estimator has none.
    folder : str or Path, optional
        Where the temporary files of a fit are made. They are removed at its end. Default: in memory (/dev/shm) if they
        are small, otherwise in TMPDIR. With ranks on several nodes, a folder that all nodes share is required.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The different labels in ascending order.
    n_features_in_ : int
        Columns of a table, features of a step of series, or length of the last axis of images.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if X in `fit` is a data frame with names of type str.
    results_ : dict
        Results of the stages "prepare", "search" and "train", such as ``results_["train"]["validation_accuracy"]``.

    Notes
    -----
    Nothing is printed. Assumptions and warnings, for example about samples on another scale than the training data, go
    to the logger "rcdp_hpc": ``logging.basicConfig(level="INFO")`` shows them.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from rcdp_hpc.sklearn import ReservoirClassifier
    >>> x, y = load_wine(return_X_y=True)
    >>> model = ReservoirClassifier(nodes=200).fit(x[::2], y[::2])  # doctest: +SKIP
    >>> model.score(x[1::2], y[1::2])  # doctest: +SKIP
    0.98...
    """

    def __init__(
        self,
        nodes: int | None = None,
        *,
        spectral_radius: float | None = None,
        leak: float | None = None,
        input_scaling: float | None = None,
        readout: str | None = None,
        epochs: int | None = None,
        balance: str | None = None,
        validation_fraction: float | None = None,
        generations: int | None = None,
        kind: str | None = None,
        random_state: Any = None,
        config: Config | Mapping[str, Any] | str | Path | None = None,
        comm: Any = None,
        folder: str | Path | None = None,
    ) -> None:
        self.nodes = nodes
        self.spectral_radius = spectral_radius
        self.leak = leak
        self.input_scaling = input_scaling
        self.readout = readout
        self.epochs = epochs
        self.balance = balance
        self.validation_fraction = validation_fraction
        self.generations = generations
        self.kind = kind
        self.random_state = random_state
        self.config = config
        self.comm = comm
        self.folder = folder

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train a model. Collective.

        Parameters
        ----------
        X : array_like, DataFrame or list of array_like
            A table of shape (n, features); series of shape (n, steps, features), or a list of series of unequal length,
            each of shape (steps, features) or (steps,); images of shape (n, height, width[, channels]).
        y : array_like, shape (n,)
            Labels: integers, booleans or texts.
        groups : array_like, shape (n,), optional
            Patient, subject or site of each sample, texts or integers: a group is either in training or in validation.

        Returns
        -------
        ReservoirClassifier
            This estimator.

        Raises
        ------
        InvalidInputError
            A `ValueError`, if a parameter, samples, labels or groups cannot be used.
        """
        with input_errors_as_value_errors(), communicator_of(self.comm) as ranks:
            require_torch()
            config = ranks_agree(ranks, self._config)
            seed = ranks.broadcast(config.run.seed)
            config = ranks_agree(ranks, lambda: self._config(seed)) if self.random_state is not None else config
            arrays = ranks_agree(ranks, lambda: self._samples(X, True, config.data.kind == "series", config))
            labels, classes, columns = ranks_agree(ranks, lambda: checked_y(y, len(arrays["x"])))
            if groups is not None:
                arrays["groups"] = ranks_agree(ranks, lambda: groups_of_array("groups", groups, len(labels)).codes)
            refuse_different_data(ranks, arrays, labels)
            content, results = fit_model(config, arrays, labels, ranks, self.folder)
        self.classes_ = classes
        self.results_ = results
        self._columns = columns
        self._allow_nan = config.data.missing in FILLS
        self._fitted = FittedModel(content)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each sample. Collective.

        Parameters
        ----------
        X : array_like, DataFrame or list of array_like
            Samples as in `fit`.

        Returns
        -------
        ndarray, shape (n,)
            Labels, of the type of `classes_`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidInputError
            A `ValueError`, if the samples do not fit the model.
        """
        answers = self._predicted(X).indices
        # `_columns` has the column of the model for each class of the estimator.
        return self.classes_[np.argsort(self._columns)[answers]]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of each class. Collective.

        Parameters
        ----------
        X : array_like, DataFrame or list of array_like
            Samples as in `fit`.

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
            In the order of `classes_`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidInputError
            A `ValueError`, if the samples do not fit the model.
        """
        found = self._predicted(X).probabilities
        assert found is not None
        probabilities = found[:, self._columns].astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def _predicted(self, X: Any) -> Prediction:
        check_is_fitted(self)
        with input_errors_as_value_errors(), communicator_of(self.comm) as ranks:
            model = agree(ranks, lambda: self._fitted.model)
            series = len(model.raw_shape) == 2
            arrays = ranks_agree(ranks, lambda: self._samples(X, False, series))
            refuse_different_data(ranks, arrays)
            return predict_model(model, arrays, ranks)

    def save(self, path: str | Path) -> None:
        """Write the model to a file that ``rcdp predict`` and `rcdp_hpc.load_model` read.

        Parameters
        ----------
        path : str or Path
            The file, such as "model.pt".

        Raises
        ------
        NotFittedError
            Before `fit`.
        InputError
            If it cannot be written.
        """
        check_is_fitted(self)
        self._fitted.write(absolute_path(path))

    @classmethod
    def from_run(cls, path: str | Path, allow_code: bool = False) -> Self:
        """Return a fitted estimator with the model of a run.

        Parameters
        ----------
        path : str or Path
            A run directory or a ``model.pt``.
        allow_code : bool
            Import classes that the model file names. Such a file can run any code.

        Returns
        -------
        ReservoirClassifier
            Its labels are texts, and its parameters have their defaults.

        Raises
        ------
        InputError
            If there is no model, or it names code that is not allowed.
        DataDamagedError
            If it is damaged.
        """
        model = load_model(path, allow_code)
        self = cls()
        self.classes_ = np.array(model.classes)
        self.n_features_in_ = int(model.raw_shape[-1])
        if model.data.columns is not None:
            self.feature_names_in_ = np.array(model.data.columns.features, object)
        self.results_ = {}
        self._columns = np.arange(len(model.classes))
        self._allow_nan = model.data.reading is not None and model.data.reading.missing in FILLS
        self._fitted = FittedModel(model_file(path).read_bytes())
        return self

    def _config(self, seed: int | None = None) -> Config:
        """Return the configuration; with `seed` instead of the one that ``random_state`` gives."""
        parameters = {name: getattr(self, name) for name in KEYS}
        parameters["random_state"] = seed_of(self.random_state) if seed is None else seed
        return config_of(self.config, parameters)

    def _samples(self, X: Any, reset: bool, series: bool, config: Config | None = None) -> dict[str, NDArray[Any]]:
        allow_nan = self._allow_nan if config is None else config.data.missing in FILLS
        return checked_x(self, X, reset, series, allow_nan)

    def __sklearn_clone__(self) -> Self:
        # A communicator stands for processes and cannot be copied.
        parameters = {
            name: clone(value, safe=False) for name, value in self.get_params(deep=False).items() if name != "comm"
        }
        return type(self)(**parameters, comm=self.comm)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "comm": None}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = fills_missing_values(self.config)
        return tags


def ranks_agree(ranks: Communicator, work: Callable[[], T]) -> T:
    """Return the value of `work`; if it raises on one of several ranks, raise an `InvalidInputError` on all ranks."""
    if ranks.size == 1:
        return work()

    def checked() -> T:
        try:
            return work()
        except RcdpError:
            raise
        except (ValueError, TypeError) as error:
            raise InvalidInputError(str(error)) from error

    return agree(ranks, checked)
