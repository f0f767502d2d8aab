"""Small file systems of other kinds, and a library that makes system calls fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from launch import environment
from whole_runs import flags

HERE = Path(__file__).parent
FAST = flags(
    "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "search.population=3", "search.generations=1",
    "search.train_rows=200", "search.validation_rows=80", "training.epochs=1", "readout.hidden=8",
    "readout.outputs=8", "training.threads=1", "checkpoint.every_seconds=0", "run.progress=false",
)  # fmt: skip


@pytest.fixture(scope="session")
def injector(tmp_path_factory) -> Path:
    """The compiled library of inject.c."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("compiling the library that makes system calls fail needs cc or gcc, on Linux")
    library = tmp_path_factory.mktemp("inject") / "inject.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(HERE / "inject.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


@contextmanager
def commands_that_fail(injector: Path) -> Iterator[Callable[..., dict]]:
    """Yield a function that runs a command in one long-lived process while some of its system calls fail.

    At the end the process must leave in order: HDF5 used to crash there after a failed write.
    """
    process = subprocess.Popen(
        [sys.executable, str(HERE / "injected.py")],
        env=environment({"LD_PRELOAD": str(injector)}), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip

    def call(rules: str, *command: str | Path) -> dict:
        process.stdin.write(json.dumps({"rules": rules, "command": [str(part) for part in command]}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, process.stderr.read()
        return json.loads(answer)

    try:
        yield call
        _, printed = process.communicate(timeout=60)
        assert (process.returncode, printed) == (0, "")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def failing(injector) -> Iterator[Callable[..., dict]]:
    """A function that runs commands while some system calls fail, all in one process per session."""
    with commands_that_fail(injector) as call:
        yield call


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """Mount a new, small file system from an image; skip the test if this machine does not support it."""
    if os.geteuid() != 0:
        pytest.skip(f"mounting {kind} needs root")
    maker = f"mkfs.{kind}"
    if shutil.which(maker) is None:
        pytest.skip(f"making a {kind} file system needs {maker}")
    image, place = folder / f"{kind}.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(2**26)
    subprocess.run([maker, str(image)], check=True, capture_output=True)
    place.mkdir()
    loop = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True)
    if loop.returncode:
        pytest.skip(f"mounting {kind} needs a loop device")
    device = loop.stdout.strip()
    try:
        _mount(kind, device, place)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


def _mount(kind: str, device: str, place: Path) -> None:
    """Mount with the kernel, or with a FUSE program if the kernel does not support the file system."""
    if not subprocess.run(["mount", "-t", kind, device, str(place)], capture_output=True).returncode:
        return
    program = shutil.which(f"mount.{kind}-fuse")
    if program is None or subprocess.run([program, device, str(place)], capture_output=True).returncode:
        pytest.skip(f"this machine can mount {kind} neither by its kernel nor by mount.{kind}-fuse")
