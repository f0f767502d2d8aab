"""Where samples come from: one module per kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import digits, idx, npz
from rcdp_hpc.data.sources.base import Part, Source, default_scale, to_float
from rcdp_hpc.errors import InputError

__all__ = ["Part", "Source", "default_scale", "open_source", "read_samples", "to_float"]


def open_source(settings: DataSection) -> Source:
    """Read the source that the configuration names.

    Raises
    ------
    InputError
        If a file is missing, damaged or not what the source expects, or holds fewer than two classes.
    """
    if settings.source == "digits":
        source = digits.read_source()
    elif not settings.path:
        raise InputError(f"data.path is empty: data.source = '{settings.source}' needs the path of its data.")
    elif settings.source == "mnist":
        source = idx.read_source(Path(settings.path))
    else:
        source = npz.read_source(Path(settings.path))
    if len(source.classes) < 2:
        found = f"only class {source.classes[0]!r}" if source.classes else "none"
        raise InputError(
            f"data source {settings.path or settings.source}: two classes or more are needed, {found} found."
        )
    return source


def read_samples(path: Path) -> NDArray[Any]:
    """Read samples that need no labels, for prediction.

    Parameters
    ----------
    path : Path
        An npz file (key ``x``) or a file of IDX images, plain or .gz.

    Returns
    -------
    ndarray, shape (N, *sample_shape)
        Raw samples; multiply by the scale in index.json (`to_float`).

    Raises
    ------
    InputError
        If the file is missing, damaged, empty or of neither format.
    """
    return npz.read_samples(path) if path.suffix == ".npz" else idx.read_images(path)
