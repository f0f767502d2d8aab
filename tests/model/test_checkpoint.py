from __future__ import annotations

import pickle

import pytest
import torch

from rcdp_hpc.errors import DataDamagedError, StageFailedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.runtime.sealed_zip import write_sealed_zip


def test_the_previous_checkpoint_is_kept_and_read_if_the_last_is_truncated(tmp_path, caplog):
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"epoch": 1, "x": torch.arange(1000)})
    checkpoint.save(path, {"epoch": 2, "x": torch.arange(1000)})
    assert checkpoint.load_latest(path)["epoch"] == 2
    path.write_bytes(path.read_bytes()[:-500])
    with caplog.at_level("WARNING", logger="rcdp_hpc"):
        assert checkpoint.load_latest(path)["epoch"] == 1
    assert caplog.text.count("last.pt.previous") == 1


def test_two_damaged_checkpoints_are_an_error_with_a_remedy(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(b"rubbish")
    with pytest.raises(DataDamagedError, match="--restart"):
        checkpoint.load_latest(path)


def test_the_set_number_is_kept_and_the_newest_undamaged_one_is_read(tmp_path, caplog):
    path = tmp_path / "last.pt"
    for epoch in range(6):
        checkpoint.save(path, {"epoch": epoch, "x": torch.arange(1000)}, keep=4)
    names = ["last.pt", "last.pt.previous", "last.pt.previous.2", "last.pt.previous.3"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert [checkpoint.load(tmp_path / name)["epoch"] for name in names] == [5, 4, 3, 2]
    for name in names[:2]:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-500])
    with caplog.at_level("WARNING", logger="rcdp_hpc"):
        assert checkpoint.load_latest(path)["epoch"] == 3
    assert caplog.text.count("Resuming from") == 1


def test_too_little_free_space_is_reported_in_numbers(tmp_path):
    checkpoint.check_free_space(tmp_path, 1)
    with pytest.raises(StageFailedError, match=r"need 1099511627776\.0 MiB"):
        checkpoint.check_free_space(tmp_path, 2**60)


def test_a_missing_checkpoint_is_not_an_error(tmp_path):
    assert checkpoint.load_latest(tmp_path / "last.pt") is None


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "last.pt"
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    content = {"format": checkpoint.FORMAT, "x": Hostile()}
    torch.save(content, path, pickle_module=pickle)
    with pytest.raises(DataDamagedError, match="no SHA-256"):
        checkpoint.load(path)
    # Also with a correct digest; the advice of torch to read the file anyway is not in the message.
    write_sealed_zip(path, lambda file: torch.save(content, file, pickle_module=pickle))
    with pytest.raises(DataDamagedError) as refused:
        checkpoint.load(path)
    assert "weights_only" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not marker.exists()


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    write_sealed_zip(path, lambda file: torch.save({"format": 99}, file))
    with pytest.raises(DataDamagedError, match="format 2"):
        checkpoint.load(path)


def test_a_missing_last_checkpoint_is_reported(tmp_path, caplog):
    path = tmp_path / "last.pt"
    for epoch in range(2):
        checkpoint.save(path, {"epoch": epoch})
    path.unlink()
    with caplog.at_level("WARNING", logger="rcdp_hpc"):
        assert checkpoint.load_latest(path)["epoch"] == 0
    assert "last.pt: missing" in caplog.text


def test_a_folder_in_its_place_is_damage(tmp_path):
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(DataDamagedError, match="not a regular file"):
        checkpoint.load_latest(tmp_path / "last.pt")
