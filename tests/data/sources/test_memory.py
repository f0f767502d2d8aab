"""``data.memory_budget``: readers refuse data that need more memory before they allocate it."""

import bz2
import gzip
import lzma
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import tracemalloc

import h5py
import numpy as np
import pytest

from rcdp_hpc.cluster.estimates import PREPARE_PROCESS_BYTES
from rcdp_hpc.config import DataSection
from rcdp_hpc.data import budget as memory
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources import parquet_reading, read_samples
from rcdp_hpc.data.sources.parquet_pages import _largest_page
from rcdp_hpc.data.sources.unpickle import read_pickle
from rcdp_hpc.errors import InputError
from tests.data.sources.conftest import opened, write_tar
from tests.launch import environment

MIB = 2**20
# Runs a command, and prints its exit code and its own peak of memory: that of a child would begin with the parent's.
MEASURED = """
import re, sys
from rcdp_hpc.cli.commands import main
try:
    code = main()
except SystemExit as end:
    code = end.code
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
print("measured", code or 0, peak, file=sys.stderr)
"""


@pytest.fixture
def small(monkeypatch):
    """Remove the least size of the shares, so that small inputs suffice."""
    monkeypatch.setattr(memory, "LEAST_SHARE", 2**20)


def prepare(folder, source, path, budget=160, **options):
    """Prepare in a separate process; return its exit code, its peak memory in MiB and its output."""
    config = folder / "c.toml"
    lines = [f'source = "{source}"', f'path = "{path}"', f"memory_budget = {budget}"]
    config.write_text("\n".join(["[data]", *lines, *(f"{key} = {value!r}" for key, value in options.items())]))
    command = [sys.executable, "-c", MEASURED, "prepare", str(config), "--out", str(folder / "run")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"measured (\d+) (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1]), int(found[2]) / 1024, done.stdout + done.stderr


def write_chunk(path, rows):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((rows, 1000), np.float32), chunks=(rows, 1000), compression="gzip")
        file["y"] = np.arange(rows) % 2
    return path


def write_labels(path):
    np.savez_compressed(path, x=np.zeros((1000, 4), np.float32), y=np.zeros(15_000_000, np.int64))
    return path


def write_long_text(path):
    import pyarrow as pa
    from pyarrow import parquet

    texts = pa.chunked_array([pa.array(["x" * 200_000] * 1000 + ["y"] * 1000)] * 2)
    numbers = np.arange(4000)
    parquet.write_table(pa.table({"a": numbers % 7 * 0.5, "t": texts, "label": numbers % 3}), path)
    return path


@pytest.mark.parametrize(
    ("source", "write", "name", "options", "words"),
    [
        ("npz", write_labels, "l.npz", {}, r"l.npz: x has 1000 samples, y has 15000000 labels"),
        (
            "hdf5",
            lambda path: write_chunk(path, 20_000),
            "c.h5",
            {},
            r"c.h5: dataset x .* HDF5 decompresses in one piece.* h5repack",
        ),
        ("parquet", write_long_text, "t.parquet", {"category_columns": ["t"], "balance": "none"}, "prepared"),
    ],
)
def test_a_preparation_stays_within_the_budget_or_is_refused(tmp_path, source, write, name, options, words):
    code, peak, text = prepare(tmp_path, source, write(tmp_path / name), **options)
    assert re.search(words, text), text
    assert code == (0 if words == "prepared" else 2)
    assert peak < 160 + PREPARE_PROCESS_BYTES / MIB


def test_rows_that_a_header_declares_are_counted_before_they_are_read(tmp_path, small):
    np.savez(tmp_path / "n.npz", x=np.zeros((100_000, 1), np.uint8), y=np.arange(100_000) % 2)
    message = r"n.npz: labels, indices and names of 100000 rows need .* MiB.*set data.memory_budget to at least (\d+)"
    with pytest.raises(InputError, match=message) as problem:
        opened("npz", tmp_path / "n.npz", memory_budget=1)
    wanted = int(re.search(message, str(problem.value))[1])
    assert len(opened("npz", tmp_path / "n.npz", memory_budget=wanted).train) == 100_000


