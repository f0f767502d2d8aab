"""Malicious or unusual changes of data files that use knowledge of the format."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet

from campaign import directed
from rcdp_hpc.model import checkpoint
from rcdp_hpc.runtime import digests

# Code in a data file creates a file of this name if it is run.
MARKER = "marker-of-code-that-ran"
FAKE = "rcdp: error: FAKE"
CELLS = (
    "nan", "NaN", "inf", "-inf", "1e999", "1e-999", "", " ", "?", "NA", "-", "0x10", "1_000", "1,5", "1.234.567", "١٢",
    "½", "True", "'", '"', '""', '"a', "\x00", "\x1b[31mred\x1b[0m", f"x\r{FAKE}", f'"x\n{FAKE}"', "=1+1", "@SUM(A1)",
    "$(touch x)", "{", "}", ":", "%", "#", "\\", "../../x", "x" * 100_000, "9" * 400, "-0", "+1", "1e5", "é", "\ud7ff",
    "\u202egnp.exe", "2024-01-01", "1970-01-01T00:00:00Z",
)  # fmt: skip


class _Runs:
    """An object whose unpickling runs a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {MARKER}",)


def cell(path: Path, draw: random.Random) -> str:
    """Replace a value of a text file with an unusual one."""
    text = path.read_text(errors="surrogateescape")
    words = list(re.finditer(r"[^\s,:;{}]+", text))
    if not words:
        return line(path, draw)
    word, odd = draw.choice(words), draw.choice(CELLS)
    _write(path, text[: word.start()] + odd + text[word.end() :])
    return f"{word.group()[:20]!r} at {word.start()} is {odd[:30]!r}"


def line(path: Path, draw: random.Random) -> str:
    """Remove, repeat, move, join or replace lines."""
    lines = path.read_text(errors="surrogateescape").splitlines() or [""]
    place, kind = draw.randrange(len(lines)), draw.choice(("drop", "repeat", "first", "odd", "join", "blank", "only"))
    if kind == "drop":
        del lines[place]
    elif kind == "repeat":
        lines.insert(place, lines[place])
    elif kind == "first":
        lines.insert(0, lines.pop(place))
    elif kind == "odd":
        lines[place] = draw.choice(CELLS)
    elif kind == "join":
        lines[place : place + 2] = ["".join(lines[place : place + 2])]
    elif kind == "blank":
        lines[place:place] = ["", " ", "\t"]
    else:
        lines = lines[: draw.choice((1, 2, 3))]
    _write(path, "\n".join(lines) + "\n")
    return f"line {place + 1}: {kind}"


def encoding(path: Path, draw: random.Random) -> str:
    """Write the text in another encoding, or with other line breaks or separators."""
    text = path.read_text(errors="surrogateescape")
    kind = draw.choice(("utf-16", "utf-16-le", "utf-8-sig", "crlf", "cr", "nul", "latin", "separator", "wide"))
    if kind in ("utf-16", "utf-16-le", "utf-8-sig"):
        path.write_bytes(text.encode(kind, "surrogatepass"))
    elif kind in ("crlf", "cr"):
        path.write_bytes(text.replace("\n", "\r\n" if kind == "crlf" else "\r").encode("utf-8", "surrogateescape"))
    elif kind == "nul":
        path.write_bytes(text.encode("utf-8", "surrogateescape").replace(b",", b"\0", 3))
    elif kind == "latin":
        path.write_bytes(text.replace("red", "r\xe9d").replace("low", "l\xf6w").encode("latin-1", "replace"))
    elif kind == "wide":
        _write(path, "\n".join(one + ",1" * 3000 for one in text.splitlines()[:20]) + "\n")
    else:
        _write(path, text.replace(",", draw.choice((";", "\t", "|", ", ", ",,", "\u3000"))))
    return f"written as {kind}"


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


