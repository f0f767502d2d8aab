from __future__ import annotations

import sys

from rcdp_hpc.runtime.user_code import leave_out_working_directory


def test_the_working_directory_is_searched_only_with_an_absolute_path(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    entries = ["", ".", "other", str(tmp_path), str(other)]
    monkeypatch.setattr(sys, "path", list(entries))
    monkeypatch.setenv("PYTHONPATH", f":.:{other}")
    leave_out_working_directory()
    assert sys.path == [str(other)]
    monkeypatch.setattr(sys, "path", list(entries))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    leave_out_working_directory()
    assert sys.path == [str(tmp_path), str(other)]