def test_names_are_counted_with_the_rows(tmp_path, small):
    arrays = {"x": np.zeros((5000, 2), np.uint8), "y": np.arange(5000) % 2}
    np.savez(tmp_path / "n.npz", **arrays)
    np.savez(tmp_path / "i.npz", **arrays, ids=np.array([f"{row:0>100}" for row in range(5000)]))
    opened("npz", tmp_path / "n.npz", memory_budget=1)
    with pytest.raises(InputError, match=r"i.npz: labels, indices and names of 5000 rows .* for texts"):
        opened("npz", tmp_path / "i.npz", memory_budget=1)


def test_one_text_that_many_rows_share_is_held_once(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["x"] = np.zeros((20_000, 2), np.float32)
        file.create_dataset("y", (20_000,), h5py.string_dtype(), data=["short"] * 10_000 + ["l" * 900] * 10_000)
        file.create_dataset("ids", (20_000,), h5py.string_dtype(), data=[str(row) for row in range(20_000)])
    tracemalloc.start()
    source = opened("hdf5", tmp_path / "t.h5", memory_budget=256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sorted(map(len, source.classes)) == [5, 900]
    assert source.train.ids[17] == "17"
    # As an array of fixed width the labels alone would take 72 MB.
    assert peak < 40e6


def test_large_chunks_are_unpacked_once(tmp_path, monkeypatch):
    x = np.random.default_rng(0).random((3000, 1000)).astype(np.float32)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(2000, 1000), compression="gzip", compression_opts=1)
        file["y"] = np.arange(3000) % 2
    source = opened("hdf5", tmp_path / "c.h5", memory_budget=8)
    rows = np.array([2999, 5, 1500, 2001])
    np.testing.assert_array_equal(source.train.x[rows], x[rows])
    assert type(source.train.x).__name__ == "MappedRows"


@pytest.mark.parametrize("written", [0, 1])
def test_rows_of_hdf5_that_were_never_written_are_refused(tmp_path, written):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", (10**9, 4), "f4", chunks=(1024, 4))
        file["x"][: written * 1024] = 1
        file.create_dataset("y", (10**9,), "i8", chunks=(1024,))
    with pytest.raises(InputError, match=r"d.h5: dataset x declares 1000000000 rows"):
        opened("hdf5", tmp_path / "d.h5")


def test_a_member_that_declares_more_than_it_compresses_is_refused(tmp_path):
    path = tmp_path / "b.npz"
    np.savez_compressed(path, x=np.zeros((100, 4), np.float32), y=np.arange(100) % 2)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"b.npz: x: .*declares 2147483648 bytes"):
        opened("npz", path)


def test_the_checksum_of_a_mapped_member_is_verified_for_prediction_too(tmp_path):
    path = tmp_path / "x.npz"
    x = np.random.default_rng(0).random((5000, 100)).astype(np.float32)
    np.savez(path, x=x)
    new = read_samples(path, DataSection(source="npz", memory_budget=1), 0, None, (100,))
    np.testing.assert_array_equal(new.x[4000:], x[4000:])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x.npz: damaged"):
        read_samples(path, DataSection(source="npz", memory_budget=1), 0, None, (100,))


def test_parquet_rows_are_counted_by_the_metadata(tmp_path, small):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"a": np.arange(200_000) * 0.5, "label": np.arange(200_000) % 2}), tmp_path / "r.parquet"
    )
    with pytest.raises(InputError, match=r"r.parquet: labels, indices and names of 200000 rows"):
        opened("parquet", tmp_path / "r.parquet", memory_budget=1)


