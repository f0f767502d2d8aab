"""Make a source, or new samples, of arrays of samples, labels, lengths and ids (npz, npy, hdf5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.balancing.lengths import lengths_if_padded
from rcdp_hpc.data.sources.array_numbers import checked_samples, refuse_unusable_numbers
from rcdp_hpc.data.sources.base import NewSamples, Part, Samples, Source, default_scale
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.gaps import Gaps, find_gaps, leave_out_rows, without_gaps
from rcdp_hpc.data.sources.group_names import GroupNames, groups_of_array
from rcdp_hpc.data.sources.labels import Labels, checked_labels, encode_labels
from rcdp_hpc.data.sources.layout import channels_come_first, channels_last
from rcdp_hpc.data.sources.padding import checked_lengths, padded, selected, with_features
from rcdp_hpc.errors import InputError


@dataclass(frozen=True, eq=False)
class _Arrays:
    """The arrays of the training or the test part, while they are checked and converted."""

    where: str
    x: Samples
    labels: Labels | None = None
    lengths: NDArray[np.int64] | None = None
    ids: list[str] | None = None
    groups: GroupNames | None = None
    gaps: Gaps | None = None

    def select(self, places: NDArray[np.int64]) -> _Arrays:
        return replace(
            self,
            x=selected(self.x, places),
            labels=None if self.labels is None else self.labels.select(places),
            lengths=None if self.lengths is None else self.lengths[places],
            ids=None if self.ids is None else [self.ids[place] for place in places.tolist()],
            groups=None if self.groups is None else self.groups.select(places),
            gaps=None if self.gaps is None else self.gaps.select(places),
        )


def source_of(kind: str, path: Path, arrays: dict[str, Any], data: DataSection, findings: Findings) -> Source:
    """Make a source of the arrays of a file.

    Parameters
    ----------
    kind : str
        ``data.source``.
    path : Path
        File or folder, for messages.
    arrays : dict
        x and y, and any of lengths, ids, groups, x_test, y_test, lengths_test, ids_test and groups_test.
    data : DataSection
        ``kind``, ``image_layout`` and ``missing``.
    findings : Findings
        Receives assumptions and omissions.

    Raises
    ------
    InputError
        If arrays do not match, or hold invalid numbers, labels, lengths or ids.
    """
    parts = [_checked(path, arrays, "", data, findings)]
    if "x_test" in arrays or "y_test" in arrays:
        parts.append(_checked(path, arrays, "_test", data, findings))
    _warn_of_few_steps(parts[0], data, findings)
    parts = _arranged(parts, data, findings)
    _refuse_other_form(path, parts)
    parts = [_without_missing(part, data, findings) for part in _padded(parts, data, findings)]
    train, test = parts[0], parts[1] if len(parts) > 1 else None
    assert train.labels is not None
    classes, y, test_y = encode_labels(train.labels, None if test is None else test.labels, f"{path}, y_test", findings)
    lengths = _lengths_of(parts)
    x = train.x
    return Source(
        name=kind,
        classes=classes,
        train=Part(x, y, lengths[0], train.ids, train.groups),
        test=None if test is None or test_y is None else Part(test.x, test_y, lengths[1], test.ids, test.groups),
        scale=default_scale(x.dtype),
        description=f"{path.name}: {x.shape[0]} samples of shape {x.shape[1:]} and type {x.dtype}"
        + (f", {test.x.shape[0]} for the test" if test is not None else ""),
        findings=findings,
        kind="" if lengths[0] is None else "series",
    )


def samples_of(
    path: Path,
    arrays: dict[str, Any],
    data: DataSection,
    longest: int,
    findings: Findings,
    sample_shape: tuple[int, ...] = (),
) -> NewSamples:
    """Return samples without labels for prediction.

    Parameters
    ----------
    path, arrays, data, findings
        As in `source_of`.
    longest : int
        Number of steps of the model's series.
    sample_shape : tuple of int, optional
        Shape of the model's samples; it decides what is ambiguous in the arrays.

    Raises
    ------
    InputError
        As in `source_of`.
    """
    if "x" in arrays:
        data = _like_model(data, tuple(arrays["x"].shape[1:]), sample_shape)
    part = _checked(path, arrays, "", data, findings, labelled=False)
    part = _padded(_arranged([part], data, findings), data, findings, longest)[0]
    rows = np.arange(part.x.shape[0])
    if data.missing == "drop" and part.ids is None and part.gaps is not None:
        # If rows are left out, indices no longer identify the rows of the file.
        part = replace(part, ids=[str(row) for row in rows.tolist()])
    part = _without_missing(part, data, findings)
    lengths = None if part.lengths is None else lengths_if_padded(part.lengths, longest or part.x.shape[1])
    return NewSamples(part.x, lengths, part.ids, "id" if part.ids is not None else "sample", findings)


def _like_model(data: DataSection, found: tuple[int, ...], wanted: tuple[int, ...]) -> DataSection:
    """Return the settings with the kind and the layout that give samples the model's shape, if there are such."""
    changes: dict[str, str] = {}
    if data.image_layout == "auto" and len(wanted) == len(found) == 3:
        if found == wanted:
            changes["image_layout"] = "channels_last"
        elif (*found[1:], found[0]) == wanted:
            changes["image_layout"] = "channels_first"
    if data.kind == "auto" and wanted:
        series = len(wanted) == 2 and (len(found) == 2 or wanted[1] == 1)
        changes["kind"] = "series" if series else {1: "table"}.get(len(wanted), "images")
    return data.model_copy(update=changes)


