import re
import threading

import numpy as np
import pytest
from data.conftest import make_config

from rcdp_hpc.cli import main
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.shards.inspect import counts_of_ranks, counts_of_shards, counts_of_training, describe_shards, spread
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed, write_sealed, write_sealed_lines
from rcdp_hpc.runtime.text import display_width


def test_spread():
    assert spread(np.array([8, 12])) == {"mean": 10.0, "variance": 4.0, "deviation": 2.0, "largest": 1.2}
    assert spread(np.zeros(3))["largest"] == 0


@pytest.mark.parametrize("ranks", [1, 3, 17])
def test_counts_of_shards_and_ranks_add_up(digits_shards, ranks):
    shards = ShardReader(digits_shards)
    for counts in (counts_of_shards(shards.index, "train"), counts_of_ranks(shards, "train", ranks)):
        np.testing.assert_array_equal(counts.sum(axis=0), shards.class_counts("train"))
        assert np.ptp(counts.sum(axis=1)) <= 1
        assert (np.abs(counts - counts.mean(axis=0)) < 2).all()


def test_the_text(digits_shards):
    text = describe_shards(digits_shards, 3)
    assert "samples of shape (8, 8) as uint8; balanced by smote, seed 1" in text
    assert re.search(r"^class +source +dropped +before +after +synthetic +validation +test$", text, re.MULTILINE)
    assert re.search(r"after balancing:\n  mean 1\d\d, variance 0, standard deviation 0, largest/mean 1\.000", text)
    assert "most uneven class over the ranks" in text
    assert max(map(len, text.splitlines())) <= 80


def test_long_names_and_many_classes_fit_a_terminal(tmp_path):
    names = ["two\nlines", "", "猫" * 40, "x" * 90, *(f"class number {number}" for number in range(40))]
    y = np.repeat(np.arange(len(names)), 8)
    np.savez(tmp_path / "many.npz", x=np.arange(3.0 * len(y)).reshape(-1, 3), y=y)
    prepare_shards(make_config(tmp_path / "many.npz", shards=2), tmp_path / "shards")
    path = tmp_path / "shards/index.json"
    index = read_sealed(path)
    index["classes"] = names
    for entry, name in zip(index["class_table"], names, strict=True):
        entry["class"] = name
    write_sealed(path, index)
    text = describe_shards(tmp_path / "shards", 2)
    assert max(map(display_width, text.splitlines())) <= 80
    assert r"two\nlines" in text
    assert "... and 24 more classes (index.json has them all)" in text
    assert "more classes without a column" in text


def test_the_command(tmp_path, npz_file, capsys):
    pytest.importorskip("matplotlib")
    prepare_shards(make_config(npz_file, shards=2), tmp_path / "run/shards")
    picture = tmp_path / "classes.png"
    assert main(["inspect", str(tmp_path / "run"), "--ranks", "2", "--picture", str(picture)]) == 0
    assert "rows over the ranks" in capsys.readouterr().out
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2


def test_the_reserve_and_the_rows_of_ranks(tmp_path, npz_file):
    prepare_shards(make_config(npz_file, shards=2, reserve=0.5), tmp_path / "shards")
    seen = tmp_path / "class_counts.jsonl"
    assert counts_of_training(seen) is None
    epochs = ({"counts": [[1, 1, 1], [1, 1, 1]]}, {"counts": [[20, 10, 10], [10, 10, 10]]}, {"same_as": 1})
    write_sealed_lines(seen, [{"epoch": epoch, **line} for epoch, line in enumerate(epochs)])
    np.testing.assert_array_equal(counts_of_training(seen), [[20, 10, 10], [10, 10, 10]])
    text = describe_shards(tmp_path / "shards", class_counts=seen)
    assert re.search(r"^class .* test +reserve$", text, re.MULTILINE)
    assert "in the last epoch of training" in text
    assert "rows over the ranks:\n  mean 35, variance 25, standard deviation 5, largest/mean 1.143" in text
    assert "most uneven class over the ranks: 0\n  mean 15, variance 25" in text
    write_sealed_lines(seen, [{"epoch": 0, "counts": [[20, 10, 10]]}])
    assert "in the last epoch" not in describe_shards(tmp_path / "shards", class_counts=seen)
    for damage in ("not json\n", '{"epoch": 0}\n', "3\n"):
        seen.write_text(damage)
        with pytest.raises(DataDamagedError, match="line 1 was cut short or altered"):
            counts_of_training(seen)


class Meeting(SingleProcess):
    """Ranks as threads of one process, as far as verification needs them."""

    def __init__(self, rank, size, table, barrier):
        self.rank, self.size = rank, size
        self._table, self._barrier = table, barrier

    def allgather(self, value):
        self._table[self.rank] = value
        self._barrier.wait()
        values = list(self._table)
        self._barrier.wait()
        return values

    def broadcast(self, value):
        return self.allgather(value)[0]


def verified_by(ranks, directory):
    table, barrier, findings = [None] * ranks, threading.Barrier(ranks, timeout=60), [None] * ranks

    def work(rank):
        findings[rank] = verify_shards(directory, comm=Meeting(rank, ranks, table, barrier))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == findings[0] for one in findings)
    return findings[0]


def test_ranks_together_find_what_one_finds(tmp_path, npz_file):
    prepare_shards(make_config(npz_file, shards=4), tmp_path / "shards")
    assert verified_by(3, tmp_path / "shards") == []
    for number in (1, 2):
        path = tmp_path / f"shards/train-0000{number}-of-00004.h5"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    (tmp_path / "shards/stray").write_text("")
    findings = verified_by(3, tmp_path / "shards")
    assert sorted(findings) == sorted(verify_shards(tmp_path / "shards"))
    assert len(findings) == 3