@pytest.mark.parametrize(("page", "refused"), [(2**30, True), (2**14, False)])
def test_the_memory_of_a_row_group_is_that_of_its_pages(tmp_path, small, monkeypatch, page, refused):
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setattr(parquet_reading, "PARQUET_ROWS", 1024)

    path, rows = tmp_path / "g.parquet", 50_000
    features = {name: np.random.default_rng(0).random(rows) for name in "abcdef"}
    table = pa.table({**features, "label": np.arange(rows) % 2 * 1.0})
    options = {"row_group_size": rows, "data_page_size": page, "use_dictionary": False, "write_batch_size": 100}
    parquet.write_table(table, path, **options)
    column = parquet.read_metadata(path).row_group(0).column(0)
    with path.open("rb") as file:
        largest = _largest_page(file, column)
    # Packed and unpacked; pyarrow writes at most 20,000 rows to a page.
    assert largest == pytest.approx(2 * min(page, 8 * 20_000), rel=0.2)
    if refused:
        with pytest.raises(InputError, match=r"g.parquet: the pages of .* row group 0 .*row_group_size"):
            opened("parquet", path, memory_budget=9)
    else:
        assert len(opened("parquet", path, memory_budget=9).train) == rows


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        ("csv", "t.csv", "a,label\n1,0\n2,1\n{}3,1\n"),
        ("arff", "t.arff", "@relation r\n@attribute a string\n@attribute class {{0,1}}\n@data\na,0\nb,1\n{},1\n"),
        ("ts", "t.ts", "@problemName t\n@timeStamps false\n@classLabel true 0 1\n@data\n1,2:0\n1,2:1\n1,{}1:1\n"),
    ],
)
@pytest.mark.parametrize("opener", [open, gzip.open])
def test_a_long_line_is_refused_by_its_number(tmp_path, small, source, name, text, opener):
    path = tmp_path / (name + ".gz" * (opener is gzip.open))
    with opener(path, "wt") as file:
        file.write(text.format("1," * 100_000))
    with pytest.raises(InputError, match=rf"{name}.*: line \d of \d{{6,}} (bytes|characters).* in one piece"):
        opened(source, path, memory_budget=1, delimiter=",")


def test_a_long_series_in_a_file_of_its_own_is_refused(tmp_path, small):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "s.csv").write_text("1,2\n" * 20)
    long = tmp_path / "b" / "t.csv"
    long.write_text("1,2\n" * 300_000)
    with pytest.raises(InputError, match=r"t.csv: a series of \d+ values is held in one piece"):
        opened("series_folder", tmp_path, memory_budget=1)
    long.unlink()
    np.save(long.with_suffix(".npy"), np.zeros((300_000, 2)))
    with pytest.raises(InputError, match=r"t.npy: a series of 600000 values is held in one piece"):
        opened("series_folder", tmp_path, memory_budget=1)


def test_the_memory_of_an_image_follows_from_its_header(tmp_path, small, monkeypatch):
    from PIL import Image

    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 2, 3)).save(tmp_path / label / f"{number}.png")
    Image.new("RGB", (3000, 3000)).save(tmp_path / "a" / "big.png")
    loaded = []
    from PIL.PngImagePlugin import PngImageFile

    monkeypatch.setattr(PngImageFile, "load", lambda self: loaded.append(self.size) or type(self).__mro__[1].load(self))
    message = r"a/big.png: an image of 3000 x 3000 pixels is decoded in one piece: this needs 51.5 MiB"
    for corrupt in ("fail", "skip"):
        with pytest.raises(InputError, match=message):
            opened("image_folder", tmp_path, memory_budget=40, corrupt_images=corrupt)
    assert (3000, 3000) not in loaded
    assert len(opened("image_folder", tmp_path, memory_budget=220).train) == 9


def idx(shape, data=b""):
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + data