def _checked(
    path: Path, arrays: dict[str, Any], suffix: str, data: DataSection, findings: Findings, labelled: bool = True
) -> _Arrays:
    """Return the arrays of one part, each of them checked."""
    for role in (f"x{suffix}", *([f"y{suffix}"] if labelled else [])):
        if role not in arrays:
            raise InputError(f"{path}: key {role} is missing; found {', '.join(arrays)}.")
    where = f"{path}: x{suffix}"
    x = checked_samples(where, arrays[f"x{suffix}"])
    samples, labels, lengths = x.shape[0], None, arrays.get(f"lengths{suffix}")
    if labelled:
        labels = _labels(path, arrays[f"y{suffix}"], f"y{suffix}", data, findings)
        if len(labels) != samples:
            raise InputError(f"{where} has {samples} samples, y{suffix} has {len(labels)} labels.")
    if lengths is not None:
        if len(x.shape) > 3:
            raise InputError(f"{path}: lengths{suffix} needs series x{suffix} of shape (samples, steps, features).")
        lengths = checked_lengths(f"{path}: lengths{suffix}", np.asarray(lengths), samples, x.shape[1])
    ids, groups = _ids(path, arrays.get(f"ids{suffix}"), f"ids{suffix}", samples), None
    if labelled and f"groups{suffix}" in arrays:
        name = f"{data.group_name or 'groups'}{suffix}"
        groups = groups_of_array(f"{path}: {name}", arrays[f"groups{suffix}"], samples)
    return _Arrays(where, x, labels, lengths, ids, groups)


