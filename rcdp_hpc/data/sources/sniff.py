"""Detect the format of a file by its content, not by its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.os_errors import unreadable_error

HEAD_BYTES = 4096
# HDF5 allows a user block of 512 bytes or a larger power of two before the signature (MATLAB's has 512).
HDF5_OFFSETS = (0, 512, 1024, 2048)
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# Codes of bytes, of 16-bit and 32-bit integers, and of floats.
IDX_TYPES = (0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E)
PARQUET = "parquet"
CSV = "csv"
TS = "ts"
ARFF = "arff"
IMAGE = "image"
ARCHIVE = "archive"
# Formats whose columns have names.
TABLES = (CSV, PARQUET, ARFF)


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes
    ----------
    name : str
        Name of the format, one word.
    meaning : str
        Name of such a file in messages, as in "an npz file".
    matches : callable
        Function of the first bytes of a file; returns whether it has the format.
    suffixes : tuple of str
        Usual suffixes, in small letters.
    refused : str
        Advice if the format is not read; empty if it is read.
    reader : str
        Function that reads new samples from a file, as ``module:function``; empty if only some sources read the format.
    without_labels : str
        Advice if a single file of the format has no labels; empty otherwise.
    """

    name: str
    meaning: str
    matches: Callable[[bytes], bool]
    suffixes: tuple[str, ...] = ()
    refused: str = ""
    reader: str = ""
    without_labels: str = ""


def _begins(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magics)


def _is_hdf5(head: bytes) -> bool:
    return any(head[offset:].startswith(HDF5_MAGIC) for offset in HDF5_OFFSETS)


def _is_idx(head: bytes) -> bool:
    return len(head) >= 8 and head[:2] == b"\0\0" and head[2] in IDX_TYPES and 0 < head[3] < 9


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _is_webp(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _is_image(head: bytes) -> bool:
    signatures = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
    grey_map = len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
    bitmap = head.startswith(b"BM") and head[6:10] == b"\0\0\0\0"
    return head.startswith(signatures) or _is_webp(head) or grey_map or bitmap


def _is_text(head: bytes) -> bool:
    # UTF-16 contains zeros, but begins with a byte order mark.
    return head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" not in head


def _is_series(head: bytes) -> bool:
    """Return whether the first line of a text that is not a comment begins with a keyword of .ts files."""
    if not _is_text(head):
        return False
    for line in head.removeprefix(b"\xef\xbb\xbf").splitlines():
        line = line.strip().lower()
        if line and not line.startswith((b"#", b"%")):
            return line.split()[0] in TS_KEYWORDS
    return False


def _is_arff(head: bytes) -> bool:
    """Return whether a text begins with @relation after its comments, as ARFF files do."""
    if not _is_text(head):
        return False
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "ignore").encode()
    lines = (line.strip().lower() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines())
    first = next((line for line in lines if line and not line.startswith(b"%")), b"")
    # If comments are long, the head holds only comments.
    return first.split()[:1] == [b"@relation"] or (not first and head.lstrip().startswith(b"%"))


TS_KEYWORDS = frozenset(
    b"@" + word
    for word in (
        b"problemname", b"timestamps", b"missing", b"univariate", b"dimension", b"equallength", b"serieslength",
        b"targetlabel", b"classlabel", b"data",
    )
)  # fmt: skip

