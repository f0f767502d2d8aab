"""The small images that a tree of large JPEG images is made of, in the order in which they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import Part, open_source
from rcdp_hpc.errors import InputError

# By ``data.source``; other sources are called by their value.
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist": "MNIST"}


@dataclass(frozen=True, eq=False)
class SmallImages:
    """Images of all parts of a source, each once.

    Attributes
    ----------
    parts : tuple of Part
        Training part, and test part if there is one.
    folders : list of str
        A folder name for each class.
    labels : ndarray of int64, shape (N,)
    name : str
        Name of the data set, as in "CIFAR-10".
    description : str
        Of the source: file and number of images.
    """

    parts: tuple[Part, ...]
    folders: list[str]
    labels: NDArray[np.int64]
    name: str
    description: str

    @classmethod
    def of(cls, data: DataSection) -> SmallImages:
        """Return the images of a source.

        Raises
        ------
        InputError
            If the source has no 8-bit images.
        """
        source = open_source(data)
        if source.kind != "images" or source.dtype != np.uint8 or source.sample_shape[2:] not in ((), (1,), (3,)):
            raise InputError(
                f"data.source = '{data.source}': {source.description}, but a tree of JPEG images is made of images of "
                "8 bits, grey or in colour: choose a source such as 'cifar10'"
            )
        parts = (source.train,) if source.test is None else (source.train, source.test)
        labels = np.concatenate([part.y for part in parts])
        name = NAMES.get(data.source, data.source)
        return cls(parts, _folder_names(source.classes), labels, name, source.description)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sides(self) -> str:
        """Width and height in pixels, as text."""
        height, width = self.parts[0].x.shape[1:3]
        return f"{width} x {height}"

    def order(self, seed: int) -> NDArray[np.int64]:
        """Return all image numbers in an order in which every beginning has the classes in their proportions.

        Images of a class are in random order. Image k (from 0) of the n images of a class has the place (k + 1/2) / n
        between 0 and 1; images are sorted by place, then class.
        """
        random = np.random.default_rng([seed, len(self)])
        places = np.empty(len(self))
        for label in range(len(self.folders)):
            members = np.flatnonzero(self.labels == label)
            places[random.permutation(members)] = (np.arange(len(members)) + 0.5) / max(1, len(members))
        return np.lexsort((self.labels, places)).astype(np.int64)

    def pixels(self, numbers: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Return the pixels of images by their numbers, each (height, width) or (height, width, 3)."""
        first = len(self.parts[0])
        images: list[Any] = [None] * len(numbers)
        for part, start in zip(self.parts, (0, first), strict=False):
            chosen = np.flatnonzero((numbers >= start) & (numbers < start + len(part)))
            if len(chosen):
                for place, image in zip(chosen.tolist(), np.asarray(part.x[numbers[chosen] - start]), strict=True):
                    images[place] = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        return images


def _folder_names(classes: list[str]) -> list[str]:
    """Return a folder name for each class: its name without characters that paths do not take, and unique."""
    names = [re.sub(r"[^\w-]+", "_", name).strip("_") or "class" for name in classes]
    if len({name.casefold() for name in names}) == len(names):
        return names
    return [f"{number:03d}_{name}" for number, name in enumerate(names)]
