"""The source ``image_folder``: images in one folder per class (ImageNet's layout), decoded by Pillow on all cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rcdp_hpc.data.sources.base import NewSamples, Part, Source, default_scale
from rcdp_hpc.data.sources.class_names import clean_name
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.folders import SERIES_SUFFIXES, first_nested_file
from rcdp_hpc.data.sources.image_files import READ, list_images, shown
from rcdp_hpc.data.sources.image_findings import report_copies, report_pixels
from rcdp_hpc.data.sources.image_layout import Layout, find_layout
from rcdp_hpc.data.sources.image_pixels import DecodeMemory, PixelRule, need_pillow
from rcdp_hpc.data.sources.image_rows import Decoded, ImageRows, decode_all
from rcdp_hpc.data.sources.image_shape import shape_of
from rcdp_hpc.data.sources.labels import Labels, encode_labels
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.sniff import IMAGE
from rcdp_hpc.errors import InputError


class ImageFolderReader(SourceReader):
    """Images in one folder for each class."""

    takes_test_path = True
    file_formats = (IMAGE,)

    def read(self, request: SourceRequest) -> Source:
        """Read images: ``path/CLASS/*.png``, or ``path/train/CLASS/`` with ``path/test/CLASS/`` or ``path/val/CLASS/``.

        The shorter side of an image is resized, and the centre is cropped. Every image is decoded once at the
        beginning, to find the corrupt ones; images beyond the memory budget are decoded again each time they are
        needed.

        Parameters
        ----------
        request : SourceRequest
            Its path is the folder. The keys ``image_*`` and ``corrupt_images`` decide how images are decoded.

        Raises
        ------
        InputError
            If Pillow is missing, there are no class folders, a class has no images, or an image is corrupt and
            ``data.corrupt_images`` is "fail".
        """
        path, data, budget, progress = request.path, request.data, request.budget, request.progress
        need_pillow(path)
        findings = Findings()
        layout = find_layout(path, data.test_path, findings)
        files, labels = _labelled(layout.train, layout.classes, findings)
        _refuse_empty(layout.train, layout.classes, labels, findings)
        test_files: list[Path] = []
        test_labels = None
        if layout.test is not None:
            test_files, test_labels = _labelled(layout.test, layout.test_classes, findings)
            test_labels = _known_classes(layout, test_labels, findings)
            if not test_files:
                raise InputError(f"{layout.test}: no image ({READ}) in the folders of its classes.")
        classes, y, test_y = encode_labels(labels, test_labels, str(layout.test), findings)
        shape = shape_of(files + test_files, data, findings)
        rule = PixelRule.of(data, shape)
        decoded = decode_all(files, rule, data.corrupt_images, budget, findings, progress)
        y = y[decoded.whole]
        absent = np.flatnonzero(np.bincount(y, minlength=len(classes)) == 0)
        if len(absent):
            raise InputError(f"{layout.train / classes[absent[0]]}: no readable image, all of this class are corrupt.")
        tested = None
        if test_y is not None:
            tested = decode_all(test_files, rule, data.corrupt_images, budget, findings, progress)
            test_y = test_y[tested.whole]
        report_pixels(decoded.facts + (tested.facts if tested else []), rule, findings)
        report_copies(decoded, y, tested, test_y, findings)
        test = None if tested is None or test_y is None else _part(tested, test_y, layout.test or path)
        return Source(
            kind="images",
            name="image_folder",
            classes=classes,
            train=_part(decoded, y, layout.train),
            test=test,
            scale=default_scale(np.dtype(np.uint8)),
            description=f"{path.name}: {len(y)} images of {shape[0]}x{shape[1]}x{shape[2]}"
            + ("" if test is None else f", {len(test)} for the test"),
            findings=findings,
        )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the folder has data in subfolders, and they are not series."""
        if not path.is_dir():
            return False
        file = first_nested_file(path)
        return file is not None and file.suffix.lower() not in SERIES_SUFFIXES


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the images of a folder and its subfolders in the order of their paths, or a single image.

    With ``data.corrupt_images = "skip"``, every image is decoded here, and corrupt ones are left out and counted.
    Otherwise images are decoded when they are needed, and a corrupt one is refused then.

    Parameters
    ----------
    request : SampleRequest
        Its path is a folder or an image file. Height, width and channels of the model's samples have precedence over
        the keys ``image_*``.

    Raises
    ------
    InputError
        If Pillow is missing, there is no image, or an image is corrupt and ``data.corrupt_images`` is "fail".
    """
    path, data, shape, budget = request.path, request.data, request.shape, request.budget
    need_pillow(path)
    findings = Findings()
    folder = path if path.is_dir() else path.parent
    files = list_images(path, findings) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no image ({READ}) there.{_left_out(findings)}")
    rule = PixelRule.of(data, shape if len(shape) == 3 and shape[2] in (1, 3) else shape_of(files, data, findings))
    if data.corrupt_images == "fail":
        return NewSamples(
            ImageRows(files, rule, DecodeMemory(budget)),
            ids=[shown(file, folder) for file in files],
            id_name="file",
            findings=findings,
        )
    decoded = decode_all(files, rule, data.corrupt_images, budget, findings, progress=False)
    if not decoded.files:
        raise InputError(f"{path}: all {len(files)} images are corrupt.")
    report_pixels(decoded.facts, rule, findings)
    ids = [shown(file, folder) for file in decoded.files]
    return NewSamples(decoded.x, ids=ids, id_name="file", findings=findings)


def _part(decoded: Decoded, y: np.ndarray, folder: Path) -> Part:
    return Part(decoded.x, y, ids=[shown(file, folder) for file in decoded.files])


def _labelled(part: Path, classes: list[Path], findings: Findings) -> tuple[list[Path], Labels]:
    """Return the images of the classes' folders, and the names of their folders as labels."""
    files: list[Path] = []
    codes: list[int] = []
    for code, folder in enumerate(classes):
        images = list_images(folder, findings)
        files += images
        codes += [code] * len(images)
    return files, Labels([shown(folder, part) for folder in classes], np.array(codes, np.int64), str(part))


def _refuse_empty(part: Path, classes: list[Path], labels: Labels, findings: Findings) -> None:
    counts = np.bincount(labels.codes, minlength=len(classes))
    names = [labels.names[code] for code in np.flatnonzero(counts == 0)]
    if names:
        more = f", and so do {len(names) - 1} more ({', '.join(names[1:6])})" if len(names) > 1 else ""
        raise InputError(
            f"{part / names[0]}: no readable image ({READ}) of this class{more}. Remove empty folders, or add images."
            f"{_left_out(findings)}"
        )


def _left_out(findings: Findings) -> str:
    """Return what was left out, as the likely reason why there is no image."""
    listed = ", ".join(f"{count} {what}" for what, count in findings.left_out.most_common(3))
    return f" Left out: {listed}." if listed else ""


def _known_classes(layout: Layout, test: Labels, findings: Findings) -> Labels:
    """Return the test labels by the names of the training folders; a folder may differ by case."""
    training = {clean_name(folder.name) for folder in layout.classes}
    by_case: dict[str, list[str]] = {}
    for name in training:
        by_case.setdefault(name.casefold(), []).append(name)
    names = []
    for name in test.names:
        matches = by_case.get(clean_name(name).casefold(), [])
        if clean_name(name) in training:
            names.append(name)
        elif len(matches) == 1:
            findings.assumed.append(f"{layout.test}: the folder {name!r} holds images of the class {matches[0]!r}")
            names.append(matches[0])
        else:
            raise InputError(f"{layout.test}: class {name!r} does not occur in {layout.train}.")
    return Labels(names, test.codes, test.where)
