"""Imports of the package point one way, as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from launch import REPOSITORY

PACKAGE = REPOSITORY / "rcdp_hpc"


def layers() -> dict[str, int]:
    """The place of each part in the order of CONTRIBUTING.md, 0 being the first; parts of one layer share theirs."""
    text = " ".join((REPOSITORY / "CONTRIBUTING.md").read_text().split())
    found = re.search(r"Imports point one way: (.*?)\.", text)
    assert found is not None
    parts = [re.findall(r"`(\w+)`", layer) for layer in found[1].split("→")]
    return {name: place for place, names in enumerate(parts) for name in names}


def test_imports_point_one_way():
    order = layers()
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                words = name.split(".")
                if words[0] != "rcdp_hpc" or len(words) == 1 or words[1] == part:
                    continue
                if order[words[1]] <= order[part]:
                    wrong.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} imports {name}")
    assert not wrong


def test_the_stages_stay_functions_after_their_modules_are_imported():
    code = (
        "import rcdp_hpc, rcdp_hpc.search.driver, rcdp_hpc.training.stage, rcdp_hpc.evaluation.stage\n"
        "print([name for name in rcdp_hpc.__all__ if not callable(getattr(rcdp_hpc, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout == "[]\n"