_PACKAGE = "rcdp_hpc.data.sources"
# The first format that matches is chosen.
FORMATS = (
    Format(
        "npz", "an npz file", _begins(b"PK\x03\x04", b"PK\x05\x06"), (".npz",),
        reader=f"{_PACKAGE}.npz:read_samples",
    ),
    Format(
        "npy", "an npy file", _begins(b"\x93NUMPY"), (".npy",), reader=f"{_PACKAGE}.npy:read_samples",
        without_labels="a single array has no labels; put x.npy and y.npy into a folder, or both into an npz file",
    ),
    Format(
        "hdf5", "an HDF5 file", _is_hdf5, (".h5", ".hdf5", ".hdf", ".he5", ".mat"),
        reader=f"{_PACKAGE}.hdf5:read_samples",
    ),
    Format(
        PARQUET, "a parquet file", _begins(b"PAR1"), (".parquet", ".pq"), reader=f"{_PACKAGE}.tables:read_samples"
    ),
    Format(
        IMAGE, "an image", _is_image, (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm"),
        reader=f"{_PACKAGE}.image_folder:read_samples",
        without_labels="name the folder that has a folder of images for each class",
    ),
    Format(
        "idx", "an IDX file", _is_idx, ("-ubyte",), reader=f"{_PACKAGE}.idx:read_samples",
        without_labels="name the folder of the IDX files of images and labels",
    ),
    Format(
        ARCHIVE, "a tar archive", _is_tar, (".tar", ".tar.gz", ".tgz"),
        without_labels="CIFAR's archives are read with data.source = 'cifar10' or 'cifar100'; unpack others",
    ),
    Format("", "a file of MATLAB 5", _begins(b"MATLAB 5"), refused="save it with '-v7.3', which is HDF5, or as npz"),
    Format("", "an Arrow or Feather file", _begins(b"ARROW1", b"FEA1"), refused="save the table as parquet or csv"),
    Format("", "an old Excel workbook", _begins(b"\xd0\xcf\x11\xe0"), refused="save the table as csv or parquet"),
    # Zstandard is read for tables only.
    Format(
        CSV, "a csv table packed by Zstandard", _begins(b"\x28\xb5\x2f\xfd"), (".zst",),
        reader=f"{_PACKAGE}.tables:read_samples",
    ),
    Format(
        "", "a Python pickle", lambda head: head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5" and head[1:2] != b"",
        refused="pickles are not read for safety; save the samples with numpy.savez",
    ),
    Format(TS, "a file of time series (.ts)", _is_series, (".ts", ".tsv"), reader=f"{_PACKAGE}.ts:read_samples"),
    Format(ARFF, "an ARFF file", _is_arff, (".arff",), reader=f"{_PACKAGE}.arff:read_samples"),
    Format(
        CSV, "a csv table", _is_text, (".csv", ".tsv", ".txt", ".tab", ".dat", ".data"),
        reader=f"{_PACKAGE}.tables:read_samples",
    ),
)  # fmt: skip
READ = "npz, npy, HDF5, parquet, csv, .ts, ARFF and IDX files and images"
# First bytes of each compression, and the formats that are read in it.
PACKED = {b"\x1f\x8b": (CSV, TS, ARFF, "idx", "archive"), b"BZh": (CSV, "archive"), b"\xfd7zXZ": ("archive",)}
OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def format_of(path: Path) -> Format:
    """Return the format of a file by its content; of a compressed file, the format of the decompressed content.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        If the file is empty or cannot be read, or its format is unknown or not read.
    """
    head, unpacked = _head(path)
    if not head:
        raise InputError(f"{path}: an empty file (0 bytes).")
    content = next((one for one in FORMATS if one.matches(head)), None)
    if content is None:
        raise InputError(f"{path}: its format is unknown. Samples are read from {READ}.")
    if unpacked is not None and content.name not in unpacked:
        raise InputError(f"{path}: {content.meaning}, compressed: decompress it first.")
    if content.name == "npz":
        _refuse_other_archives(path)
    if content.refused:
        raise InputError(f"{path}: {content.meaning}, which is not read: {content.refused}.")
    return content


def format_named(name: str) -> Format:
    """Return the format with a name."""
    return next(one for one in FORMATS if one.name == name)


def formats_by_name(path: Path) -> tuple[Format, ...]:
    """Return the formats that the suffix of a file suggests, in any case."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    return tuple(one for one in FORMATS if one.suffixes and name.endswith(one.suffixes))


def _head(path: Path) -> tuple[bytes, tuple[str, ...] | None]:
    """Return the first decompressed bytes of a file, and the formats that are read in its compression (None: plain)."""
    refuse_special(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        for magic, formats in PACKED.items():
            if head.startswith(magic):
                with OPENERS[magic](path) as content:
                    return content.read(HEAD_BYTES), formats
        return head, None
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile):
        raise InputError(f"{path}: cut short or damaged: it cannot be unpacked. Fetch it again.") from None
    except OSError as error:
        raise unreadable_error(error, path) from None


def _refuse_other_archives(path: Path) -> None:
    """Raise an `InputError` if a zip file holds no arrays; the reader reports a damaged zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return
    if any(name.endswith(".npy") for name in names):
        return
    if any(name.startswith("xl/") for name in names):
        raise InputError(f"{path}: an Excel workbook, which is not read: save the table as csv or parquet.")
    members = ", ".join(names[:5]) or "nothing"
    raise InputError(f"{path}: a zip file without arrays (it holds {members}): unpack it first, or save an npz file.")
