"""How much work the experiment does: a quick version for one machine, and the sizes of the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GIB = 2**30
# The record of an experiment's settings, in its folder.
SETTINGS = "experiment.json"


@dataclass(frozen=True)
class Scale:
    """Sizes of the experiment.

    Attributes
    ----------
    name : str
        For tables and messages.
    population, generations : int
        Candidates of a generation, and generations of every search.
    candidate_epochs, candidate_rows, judging_rows : int
        Epochs and training rows with which a candidate is fitted, and validation rows that judge it.
    mnist_samples, cifar10_samples : int
        Images of the data sets to draw from, with the same share of their test sets; 0 takes all.
    cifar10_share : float
        Share of the training images of CIFAR-10 in the paper's Table 1 ("subset number").
    epochs : int
        Epochs of the training with the chosen values.
    channels : tuple of int
        Channels of the convolutional extractor.
    effect_epochs : int
        Epochs of the networks with and without a reservoir (Table 5).
    image_bytes : tuple of int
        Sizes of the folders of JPEG images (Table 6).
    fold_samples : int
        Images of MNIST for the five folds (Fig. 4); 0 takes all.
    fold_population, fold_generations : int
        As `population` and `generations`, for each fold.
    methods : tuple of str
        Methods to compare; empty: all that can take the data.
    """

    name: str
    population: int
    generations: int
    candidate_epochs: int
    candidate_rows: int
    judging_rows: int
    mnist_samples: int
    cifar10_samples: int
    epochs: int
    channels: tuple[int, ...]
    effect_epochs: int
    image_bytes: tuple[int, ...]
    fold_samples: int
    fold_population: int
    fold_generations: int
    methods: tuple[str, ...] = ()
    cifar10_share: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """Return the sizes as a JSON object."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Scale:
        """Return the sizes that `as_json` returned as an object."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        return cls(**values)


QUICK = Scale(
    name="quick",
    population=4,
    generations=4,
    candidate_epochs=5,
    candidate_rows=1500,
    judging_rows=1000,
    mnist_samples=7000,
    # 1800 training images per class: more than the paper's uneven counts.
    cifar10_samples=24000,
    epochs=12,
    channels=(16, 32, 64),
    effect_epochs=4,
    image_bytes=(2 * GIB // 32, 4 * GIB // 32, 8 * GIB // 32),
    fold_samples=2000,
    fold_population=3,
    fold_generations=2,
)
# Population, generations, epochs and sizes of the paper; 5000 rows judge candidates as in the package's defaults.
FULL = Scale(
    name="full",
    population=50,
    generations=100,
    candidate_epochs=3,
    candidate_rows=5000,
    judging_rows=2000,
    mnist_samples=0,
    cifar10_samples=0,
    epochs=250,
    channels=(64, 128, 256),
    effect_epochs=250,
    image_bytes=(2 * GIB, 4 * GIB, 8 * GIB),
    fold_samples=0,
    fold_population=50,
    fold_generations=100,
)