def test_idx_headers_are_compared_with_the_file(tmp_path):
    images, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx((10**9,), bytes(6))))
    images.write_bytes(gzip.compress(idx((10**9, 28, 28), bytes(784))))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz: shape 1000000000x28x28: .* declares"):
        opened("mnist", tmp_path)
    images.write_bytes(gzip.compress(idx((6, 2, 2), bytes(24))))
    with pytest.raises(
        InputError, match=r"train-labels-idx1-ubyte.gz: more labels than images: 1000000000 labels, 6 images"
    ):
        opened("mnist", tmp_path)
    labels.write_bytes(gzip.compress(idx((6,), bytes(6) + bytes(2**26))))
    with pytest.raises(InputError, match=r"train-labels-idx1-ubyte.gz: longer than its header declares"):
        opened("mnist", tmp_path)


@pytest.mark.parametrize(("suffix", "pack"), [("xz", lzma.open), ("gz", gzip.open), ("bz2", bz2.open)])
def test_an_archive_expands_to_at_most_the_size_of_the_set(tmp_path, monkeypatch, suffix, pack):
    from rcdp_hpc.data.sources import cifar

    monkeypatch.setattr(cifar, "EXPANDED_BYTES", 2**22)
    path = tmp_path / f"c.tar.{suffix}"
    with pack(path, "wb") as file:
        member = tarfile.TarInfo("cifar-10-batches-py/readme.html")
        member.size = 2**30
        file.write(member.tobuf() + bytes(2**24))
    with pytest.raises(InputError, match=r"c.tar.* refused: its \d+ bytes unpack to more than 4194304"):
        opened("cifar10", path)


def test_a_long_description_in_a_tar_is_refused(tmp_path):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 2**28
    (tmp_path / "c.tar").write_bytes(member.tobuf() + bytes(2**20))
    with pytest.raises(InputError, match=r"c.tar: cut short, damaged .*a description of 268435456 bytes"):
        opened("cifar10", tmp_path / "c.tar")


def test_xz_files_of_several_streams_with_padding_are_read(tmp_path):
    plain = tmp_path / "c.tar"
    write_tar(plain, {"cifar-10-batches-py/readme.html": bytes(range(256)) * 100})
    data = plain.read_bytes()
    packed = lzma.compress(data[:3000]) + bytes(8) + lzma.compress(data[3000:]) + bytes(4)
    (tmp_path / "c.tar.xz").write_bytes(packed)
    from rcdp_hpc.data.sources.streams import open_xz

    with open_xz(tmp_path / "c.tar.xz") as file:
        assert file.read() == data
    (tmp_path / "c.tar.xz").write_bytes(packed[: len(packed) // 2])
    with open_xz(tmp_path / "c.tar.xz") as file, pytest.raises(EOFError):
        file.read()


def shared(times, width):
    inner = [0] * width
    for _ in range(times):
        inner = [inner] * width
    return inner


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({b"labels": shared(4, 100)}, 2),
        pickle.dumps({b"labels": shared(40, 2)}, 2),
        pickle.dumps({b"labels": [[1] * 10_000] * 10_000}, 4),
        # A text that is made into bytes again for each reference to it.
        pickle.dumps({b"labels": [b"x" * 10_000]}, 2)[:-3] + b"(" + b"c_codecs\nencode\nX\x10'\0\0" + b"y" * 10_000
        + b"q\x63X\x06\0\0\0latin1\x86q\x64R" + b"0c_codecs\nencode\nh\x64R" * 50 + b"e.",
        # The number of an object, before which the unpickler makes room for all others.
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"Np2000000000\n.",
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00Nr\xff\xff\xff\x7f.",
        b"\x80\x02" + b"]" * 40_000 + b".",
    ],
)  # fmt: skip
def test_a_pickle_expands_to_no_more_than_it_holds(small, data):
    with pytest.raises(InputError, match=r"here: (refused|it consists of)"):
        read_pickle(data, "here", Budget(2**20))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_every_protocol_is_read(protocol):
    content = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [0, 1, 300, -70_000, 2**40], b"n": 1.5}
    found = read_pickle(pickle.dumps(content, protocol), "here", Budget(2**20))
    np.testing.assert_array_equal(found[b"data"], content[b"data"])
    assert found[b"labels"] == content[b"labels"]
