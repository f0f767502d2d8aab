import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data.sources.conftest import everything, opened, write_tar
from launch import REPOSITORY

from rcdp_hpc.data.sources.unpickle import read_pickle
from rcdp_hpc.errors import InputError

REAL = Path(os.environ.get("RCDP_TEST_DATA", REPOSITORY.parent / "shared/data")) / "cifar-10-python.tar.xz"
NAMES = ["cat", "ant", "bee"]


def batch(rows, seed, labels=None):
    generator = np.random.default_rng(seed)
    data = generator.integers(0, 256, (rows, 3072), dtype=np.uint8)
    labels = np.arange(rows) % 3 if labels is None else labels
    return {b"batch_label": b"one", b"labels": [int(label) for label in labels], b"data": data}


def python_batches(protocol=2):
    members = {f"data_batch_{number}": batch(6, number) for number in range(1, 6)}
    members["test_batch"] = batch(3, 9)
    members["batches.meta"] = {b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}
    return {name: pickle.dumps(value, protocol) for name, value in members.items()}


def binary_batches():
    packed = {}
    for number in (*range(1, 6), 9):
        content = batch(6 if number < 9 else 3, number)
        rows = np.column_stack([np.array(content[b"labels"], np.uint8), content[b"data"]])
        packed["test_batch.bin" if number == 9 else f"data_batch_{number}.bin"] = rows.tobytes()
    return {**packed, "batches.meta.txt": ("\n".join(NAMES) + "\n\n").encode()}


def write_folder(folder, members):
    folder.mkdir(exist_ok=True)
    for name, data in members.items():
        (folder / name).write_bytes(data)
    return folder


def in_folder(members, folder="cifar-10-batches-py"):
    return {f"{folder}/{name}": data for name, data in members.items()}


def check_small(source):
    assert source.classes == NAMES
    assert source.sample_shape == (32, 32, 3)
    assert source.scale == 1 / 255
    assert len(source.train) == 30
    assert len(source.test) == 3
    first = batch(6, 1)[b"data"]
    # Row 0 of the file: 1024 red, then 1024 green, then 1024 blue values, each row by row.
    x = everything(source.train)
    assert x.dtype == np.uint8
    assert x[0, 0, 1].tolist() == [first[0, 1], first[0, 1025], first[0, 2049]]
    assert x[5, 31, 0, 2] == first[5, 2048 + 31 * 32]
    assert source.train.y[:6].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_folder_of_python_batches(tmp_path, protocol):
    check_small(opened("cifar10", write_folder(tmp_path / "b", python_batches(protocol))))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_packed_python_batches(tmp_path, mode):
    check_small(opened("cifar10", write_tar(tmp_path / "c.tar", in_folder(python_batches()), mode)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.tar"]


def test_binary_batches(tmp_path):
    check_small(opened("cifar10", write_folder(tmp_path / "b", binary_batches())))
    check_small(opened("cifar10", write_tar(tmp_path / "c.tar.gz", in_folder(binary_batches()), "w:gz")))


def test_the_folder_above(tmp_path):
    write_folder(tmp_path / "cifar-10-batches-py", python_batches())
    check_small(opened("cifar10", tmp_path))


def test_a_set_beyond_the_budget_is_spooled(tmp_path):
    folder = write_folder(tmp_path / "b", python_batches())
    big = {f"data_batch_{n}": pickle.dumps(batch(100, n)) for n in range(1, 6)}
    small, large = opened("cifar10", folder), opened("cifar10", write_folder(folder, big), memory_budget=1)
    assert isinstance(small.train.x, np.ndarray)
    assert not isinstance(large.train.x, np.ndarray)
    rows = np.array([499, 3, 3, 0])
    expected = batch(100, 5)[b"data"][99].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(large.train.x[rows][0], expected)


@pytest.mark.parametrize(("coarse", "names"), [(False, ["f0", "f1", "f2", "f3"]), (True, ["c0", "c1"])])
@pytest.mark.parametrize("binary", [False, True])
def test_cifar100(tmp_path, coarse, names, binary):
    data = np.random.default_rng(0).integers(0, 256, (8, 3072), dtype=np.uint8)
    fine, rough = np.arange(8) % 4, np.arange(8) % 2
    if binary:
        rows = np.column_stack([rough, fine, data]).astype(np.uint8).tobytes()
        members = {"train.bin": rows, "test.bin": rows, "fine_label_names.txt": b"f0\nf1\nf2\nf3\n",
                   "coarse_label_names.txt": b"c0\nc1\n"}  # fmt: skip
    else:
        packed = pickle.dumps({b"data": data, b"fine_labels": fine.tolist(), b"coarse_labels": rough.tolist()}, 2)
        meta = {b"fine_label_names": [b"f0", b"f1", b"f2", b"f3"], b"coarse_label_names": [b"c0", b"c1"]}
        members = {"train": packed, "test": packed, "meta": pickle.dumps(meta, 2)}
    source = opened("cifar100", write_folder(tmp_path / "c", members), coarse_labels=coarse)
    assert source.classes == names
    assert source.train.y.tolist() == (rough if coarse else fine).tolist()


class Calls:
    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open('{}', 'w')"), (open, "{}", "w")])
def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path, call, protocol):
    victim = tmp_path / "owned"
    members = python_batches()
    function, *arguments = call
    hostile = Calls(function, tuple(argument.format(victim) for argument in arguments))
    members["data_batch_3"] = pickle.dumps({b"data": hostile}, protocol)
    with pytest.raises(InputError, match=r"data_batch_3: refused: it calls (posix|nt|builtins|__builtin__|io|_io)\."):
        opened("cifar10", write_tar(tmp_path / "c.tar", in_folder(members)))
    assert not victim.exists()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(np.array([print, "x"], dtype=object), 2),
        b"cnumpy\nndarray\n(I1000000000000\ntR.",
        b"cbuiltins\ngetattr\n.",
        pickle.dumps({1, 2}, 2),
        b"\x80\x02.",
        b"nonsense",
        b"",
    ],
)
def test_other_pickles_are_refused(data):
    with pytest.raises(InputError, match=r"here: (refused|damaged)"):
        read_pickle(data, "here")