def npy(path: Path, draw: random.Random) -> str:
    """Write a wrong header, or another type."""
    header = {
        "rows": "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 8, 8), }",
        "huge": "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9), }",
        "negative": "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 8, 8), }",
        "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (88,), }",
        "code": "{'descr': __import__('os').system('touch x'), 'fortran_order': False, 'shape': (1,), }",
        "deep": f"{'(' * 3000}{')' * 3000}",
        "none": "",
        "bytes": "{'descr': '|S100000000', 'fortran_order': False, 'shape': (88,), }",
        "void": "{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (88,), }",
    }
    kind = draw.choice((*header, "array", "pickled"))
    if kind == "array":
        np.save(path.open("wb"), _odd_array(draw))
    elif kind == "pickled":
        with path.open("wb") as file:
            np.save(file, np.array([_Runs()] * 88, object), allow_pickle=True)
    else:
        text = header[kind].encode() + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 65535)) + text + bytes(1000))
    return f"an npy file: {kind}"


def _odd_array(draw: random.Random) -> np.ndarray:
    odd: tuple[np.ndarray, ...] = (
        np.zeros((0, 8, 8)), np.zeros(()), np.zeros((88, 0)), np.full((88, 8, 8), np.nan), np.full((88, 8, 8), np.inf),
        np.full((88, 8, 8), 1e300), np.zeros((88, 8, 8), complex), np.array(["\x1b[31mx", f"a\n{FAKE}"] * 44),
        np.zeros(88, "datetime64[s]"), np.zeros((2, 8, 8)), np.zeros((88, 8, 8, 2, 2)), np.arange(88) + 2**60,
        np.zeros((88, 8, 8), "float16"), np.zeros((88, 8, 8), bool), np.zeros((1, 100_000)),
        np.full((88, 8, 8), -1e-320),
    )  # fmt: skip
    return odd[draw.randrange(len(odd))]


def npz(path: Path, draw: random.Random) -> str:
    """Write another archive."""
    kind = draw.choice(("odd x", "odd y", "lying x", "outside", "bomb", "twice", "no arrays", "encrypted", "names"))
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    memory = io.BytesIO()
    if kind in ("odd x", "odd y"):
        content[kind[-1]] = _odd_array(draw)
        np.savez(memory, **content)
    else:
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            _fill_archive(archive, kind, content, draw)
    data = memory.getvalue()
    path.write_bytes(_marked_encrypted(data) if kind == "encrypted" else data)
    return f"an npz file: {kind}"


def _fill_archive(archive: zipfile.ZipFile, kind: str, content: Mapping[str, np.ndarray], draw: random.Random) -> None:
    names = {"outside": "../../{}.npy", "names": f"\x1b[31m{{}}\n{FAKE}.npy"}.get(kind, "{}.npy")
    for name, array in content.items():
        if kind == "no arrays":
            archive.writestr(f"{name}.txt", "text")
        elif kind == "lying x" and name == "x":
            text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000000, 64, 64), }\n"
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(100))
        elif kind == "bomb" and name == "x":
            with archive.open("x.npy", "w", force_zip64=True) as member:
                text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (400000000,), }\n"
                member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
                for _ in range(400):
                    member.write(bytes(2**20))
        else:
            memory = io.BytesIO()
            np.save(memory, array)
            archive.writestr(names.format(name), memory.getvalue())
            if kind == "twice":
                with warnings.catch_warnings(action="ignore"):
                    archive.writestr(names.format(name), memory.getvalue()[:-1])


def _marked_encrypted(data: bytes) -> bytes:
    return data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")


def hdf5(path: Path, draw: random.Random) -> str:
    """Replace the dataset x."""
    kind = draw.choice(("huge", "external", "soft", "group", "strings", "odd", "virtual", "storage", "chunk", "filter"))
    with h5py.File(path, "a") as file:
        del file["x"]
        if kind == "huge":
            file.create_dataset("x", (10**9, 8, 8), "f4", chunks=(1000, 8, 8))
        elif kind == "external":
            file["x"] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "soft":
            file["x"] = h5py.SoftLink("/x")
        elif kind == "group":
            file.create_group("x")
        elif kind == "strings":
            file["x"] = ["\x1b[31mx"] * 88
        elif kind == "virtual":
            layout = h5py.VirtualLayout((88, 8, 8), "f4")
            layout[...] = h5py.VirtualSource("/etc/passwd", "x", (88, 8, 8))
            file.create_virtual_dataset("x", layout)
        elif kind == "storage":
            file.create_dataset("x", (88, 8, 8), "u1", external=[("/etc/passwd", 0, 5632)])
        elif kind == "chunk":
            file.create_dataset("x", (88, 8, 8), "f8", chunks=(2**20, 8, 8), maxshape=(None, 8, 8), compression="gzip")
        elif kind == "filter":
            file.create_dataset("x", (88, 8, 8), "u1", chunks=(88, 8, 8), fletcher32=True, shuffle=True)
        else:
            array = _odd_array(draw)
            file["x"] = array.astype("S9") if array.dtype.kind in "UM" else array
    return f"x is {kind}"


