"""The content of a file decides its reader, not its name."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import pickle
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import Columns, read_samples
from rcdp_hpc.data.sources.sniff import format_of
from rcdp_hpc.errors import InputError

X = np.arange(12, dtype=np.float32).reshape(3, 4)
CSV = b"a,b,c,d\n" + b"\n".join(b",".join(b"%d" % value for value in row) for row in X) + b"\n"
TS = b"# a comment\n\n@problemName p\n@univariate true\n@classLabel false\n@data\n1,2,3\n4,5,6\n"
IDX = b"\0\0\x08\x03" + b"".join(length.to_bytes(4, "big") for length in (3, 2, 2)) + bytes(range(12))


def saved(save, **more) -> bytes:
    file = io.BytesIO()
    save(file, **more)
    return file.getvalue()


def hdf5(userblock=0) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=userblock) as content:
        content["x"] = X
    return file.getvalue()


def image(form) -> bytes:
    pillow = pytest.importorskip("PIL.Image")
    return saved(pillow.fromarray(np.zeros((4, 5, 3), np.uint8)).save, format=form)


def archive(name) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        content.writestr(name, "")
    return file.getvalue()


CONTENTS = {
    "npz": lambda: saved(np.savez, x=X),
    "npy": lambda: saved(lambda file: np.save(file, X)),
    "hdf5": hdf5,
    "csv": lambda: CSV,
    "ts": lambda: TS,
    "idx": lambda: IDX,
}


@pytest.mark.parametrize("name", ["s", "s.dat", "S.CSV", "s.npz", "s.h5", "s.png"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_is_read_by_its_content(kind, name, tmp_path):
    (tmp_path / name).write_bytes(CONTENTS[kind]())
    new = read_samples(tmp_path / name, DataSection(source="csv"), longest=3)
    expected = {"ts": [[[1], [2], [3]], [[4], [5], [6]]], "idx": np.arange(12).reshape(3, 2, 2)}.get(kind, X)
    np.testing.assert_array_equal(np.asarray(new.x[:]), expected)
    agrees = {"s.npz": "npz", "S.CSV": "csv", "s.dat": "csv", "s.h5": "hdf5"}.get(name) == kind
    said = [sentence for sentence in new.findings.assumed if "by its content" in sentence]
    assert bool(said) != (agrees or (kind, name) == ("idx", "s"))


@pytest.mark.parametrize("name", ["NEW.CSV", "new.data", "new.tsv", "new.txt", "new", "new.csv.gz", "new.CSV.GZ"])
def test_tables_with_other_suffixes(name, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(CSV, mtime=0) if name.lower().endswith("gz") else CSV)
    assert format_of(tmp_path / name).name == "csv"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_images_by_their_first_bytes(form, tmp_path):
    (tmp_path / "i").write_bytes(image(form))
    assert format_of(tmp_path / "i").name == "image"


def test_one_image_is_one_sample(tmp_path):
    (tmp_path / "Photo.PNG").write_bytes(image("PNG"))
    new = read_samples(tmp_path / "Photo.PNG", DataSection(source="image_folder", image_size=[8, 8]))
    assert np.asarray(new.x[:]).shape == (1, 8, 8, 3)
    assert list(new.ids) == ["Photo.PNG"]
    assert new.id_name == "file"


@pytest.mark.parametrize("userblock", [512, 1024, 2048])
def test_hdf5_with_a_user_block(userblock, tmp_path):
    (tmp_path / "m.mat").write_bytes(hdf5(userblock))
    np.testing.assert_array_equal(read_samples(tmp_path / "m.mat").x[:], X)


def test_parquet_and_compressed_files(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"a": [1.0]}), tmp_path / "p.csv")
    assert format_of(tmp_path / "p.csv").name == "parquet"
    (tmp_path / "i.gz").write_bytes(gzip.compress(IDX, mtime=0))
    (tmp_path / "i").write_bytes(gzip.compress(IDX, mtime=0))
    assert read_samples(tmp_path / "i.gz").x.shape == read_samples(tmp_path / "i").x.shape == (3, 2, 2)
    (tmp_path / "b.csv").write_bytes(bz2.compress(CSV))
    assert format_of(tmp_path / "b.csv").name == "csv"


REFUSED = [
    (b"", "an empty file"),
    (pickle.dumps([1]), "a Python pickle, which is not read.*numpy.savez"),
    (archive("xl/workbook.xml"), "an Excel workbook.*save the table as csv"),
    (archive("notes.txt"), r"a zip file without arrays \(it holds notes.txt\)"),
    (b"MATLAB 5.0 MAT-file, Platform: x" + bytes(200), "MATLAB 5.*-v7.3"),
    (b"ARROW1\0\0", "an Arrow or Feather file.*parquet"),
    (gzip.compress(b"\x93NUMPY\1\0", mtime=0), "an npy file, compressed: decompress it first"),
    (gzip.compress(CSV, mtime=0)[:-12], "cut short or damaged"),
    (b"\1\0\2\0\3\0", "its format is unknown. Samples are read from npz"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_other_formats_are_refused_with_advice(content, message, tmp_path):
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_samples(tmp_path / "s.npz", DataSection(source="npz"))


def test_only_some_sources_read_archives(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as content:
        content.addfile(tarfile.TarInfo("x"))
    assert format_of(tmp_path / "a.tar.gz").name == "archive"
    with pytest.raises(InputError, match="a tar archive: unpack it first"):
        read_samples(tmp_path / "a.tar.gz", DataSection(source="npz"))


def test_streams_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: a pipe; a regular file is needed.*save the content"):
        read_samples(tmp_path / "pipe")
    with pytest.raises(InputError, match="not read from standard input"):
        read_samples(tmp_path.__class__("-"))
    with pytest.raises(InputError, match="no such file or folder"):
        read_samples(tmp_path / "none")


def test_arrays_for_a_model_of_a_table_have_its_order_of_columns(tmp_path):
    np.savez(tmp_path / "s.npz", x=X)
    new = read_samples(tmp_path / "s.npz", DataSection(source="csv"), columns=Columns(list("abcd"), {}))
    assert any("in the order of training: a, b, c, d" in sentence for sentence in new.findings.assumed)
    assert any("the model was trained on data.source = 'csv'" in sentence for sentence in new.findings.assumed)