@pytest.mark.parametrize("name", ["../data_batch_1", "/tmp/data_batch_1", "a/../../b"])
def test_a_member_outside_the_folder(tmp_path, name):
    path = write_tar(tmp_path / "c.tar", {**in_folder(python_batches()), name: b""})
    with pytest.raises(InputError, match="leads out of its folder"):
        opened("cifar10", path)


def test_a_member_that_is_a_link(tmp_path):
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        info = tarfile.TarInfo("data_batch_1")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(InputError, match="is a link"):
        opened("cifar10", tmp_path / "c.tar")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data_batch_2": pickle.dumps(batch(3, 0, [0, 1, 3]))},
            "label 3 of train image 8 is outside the classes 0 to 2",
        ),
        ({"data_batch_2": pickle.dumps(batch(3, 0, [0, -1, 3]))}, "label -1 "),
        ({"data_batch_2": pickle.dumps({b"labels": [1]})}, "data_batch_2: no 'data'"),
        ({"data_batch_2": pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [1, 2]})}, "shape"),
        ({"data_batch_2": pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]})}, "2 images, but"),
        ({"batches.meta": pickle.dumps({})}, "batches.meta: no list 'label_names'"),
        ({"data_batch_2": None}, "data_batch_2 missing"),
    ],
)
def test_damaged_sets(tmp_path, change, message):
    members = {name: data for name, data in {**python_batches(), **change}.items() if data is not None}
    with pytest.raises(InputError, match=message):
        opened("cifar10", write_folder(tmp_path / "b", members))


def test_packed_files_cut_short(tmp_path):
    path = write_tar(tmp_path / "c.tar.xz", in_folder(python_batches()), "w:xz")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cut short, damaged"):
        opened("cifar10", path)
    with pytest.raises(InputError, match="no such file"):
        opened("cifar10", tmp_path / "gone.tar")
    write_folder(tmp_path / "b", {**binary_batches(), "data_batch_1.bin": b"12345"})
    with pytest.raises(InputError, match="5 bytes, not a multiple of 3073"):
        opened("cifar10", tmp_path / "b")


@pytest.mark.skipif(not REAL.exists(), reason=f"the real CIFAR-10 is not at {REAL}")
def test_the_real_cifar10():
    source = opened("cifar10", REAL)
    assert source.classes == ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert np.bincount(source.train.y).tolist() == [5000] * 10
    assert np.bincount(source.test.y).tolist() == [1000] * 10
    assert source.train.y[:5].tolist() == [6, 9, 9, 4, 1]