def _labels(path: Path, y: Any, key: str, data: DataSection, findings: Findings) -> Labels:
    if len(y.shape) == 2 and y.shape[1] > 1 and y.dtype.kind in "buif":
        if not (((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()):
            raise InputError(
                f"{path}: {key} has shape {y.shape}, expected one label for each sample, or one-hot rows with a single "
                "1. Several labels for one sample are not supported."
            )
        findings.assumed.append(f"{path}: {key} of shape {y.shape} is one-hot: the class is the column of the 1")
        y = y.argmax(axis=1)
    return checked_labels(y, path, key, data.missing)


def _ids(path: Path, ids: Any, key: str, samples: int) -> list[str] | None:
    if ids is None:
        return None
    ids = np.asarray(ids)
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    # Texts of HDF5 files are objects.
    if ids.ndim != 1 or ids.dtype.kind not in "iuUSO" or len(ids) != samples:
        raise InputError(
            f"{path}: {key} has shape {ids.shape} and type {ids.dtype}, expected one text or whole number for each of "
            f"the {samples} samples."
        )
    return [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value) for value in ids]


def _arranged(parts: list[_Arrays], data: DataSection, findings: Findings) -> list[_Arrays]:
    """Move channels to the last axis, and add an axis of features to series of one feature."""
    first = parts[0]
    if channels_come_first(first.x.shape, data.image_layout, first.where, findings):
        wrong = [part for part in parts if len(part.x.shape) != 4]
        if wrong:
            raise InputError(f"{wrong[0].where} has shape {wrong[0].x.shape}, x has shape {first.x.shape}.")
        parts = [replace(part, x=channels_last(part.x)) for part in parts]
    parts = [replace(part, gaps=_gaps(part)) for part in parts]
    if all(len(part.x.shape) == 2 for part in parts) and _is_series(parts, data):
        findings.assumed.append(
            f"{first.where} of shape {first.x.shape}: series of {first.x.shape[1]} steps of 1 value"
        )
        parts = [
            replace(part, x=with_features(part.x), gaps=None if part.gaps is None else part.gaps.with_features())
            for part in parts
        ]
    return parts


def _warn_of_few_steps(part: _Arrays, data: DataSection, findings: Findings) -> None:
    """Record series whose steps are likely on the last axis."""
    shape = part.x.shape
    if len(shape) == 3 and shape[1] < shape[2] and data.kind in ("auto", "series") and part.x.dtype != np.uint8:
        findings.warnings.append(
            f"{part.where} of shape {shape} is read as series of {shape[1]} steps with {shape[2]} features. If the "
            "steps are on the last axis, save x.transpose(0, 2, 1)."
        )


def _gaps(part: _Arrays) -> Gaps | None:
    """Check the numbers of a part; return the places of missing values."""
    x = part.x if part.lengths is None else padded(part.x, part.lengths, part.x.shape[1])
    refuse_unusable_numbers(part.where, x)
    return find_gaps(x) if x.dtype.kind == "f" else None


def _is_series(parts: list[_Arrays], data: DataSection) -> bool:
    """Return whether arrays of shape (samples, steps) are series of one feature."""
    if data.kind == "series" or any(part.lengths is not None for part in parts):
        return True
    if data.kind != "auto" or data.missing != "refuse":
        return False
    ends = [part.gaps.ends[part.gaps.ends < part.x.shape[1]] for part in parts if part.gaps is not None]
    trailing = all(not part.gaps.within(part.gaps.ends).any() for part in parts if part.gaps is not None)
    # Rows that end early at several steps are series. A single step can be a column with missing values.
    return bool(ends) and trailing and len(np.unique(np.concatenate(ends))) > 1


def _refuse_other_form(path: Path, parts: list[_Arrays]) -> None:
    """Raise an `InputError` if training and test samples differ in shape or type."""
    if len(parts) < 2:
        return
    x, test_x = parts[0].x, parts[1].x
    unequal = len(x.shape) == 3 and any(part.lengths is not None or part.gaps is not None for part in parts)
    axes = slice(2, None) if unequal else slice(1, None)
    if len(x.shape) != len(test_x.shape) or x.shape[axes] != test_x.shape[axes]:
        raise InputError(f"{path}: samples of x_test have shape {test_x.shape[1:]}, those of x {x.shape[1:]}.")
    if test_x.dtype != x.dtype:
        # Both parts have one scale, which follows from the number format.
        raise InputError(f"{path}: x_test holds {test_x.dtype} and x holds {x.dtype}; save both in one number format.")


def _padded(parts: list[_Arrays], data: DataSection, findings: Findings, longest: int = 0) -> list[_Arrays]:
    """Set the lengths of series that end early, and pad them with zeros."""
    if len(parts[0].x.shape) != 3 or (data.kind not in ("auto", "series") and parts[0].lengths is None):
        return parts
    ends = [_ends(part) for part in parts]
    steps = max(longest, *(part.x.shape[1] for part in parts))
    if not any((end < steps).any() or (longest and steps > longest) for end in ends):
        return parts
    if longest and parts[0].lengths is None and parts[0].x.dtype == np.uint8:
        # Grey images of another height are not series.
        return parts
    for part, end in zip(parts, ends, strict=True):
        early = np.count_nonzero(end < part.x.shape[1])
        if part.lengths is None and early:
            findings.assumed.append(
                f"{part.where}: steps of NaN at the end are padding: {early} of {len(end)} series end early, lengths "
                f"{end.min()} to {end.max()}"
            )
        elif part.lengths is None and part.x.shape[1] != (longest or steps):
            findings.assumed.append(f"{part.where}: series of {part.x.shape[1]} steps, others have {longest or steps}")
    return [_ended(part, end, steps) for part, end in zip(parts, ends, strict=True)]


def _ends(part: _Arrays) -> NDArray[np.int64]:
    if part.lengths is not None:
        return part.lengths
    return np.full(part.x.shape[0], part.x.shape[1]) if part.gaps is None else part.gaps.ends


def _ended(part: _Arrays, ends: NDArray[np.int64], steps: int) -> _Arrays:
    gaps = part.gaps
    if gaps is not None and part.lengths is None:
        gaps = replace(gaps, counts=gaps.within(ends))
    return replace(part, x=padded(part.x, ends, steps), lengths=ends, gaps=gaps)


def _without_missing(part: _Arrays, data: DataSection, findings: Findings) -> _Arrays:
    """Treat missing values and labels by ``data.missing``."""
    used = np.ones(part.x.shape[0], bool)
    if part.gaps is not None:
        used &= without_gaps(part.where, part.x, part.lengths, part.gaps.counts, data.missing, findings)
    if part.labels is not None and not part.labels.present.all():
        leave_out_rows("samples without a label (data.missing = 'drop')", ~part.labels.present, findings)
        used &= part.labels.present
    if not used.any():
        raise InputError(f"{part.where}: data.missing = 'drop' leaves no sample.")
    return part if used.all() else part.select(np.flatnonzero(used))


def _lengths_of(parts: list[_Arrays]) -> list[NDArray[np.int64] | None]:
    """Return the lengths of each part; None for all parts if no series is padded."""
    lengths = [part.lengths for part in parts]
    whole = all(part.lengths is None or lengths_if_padded(part.lengths, part.x.shape[1]) is None for part in parts)
    return [None] * len(parts) if whole else lengths