def parquet(path: Path, draw: random.Random) -> str:
    """Replace a column."""
    table = pyarrow.parquet.read_table(path)
    rows = len(table)
    columns = {
        "nulls": pyarrow.nulls(rows), "nested": pyarrow.array([[1, 2]] * rows),
        "structs": pyarrow.array([{"a": 1}] * rows), "bytes": pyarrow.array([b"\xff\x00"] * rows),
        "huge": pyarrow.array([1e300] * rows), "nan": pyarrow.array([float("nan")] * rows),
        "names": pyarrow.array([f"\x1b[31mx\n{FAKE}"] * rows), "large": pyarrow.array([2**62] * rows),
        "flat": pyarrow.array([1.0] * rows), "map": pyarrow.array([[("a", 1)]] * rows, pyarrow.map_("string", "int8")),
    }  # fmt: skip
    kind = draw.choice(sorted(columns))
    place = draw.randrange(table.num_columns)
    name = draw.choice((table.column_names[place], f"\x1b[31m{kind}\n{FAKE}", ""))
    pyarrow.parquet.write_table(table.set_column(place, name, columns[kind]), path)
    return f"column {place} is {kind}, its name {name!r}"


def idx(path: Path, draw: random.Random) -> str:
    """Write a wrong header."""
    header = draw.choice(
        (
            struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**16, 2**16), struct.pack(">BBBBIII", 0, 0, 8, 3, 0, 8, 8),
            struct.pack(">BBBBIII", 0, 0, 13, 3, 88, 8, 8), struct.pack(">BBBBI", 0, 0, 8, 1, 10**9),
            struct.pack(">BBBB", 0, 0, 8, 255), struct.pack(">BBBB", 1, 2, 3, 4),
            struct.pack(">BBBBIII", 0, 0, 8, 3, 88, 0, 8),
        )
    )  # fmt: skip
    data = header + bytes(5632)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return f"header {header.hex()}"


def pickled(path: Path, draw: random.Random) -> str:
    """Write another pickle."""
    values: Mapping[str, object] = {
        "code": _Runs(),
        "list": [1, 2],
        "no data": {b"labels": [0] * 20},
        "other rows": {b"data": np.zeros((3, 3072), np.uint8), b"labels": [1] * 20},
        "text": {b"data": "x", b"labels": "y"},
        "labels": {b"data": np.zeros((20, 3072), np.uint8), b"labels": [99] * 20},
        "objects": {b"data": np.array([_Runs()] * 20, object), b"labels": [0] * 20},
        "floats": {b"data": np.full((20, 3072), np.nan), b"labels": [0] * 20},
    }
    kind = draw.choice((*values, "deep", "shared"))
    if kind == "deep":
        path.write_bytes(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".")
    elif kind == "shared":
        # A list of lists of the same list: 2^40 entries in 300 bytes.
        inner: list[object] = [0]
        for _ in range(40):
            inner = [inner, inner]
        path.write_bytes(pickle.dumps({b"data": inner, b"labels": inner}, 2))
    else:
        path.write_bytes(pickle.dumps(values[kind], 2))
    return f"a pickle: {kind}"


def archive(path: Path, draw: random.Random) -> str:
    """Write another tar archive."""
    kind = draw.choice(("outside", "link", "device", "bomb", "no batches", "twice"))
    with tarfile.open(path) as before:
        members = [(member, before.extractfile(member)) for member in before.getmembers()]
        content = [(member, file.read()) for member, file in members if file is not None]
    with tarfile.open(path, "w:gz") as after:
        for member, data in content if kind != "no batches" else []:
            if kind == "outside":
                member.name = f"../../../{Path(member.name).name}"
            if kind == "link":
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            if kind == "device":
                member.type, member.size = tarfile.CHRTYPE, 0
            if kind == "bomb":
                data = bytes(2**28) if member.name.endswith("data_batch_1") else data
                member.size = len(data)
            after.addfile(member, io.BytesIO(data))
            if kind == "twice":
                after.addfile(member, io.BytesIO(data))
    return f"a tar file: {kind}"


