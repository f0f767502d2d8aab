"""List the image files in a folder, and record other files with the reason why they are left out."""

from __future__ import annotations

import os
from pathlib import Path

from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

# Pillow's name of each format, and the suffixes that are listed. The content of a file decides how it is decoded.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
READ = "JPEG, PNG, BMP, WebP, TIFF, GIF, PGM or PPM"
CAMERA_FILES = {".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
OTHER_IMAGES = {
    *(
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".svg",
        ".eps",
        ".pdf",
        ".psd",
        ".xcf",
        ".ico",
        ".tga",
        ".pcx",
    ),
    *(".exr", ".hdr", ".dcm", ".nii"),
    *CAMERA_FILES,
}
SYSTEM_FILES = {"thumbs.db", "desktop.ini", ".ds_store"}
SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin"}


def is_image(file: Path) -> bool:
    """Return whether the suffix of a file is one of the image formats that are read."""
    return file.suffix.lower() in SUFFIXES


def hidden_kind(name: str, folder: bool) -> str:
    """Return the kind of a hidden file or folder for the findings; empty if it is not hidden."""
    if folder and name == ".ipynb_checkpoints":
        return ".ipynb_checkpoints folders of Jupyter"
    if folder and name.lower() in SYSTEM_FOLDERS:
        return "folders of the operating system"
    if not folder and name.lower() in SYSTEM_FILES:
        return "files of the operating system"
    if not folder and name.startswith("._"):
        return "._ files of macOS"
    if name.startswith("."):
        return "hidden folders" if folder else "hidden files"
    return ""


def entries(folder: Path, findings: Findings) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in a folder, sorted by name.

    Links are followed. Hidden entries and broken links are recorded as left out.

    Raises
    ------
    InputError
        If the folder cannot be read.
    """
    folders, files = [], []
    try:
        listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from None
    for entry in listed:
        path = folder / entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:
            is_folder = is_file = False
        hidden = hidden_kind(entry.name, is_folder)
        if hidden:
            findings.leave_out(hidden, example=shown(path))
        elif is_folder:
            folders.append(path)
        elif is_file:
            files.append(path)
        else:
            findings.leave_out("broken links" if entry.is_symlink() else "special files", example=shown(path))
    return folders, files


def list_images(folder: Path, findings: Findings) -> list[Path]:
    """Return the images of a folder and its subfolders, sorted by path; other files are recorded as left out.

    Parameters
    ----------
    folder : Path
    findings : Findings
        Receives what is left out.
    """
    images: list[Path] = []
    _walk(folder, findings, images, set())
    return sorted(images, key=lambda file: file.relative_to(folder).parts)


def shown(file: Path, folder: Path | None = None) -> str:
    """Return the path of a file (relative to `folder`) as printable text: bytes that are not UTF-8 are escaped."""
    name = file if folder is None else file.relative_to(folder)
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def left_out_kind(file: Path) -> str:
    """Return the kind of a file that is not read, for the findings."""
    suffix = file.suffix.lower()
    if suffix in OTHER_IMAGES:
        return f"images in a format that is not read ({suffix}): convert them to PNG"
    return f"files that are not images ({suffix or 'no suffix'})"


def _walk(folder: Path, findings: Findings, images: list[Path], above: set[tuple[int, int]]) -> None:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        findings.leave_out("links to a folder that contains them", example=shown(folder))
        return
    folders, files = entries(folder, findings)
    for file in files:
        if is_image(file):
            images.append(file)
        else:
            findings.leave_out(left_out_kind(file), example=shown(file))
    for inner in folders:
        _walk(inner, findings, images, above | {identity})
