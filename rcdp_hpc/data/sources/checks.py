"""Check what a reader returns before anything is built on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rcdp_hpc.data.sources.base import NewSamples, Part, Source
from rcdp_hpc.data.sources.kinds import AXES
from rcdp_hpc.data.sources.load import broken_contract, call_reader


def read_labelled(name: str, read: Callable[[], Source]) -> Source:
    """Return the source that a reader returns, checked.

    Parameters
    ----------
    name : str
        ``data.source``, for messages.
    read : callable
        Calls the reader.

    Raises
    ------
    InputError
        If the reader fails, or its result is not a consistent `Source`.
    """
    source = call_reader(name, "read", read)
    if not isinstance(source, Source):
        raise broken_contract(name, "read", f"returned a {type(source).__name__}, expected a Source")
    _check(name, "Source.classes", _are_texts(source.classes), "different names, as a list of str", source.classes)
    _check(name, "Source.scale", math.isfinite(source.scale) and source.scale > 0, "a positive number", source.scale)
    _check(name, "Source.kind", source.kind in ("", *AXES), "'table', 'series', 'images' or ''", source.kind)
    for title, part in (("train", source.train), ("test", source.test)):
        if part is not None:
            _check_part(name, title, part, len(source.classes))
    _check_parts(name, source)
    return source


def read_unlabelled(name: str, read: Callable[[], NewSamples]) -> NewSamples:
    """Return the new samples that a reader returns, checked; parameters and errors as in `read_labelled`."""
    samples = call_reader(name, "read_new", read)
    if not isinstance(samples, NewSamples):
        raise broken_contract(name, "read_new", f"returned a {type(samples).__name__}, expected NewSamples")
    _check_samples(name, "NewSamples", samples.x, samples.lengths, samples.ids)
    return samples


def _check_part(name: str, title: str, part: Any, classes: int) -> None:
    _check(name, f"Source.{title}", isinstance(part, Part), "a Part", type(part).__name__)
    _check_samples(name, f"Source.{title}", part.x, part.lengths, part.ids)
    y, samples = part.y, part.x.shape[0]
    described = f"{y.dtype} of shape {y.shape}" if isinstance(y, np.ndarray) else type(y).__name__
    is_index = isinstance(y, np.ndarray) and y.shape == (samples,) and y.dtype.kind in "iu"
    _check(name, f"Source.{title}.y", is_index, f"an array of class indices, int64 of shape ({samples},)", described)
    low, high = (int(y.min()), int(y.max())) if samples else (0, 0)
    in_range = low >= 0 and high < max(classes, 1)
    _check(name, f"Source.{title}.y", in_range, f"class indices 0 to {classes - 1}", f"{low} to {high}")


def _check_samples(name: str, title: str, x: Any, lengths: Any, ids: Any) -> None:
    has_form = isinstance(getattr(x, "shape", None), tuple) and isinstance(getattr(x, "dtype", None), np.dtype)
    _check(name, f"{title}.x", has_form, "an array of numbers", type(x).__name__)
    is_numeric = x.dtype.kind in "biuf" and len(x.shape) > 1 and all(x.shape[1:])
    expected = "numbers of shape (samples, values, ...)"
    _check(name, f"{title}.x", is_numeric, expected, f"{x.dtype} of shape {tuple(x.shape)}")
    samples = x.shape[0]
    if lengths is not None:
        described = f"shape {lengths.shape}" if isinstance(lengths, np.ndarray) else type(lengths).__name__
        fits = isinstance(lengths, np.ndarray) and lengths.shape == (samples,) and lengths.dtype.kind in "iu"
        fits = fits and (not samples or (lengths.min() >= 1 and lengths.max() <= x.shape[1]))
        _check(name, f"{title}.lengths", fits, f"{samples} whole numbers from 1 to {x.shape[1]}", described)
    if ids is not None:
        _check(name, f"{title}.ids", len(ids) == samples, f"{samples} names", f"{len(ids)}")


def _check_parts(name: str, source: Source) -> None:
    train, test = source.train, source.test
    counts = np.bincount(train.y, minlength=len(source.classes))
    absent = [source.classes[label] for label in np.flatnonzero(counts == 0)]
    _check(name, "Source.train.y", not absent, "a sample of each class", f"none of class {', '.join(absent[:5])}")
    if test is None:
        return
    form, test_form = (f"{part.x.dtype} of shape {tuple(part.x.shape[1:])}" for part in (train, test))
    _check(name, "Source.test.x", form == test_form, f"samples like those of train, {form}", test_form)
    both = (train.lengths is None) == (test.lengths is None)
    _check(name, "Source.test.lengths", both, "lengths of both parts or of neither", "lengths of one part")


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and all(type(one) is str for one in names) and len(set(names)) == len(names)


def _check(name: str, what: str, holds: bool, expected: str, value: Any) -> None:
    if not holds:
        raise broken_contract(name, what, f"expected {expected}, got {value}")