def image(path: Path, draw: random.Random) -> str:
    """Write an image with a wrong size, or of another kind."""
    kind = draw.choice(("huge png", "large png", "svg", "text", "empty png", "bmp", "wide gif"))
    size = {"huge png": (2**31 - 1, 2**31 - 1), "large png": (13_000, 13_000), "empty png": (0, 0)}.get(kind, (8, 8))
    if kind.endswith("png"):
        head = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
        body = zlib.compress(bytes(2**20))
        data = b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    elif kind == "bmp":
        data = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 2**30, -(2**30), 1, 24, 0, 0, 0, 0, 0, 0)
    elif kind == "wide gif":
        data = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b",\0\0\0\0\1\0\1\0\0\2\2L\1\0;"
    else:
        data = b"<svg xmlns='http://www.w3.org/2000/svg'/>" if kind == "svg" else b"\x1b[31mnot an image"
    path.write_bytes(data)
    return f"an image: {kind}"


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def names(path: Path, draw: random.Random) -> str:
    """Rename a file to a name with control characters, shell syntax, or bytes that are not UTF-8."""
    name = draw.choice(
        (b"\x1b[31mred\x1b[0m", b"\xff\xfe", b"a\n" + FAKE.encode(), b"$(touch x)", b"-rf", b"a b;c", b" ", b"x" * 200)
    )
    target = os.path.join(os.fsencode(path.parent), name + os.fsencode(path.suffix))
    os.rename(os.fsencode(path), target)
    return f"the file is named {name!r}"


def device(path: Path, draw: random.Random) -> str:
    """Replace the file with a device, a pipe, a folder, or a link to itself."""
    kind = draw.choice(("/dev/zero", "/dev/full", "/dev/stdin", "/dev/tty", "/proc/self/mem", "pipe", "folder", "loop"))
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name if kind == "loop" else kind)
    return f"{kind} in the place of the file"


def forged(path: Path, draw: random.Random) -> str:
    """Change a value in a file of the package, and write a digest that matches."""
    if path.suffix == ".pt":
        content = checkpoint.load(path)
        what = directed.change_within(content, draw)
        path.unlink()
        checkpoint.save(path, content)
    elif path.suffix == ".json":
        value, what = directed.change_value(digests.read_sealed(path), draw)
        digests.write_sealed(path, value)
    else:
        lines = path.read_text().splitlines()
        place = draw.randrange(len(lines))
        value, what = directed.change_value(json.loads(lines[place]), draw)
        value.pop(digests.KEY, None)
        lines[place] = digests.sealed_line(value).rstrip("\n")
        path.write_text("".join(f"{line}\n" for line in lines))
    return f"{what}, with a digest that fits"


Attack = Callable[[Path, random.Random], str]
# Attacks by the end of the file name; text files are also changed as text.
ATTACKS: Mapping[str, tuple[Attack, ...]] = {
    ".npy": (npy,),
    ".npz": (npz,),
    ".h5": (hdf5,),
    ".parquet": (parquet,),
    "ubyte": (idx,),
    "ubyte.gz": (idx,),
    "batch": (pickled,),
    ".tar.gz": (archive,),
    **dict.fromkeys((".png", ".jpg", ".bmp", ".gif", ".tif", ".pgm", ".webp"), (image,)),
    ".toml": (directed.change_toml, cell, line, encoding),
    ".sh": (cell, line, encoding),
    **dict.fromkeys((".pt", ".json", ".jsonl"), (forged,)),
    **dict.fromkeys((".csv", ".ts", ".tsv", ".arff"), (cell, cell, cell, line, encoding)),
}
ANYWHERE: tuple[Attack, ...] = (names, device)


def attack(path: Path, draw: random.Random) -> str:
    """Change a file in a random way that fits its format; return a description."""
    fitting = [one for end, some in ATTACKS.items() if path.name.endswith(end) for one in some]
    if "batch" in path.name:
        fitting += [pickled]
    chosen = draw.choice(ANYWHERE) if not fitting or draw.random() < 0.15 else draw.choice(fitting)
    return chosen(path, draw)
