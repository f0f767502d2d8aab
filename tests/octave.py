"""GNU Octave for tests: installs it where apt-get and root can, and runs its scripts.

    python tests/octave.py install       # installs Debian's package without its recommendations

Tests that need it are skipped with the reason if there is no octave-cli; with RCDP_OCTAVE=required that is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = "octave"
PROGRAM = "octave-cli"
SECONDS = 120


def missing() -> str:
    """Return why this machine cannot run scripts of Octave; empty if it can."""
    if shutil.which(PROGRAM):
        return ""
    return f"no {PROGRAM} here: apt-get install --no-install-recommends {PACKAGE}"


def require() -> None:
    """Skip the calling test without Octave, with the reason; raise an error if RCDP_OCTAVE=required."""
    import pytest

    reason = missing()
    if reason and os.environ.get("RCDP_OCTAVE") == "required":
        raise RuntimeError(reason)
    if reason:
        pytest.skip(reason)


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the text of a script in a folder, without the user's settings."""
    command = [PROGRAM, "--norc", "--no-history", "--quiet", "--eval", script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)


def install() -> int:
    """Install Octave if it is missing and can be; return 0 if it is there, and otherwise print why not."""
    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
        for command in (["update"], ["install", "--no-install-recommends", PACKAGE]):
            if subprocess.run([*apt, *command], env=environment, stdout=subprocess.DEVNULL).returncode:
                break
    reason = missing()
    if reason:
        print(f"no Octave here: {reason}", file=sys.stderr)
    return int(bool(reason))


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit(__doc__)
    sys.exit(install())
