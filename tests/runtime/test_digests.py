"""Records with a digest of their content: any other content is refused with one message."""

import contextlib
import json
import os

import pytest

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import (
    check_sealed,
    is_sealed,
    read_intact_lines,
    read_sealed,
    read_sealed_lines,
    sealed,
    sealed_line,
    write_sealed,
)
from rcdp_hpc.runtime.files import read_json
from rcdp_hpc.runtime.json_text import parse_json

RECORD = {"b": [1, 2.5, None], "a": {"x": True, "ä": "ß"}, "tiny": 1e-300}


def test_a_record_is_read_unchanged(tmp_path):
    write_sealed(tmp_path / "record.json", RECORD)
    assert read_sealed(tmp_path / "record.json") == RECORD


def test_tuples_and_numeric_keys_are_sealed_in_their_json_form(tmp_path):
    write_sealed(tmp_path / "record.json", {"shape": (8, 8), "counts": {10: 1, 9: 2}})
    assert read_sealed(tmp_path / "record.json") == {"shape": [8, 8], "counts": {"10": 1, "9": 2}}


def test_timings_have_a_separate_digest(tmp_path):
    one, other = (sealed({"fitness": 1.0, "timing": {"seconds": seconds}}) for seconds in (1.0, 2.0))
    assert one["sha256"] == other["sha256"]
    assert one["timing"]["sha256"] != other["timing"]["sha256"]
    assert check_sealed(one, "record.json") == {"fitness": 1.0, "timing": {"seconds": 1.0}}
    for timing in ({**one["timing"], "seconds": 3.0}, None, {}):
        assert not is_sealed({**one, "timing": timing})


def test_white_space_and_order_of_keys_do_not_matter():
    value = sealed(RECORD)
    assert is_sealed(json.loads(json.dumps(dict(reversed(value.items())), indent=7)))


def test_every_byte_that_changes_the_content_is_refused(tmp_path):
    path = tmp_path / "record.json"
    write_sealed(path, RECORD)
    content = path.read_bytes()
    for at in range(len(content)):
        for bit in (1, 16):
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            found = None
            with contextlib.suppress(DataDamagedError):
                found = read_sealed(path)
            assert found in (None, RECORD)  # white space, or another way to write the same number


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b"7", b"NaN", b'"text"', b"true", b"\xff\xfe{", b'{"a": ', b"1" * 5000,
        b"[" * 100_000, b'{"a":' * 100_000, b'{"sha256": null}', b'{"sha256": {"a": 1}}', b'{"a": 1, "a": 2}',
        b'{"sha256": "0"}', b"\x00" * 10, b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_other_forms_give_one_message(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(DataDamagedError, match="record") as error:
        read_sealed(path, "Prepare again.")
    assert str(error.value).endswith("Prepare again.")
    assert "\n" not in str(error.value)


def test_a_folder_a_pipe_and_a_missing_file_are_damage(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe", "missing"):
        with pytest.raises(DataDamagedError):
            read_sealed(tmp_path / name)
        with pytest.raises(DataDamagedError):
            read_json(tmp_path / name)


def test_plain_json_is_checked_in_the_same_way(tmp_path):
    (tmp_path / "deep.json").write_bytes(b"[" * 100_000)
    with pytest.raises(DataDamagedError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
    with pytest.raises(ValueError, match="twice"):
        parse_json('{"a": 1, "b": {"c": 1, "c": 1}}')


def test_a_record_of_an_earlier_version_is_named():
    with pytest.raises(DataDamagedError, match="earlier version"):
        check_sealed({"a": 1}, "record.json")


def test_lines_are_sealed_one_by_one(tmp_path):
    path = tmp_path / "lines.jsonl"
    lines = [sealed_line({"n": number}) for number in range(4)]
    path.write_text(lines[0] + lines[1].replace("1", "7", 1) + "\n" + lines[2] + lines[3][:-20])
    found = read_intact_lines(path)
    assert found.records == [{"n": 0}, {"n": 2}]
    assert found.damaged == [2, 5]
    assert read_intact_lines(path, growing=True).damaged == [2]
    with pytest.raises(DataDamagedError, match="line 2 "):
        read_sealed_lines(path)


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_sealed_lines(tmp_path / "lines.jsonl") == []
