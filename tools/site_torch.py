"""The torch of a site's module or image, used by the environment instead of one from the package index.

Sites and images of vendors have a torch that fits their driver and network. It may come from the Python of the setup,
or from a module that sets PYTHONPATH. A file with the folders of its packages, which Python reads at its start, makes
it visible in the environment; packages of the environment take precedence.
"""

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "RCDP_TORCH"
SITE = "site"
LEAST = (2, 11)
LINK = "rcdp-site-torch.pth"
PROBE = """\
import json, os, sys
import torch
home = os.path.dirname(os.path.dirname(os.path.abspath(torch.__file__)))
others = [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages") and os.path.isdir(p)]
print("torch " + json.dumps([torch.__version__, torch.version.cuda or "", list(dict.fromkeys([home, *others]))]))
"""


class SiteTorchError(Exception):
    """The site's torch cannot be used; `hint` describes what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class SiteTorch:
    """A torch of the site: its version, its CUDA ("" for a CPU build) and the folders of its packages."""

    version: str
    cuda: str
    folders: tuple[str, ...]


def is_requested(environ: Mapping[str, str]) -> bool:
    """Return whether the user asks for the torch of the site. Raises a ValueError for unknown values."""
    value = environ.get(VARIABLE, "").strip()
    if value not in ("", SITE):
        raise ValueError(
            f"{VARIABLE}={value}: expected {SITE} (use the torch of the site's module or image), or no value (install "
            "the release of constraints.txt)"
        )
    return value == SITE


def find(python: str, environ: Mapping[str, str]) -> SiteTorch:
    """Return the torch that a Python of the site imports with these variables.

    Raises
    ------
    SiteTorchError
        If it imports none, or one that is too old.
    """
    load = f"load the site's torch module, or start in the image that has torch, and name its Python: {VARIABLE}={SITE}"
    load += " make setup PYTHON=python3"
    try:
        done = subprocess.run(
            (python, "-c", PROBE),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=180,
            env=dict(environ),
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SiteTorchError(f"{VARIABLE}={SITE}, but {python} cannot be started: {error}", load) from error
    found = re.search(r"^torch (\[.*\])$", done.stdout, re.MULTILINE)
    if not found:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise SiteTorchError(f"{VARIABLE}={SITE}, but {python} imports no torch ({reason})", load)
    version, cuda, folders = json.loads(found.group(1))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < LEAST:
        raise SiteTorchError(
            f"the site's torch is {version}, and {'.'.join(map(str, LEAST))} or newer is needed",
            f"load a newer module, or install torch from the package index: make setup without {VARIABLE}",
        )
    return SiteTorch(version, cuda, tuple(folders))


def link_file(venv: Path) -> Path | None:
    """Return the file that makes the site's packages visible; None if the environment has no folder for packages."""
    folder = next(iter(sorted(venv.glob("lib/python*/site-packages"))), None)
    return None if folder is None else folder / LINK


def link_text(torch: SiteTorch) -> str:
    """Return the content of the file: one folder a line."""
    return "".join(f"{folder}{os.linesep}" for folder in torch.folders)


def constraints(lines: list[str], torch: SiteTorch) -> list[str]:
    """Return version constraints in which torch is that of the site."""
    return [line for line in lines if not re.match(r"torch\s*==", line)] + [f"torch=={torch.version}"]
