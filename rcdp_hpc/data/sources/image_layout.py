"""The layout of a folder of images: the folders of training and test images, with one folder for each class."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from rcdp_hpc.data.sources.class_names import clean_name
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.image_files import entries, is_image, list_images, shown
from rcdp_hpc.errors import InputError

# Names of the folders of the parts, in small letters.
PARTS = {
    "train": {"train", "training", "trn"},
    "test": {"test", "testing", "tst"},
    "validation": {"val", "valid", "validation", "dev"},
}
DEEPEST = 5


@dataclass(frozen=True)
class Layout:
    """The folders of the images.

    Attributes
    ----------
    train : Path
        The folder with one folder for each class.
    classes : list of Path
        The folders of the classes, sorted by name.
    test : Path or None
        The folder of the test images, with one folder for each class.
    test_classes : list of Path
    """

    train: Path
    classes: list[Path]
    test: Path | None = None
    test_classes: list[Path] = field(default_factory=list)


def find_layout(path: Path, test_path: str, findings: Findings) -> Layout:
    """Return the folders of the training and the test images.

    Parameters
    ----------
    path : Path
        The folder.
    test_path : str
        ``data.test_path``: the folder of the test images if it is elsewhere.
    findings : Findings
        Receives assumptions and omissions.

    Raises
    ------
    InputError
        If the folder is missing, holds no class, or its layout is ambiguous.
    """
    _need_folder(path, "data.path")
    top, folders = _descend(path, findings)
    parts = _parts(top, folders)
    train, classes = (top, folders) if "train" not in parts else _class_folders(parts["train"], findings)
    test = None
    if test_path:
        test = _test_folder(Path(test_path), findings)
    elif "train" in parts:
        test = parts.get("test") or parts.get("validation")
        _report_parts(parts, test, folders, findings)
    else:
        test = _test_among_classes(folders, findings)
        classes = [folder for folder in classes if folder != test]
    if not classes:
        raise InputError(f"{train}: no folders there; one is needed for each class, with its images.{_hint(train)}")
    _report_files_outside_classes(train, findings)
    if test is None:
        return Layout(train, classes)
    test, test_classes = _class_folders(test, findings)
    _report_files_outside_classes(test, findings)
    return Layout(train, classes, test, test_classes)


def _need_folder(path: Path, key: str) -> None:
    if path.is_file():
        packed = " Unpack it first." if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar") else ""
        raise InputError(f"{key} = {path} is a file, expected a folder with one folder for each class.{packed}")
    if not path.is_dir():
        raise InputError(f"{key} = {path}: no such folder.")


def _descend(path: Path, findings: Findings) -> tuple[Path, list[Path]]:
    """Return the first folder below `path` with more than one entry, and its folders: archives have one top folder."""
    start = path
    folders, files = entries(path, findings)
    for _ in range(DEEPEST):
        if len(folders) != 1 or any(map(is_image, files)) or _role(folders[0]) in ("train", "test", "validation"):
            break
        inner, inner_files = entries(folders[0], findings)
        if not inner:
            break
        path, folders, files = folders[0], inner, inner_files
    if path != start:
        findings.assumed.append(f"{start} holds one folder only, the images are read from {path}")
    return path, folders


def _role(folder: Path) -> str:
    """Return the part whose name the folder has; empty if it has another name."""
    name = folder.name.strip().lower()
    return next((part for part, names in PARTS.items() if name in names), "")


def _loose_role(folder: Path) -> str:
    """Return the part that is a word of the folder's name, as in seg_train or Training Set; empty if there is none."""
    words = set(re.split(r"[^a-z]+", folder.name.lower()))
    return next((part for part, names in PARTS.items() if words & names), "")


def _parts(top: Path, folders: list[Path]) -> dict[str, Path]:
    """Return the folders of the parts; empty if there is no training folder."""
    nested = {folder for folder in folders if entries(folder, Findings())[0]}
    for role in (_role, _loose_role):
        parts: dict[str, Path] = {}
        for folder in folders:
            part = role(folder)
            if not part or folder not in nested:
                continue
            if part in parts:
                raise InputError(
                    f"{top}: both {parts[part].name!r} and {folder.name!r} may be the {part} images. Set data.path to "
                    "the folder of the training images and data.test_path to that of the test images."
                )
            parts[part] = folder
        if "train" in parts and (role is _role or len(parts) > 1):
            return parts
    if folders and all(_role(folder) for folder in folders):
        raise InputError(
            f"{top}: found {', '.join(folder.name for folder in folders)}, but no training folder with one folder for "
            "each class in it. Expected train/CLASS/*.png and, for the test, test/CLASS/*.png."
        )
    return {}


def _class_folders(part: Path, findings: Findings) -> tuple[Path, list[Path]]:
    """Return the folder of a part that holds its classes, and their folders; train/train/CLASS is accepted."""
    folders, files = entries(part, findings)
    while len(folders) == 1 and not any(map(is_image, files)):
        inner, inner_files = entries(folders[0], findings)
        if not inner:
            break
        part, folders, files = folders[0], inner, inner_files
        findings.assumed.append(f"the classes are the folders in {part}")
    return part, folders


def _test_folder(path: Path, findings: Findings) -> Path:
    _need_folder(path, "data.test_path")
    top, folders = _descend(path, findings)
    roles = {_role(folder): folder for folder in folders}
    return roles["test"] if set(roles) <= set(PARTS) and "test" in roles else top


def _test_among_classes(folders: list[Path], findings: Findings) -> Path | None:
    """Return a test folder next to the folders of the classes, as in cat/, dog/, test/cat/, test/dog/."""
    names = {clean_name(folder.name).casefold() for folder in folders}
    for folder in folders:
        if not _role(folder):
            continue
        inner = {clean_name(sub.name).casefold() for sub in entries(folder, Findings())[0]}
        if inner & names:
            findings.assumed.append(f"{folder.name}/ holds folders with the names of classes: it is the test set")
            return folder
        findings.warnings.append(f"{folder} is read as the class {folder.name!r}")
    return None


def _report_parts(parts: dict[str, Path], test: Path | None, folders: list[Path], findings: Findings) -> None:
    for folder in folders:
        if folder not in parts.values():
            findings.leave_out("folders next to the training folder", example=shown(folder))
    if test is None:
        return
    findings.assumed.append(f"{parts['train'].name}/ holds the training images and {test.name}/ the test images")
    other = parts.get("validation")
    if other is not None and other != test:
        count = len(list_images(other, Findings()))
        findings.leave_out(f"images of {other.name}/", count)
        findings.warnings.append(
            f"{other} is not read: the validation part is taken from the training images (data.validation_fraction). "
            "Move its images to the training folder to train with them, or set data.test_path to it to test on them"
        )


def _report_files_outside_classes(folder: Path, findings: Findings) -> None:
    for file in entries(folder, Findings())[1]:
        what = "images that are in no class folder" if is_image(file) else "files next to the class folders"
        findings.leave_out(what, example=shown(file))


def _hint(folder: Path) -> str:
    files = entries(folder, Findings())[1]
    images = sum(map(is_image, files))
    tables = [file.name for file in files if file.suffix.lower() == ".csv"]
    if not images:
        return ""
    table = f" {tables[0]} may name their classes: sort the images into folders by it." if tables else ""
    return f" {images} images are directly in it.{table}"
