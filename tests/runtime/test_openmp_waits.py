"""Waits of OpenMP threads: set before any OpenMP library is loaded, for all ways to start the package."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launch import REPOSITORY, environment

from rcdp_hpc.runtime import openmp_waits
from rcdp_hpc.runtime.openmp_waits import DEFAULTS, USER_SETTINGS, openmp_is_loaded, report_long_waits, shorten_waits

# With this variable, GNU OpenMP prints its settings when it is loaded.
SHOWN = {"OMP_DISPLAY_ENV": "verbose"}


def output(code: str, **variables: str) -> str:
    env = {name: value for name, value in environment().items() if name not in USER_SETTINGS} | variables
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("package", ["torch", "sklearn.neighbors"])
def test_openmp_reads_the_settings_of_the_package(package):
    found = output(f"import rcdp_hpc, {package}", **SHOWN)
    assert f"GOMP_SPINCOUNT = '{DEFAULTS['GOMP_SPINCOUNT']}'" in found


def test_a_setting_of_the_user_has_priority():
    found = output("import rcdp_hpc, torch", **SHOWN, OMP_WAIT_POLICY="active")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in found
    assert f"GOMP_SPINCOUNT = '{DEFAULTS['GOMP_SPINCOUNT']}'" not in found


@pytest.mark.parametrize("name", USER_SETTINGS)
def test_any_setting_of_the_user_disables_the_defaults(name):
    environ = {name: "7"}
    assert not shorten_waits(environ)
    assert environ == {name: "7"}


def test_an_empty_variable_is_not_a_setting():
    environ = {"OMP_WAIT_POLICY": ""}
    assert shorten_waits(environ)
    assert environ == {"OMP_WAIT_POLICY": "", **DEFAULTS}


@pytest.mark.parametrize(
    "door",
    [
        "import rcdp_hpc.cli.commands",
        "import rcdp_hpc.__main__",
        "from rcdp_hpc import run",
        "import runpy; runpy.run_path('data_prep/prepare_shards.py')['main'](['digits', '--out=/proc/x'])",
    ],
)
def test_every_entry_point_sets_them_and_children_inherit_them(door):
    code = f"{door}\nimport subprocess; subprocess.run(['printenv', *{list(DEFAULTS)}], check=True)"
    env = {name: value for name, value in environment().items() if name not in USER_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-len(DEFAULTS) :] == list(DEFAULTS.values()), done.stderr


def test_a_library_loaded_before_is_reported_once_and_only_for_several_threads():
    code = (
        "import torch, rcdp_hpc, logging\nlogging.basicConfig()\n"
        "from rcdp_hpc.runtime.threads import limit_threads\n"
        "for count in (1, 2, 2):\n    with limit_threads(count): print(count, flush=True)"
    )
    found = output(code)
    assert found.count("OpenMP was loaded before rcdp_hpc") == 1
    assert f"GOMP_SPINCOUNT={DEFAULTS['GOMP_SPINCOUNT']}" in found
    assert "OpenMP was loaded" not in output(code, OMP_WAIT_POLICY="passive")
    assert "OpenMP was loaded" not in output(code.replace("torch, rcdp_hpc", "rcdp_hpc, torch"))


def test_libraries_are_detected_in_the_maps_of_a_process(tmp_path, monkeypatch):
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 00000000 08:01 12 /lib/libgomp-e985bcbb.so.1.0.0\n")
    assert openmp_is_loaded(maps)
    maps.write_text("7f00-7f01 r-xp 00000000 08:01 12 /lib/libc.so.6\n")
    assert not openmp_is_loaded(maps)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert openmp_is_loaded(tmp_path / "none")


def test_nothing_is_reported_if_the_settings_are_in_time(caplog, monkeypatch):
    monkeypatch.setattr(openmp_waits, "_loaded_before", False)
    report_long_waits(8)
    assert not caplog.records
