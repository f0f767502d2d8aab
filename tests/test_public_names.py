"""The public names of the package: each has a numpydoc docstring; importing the package is light."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import rcdp_hpc
from rcdp_hpc.pipeline import stages

HEAVY = ("torch", "mpi4py", "horovod", "h5py", "sklearn", "numpy", "pydantic")


def public(name: str) -> object:
    # `rcdp_hpc.search` is a package that calls this function.
    return stages.search if name == "search" else getattr(rcdp_hpc, name)


@pytest.mark.parametrize("name", rcdp_hpc.__all__)
def test_every_public_name_has_a_numpydoc_docstring(name):
    thing = public(name)
    text = inspect.getdoc(thing)
    assert re.match(r"[A-Z][^\n]*\.(\n\n|$)", text), text  # a sentence of one line, then an empty line
    if name == "Config":  # its fields are the sections of docs/configuration.md
        return
    if "Parameters and errors are those of `run`." in text:
        assert set(inspect.signature(thing).parameters) <= set(inspect.signature(rcdp_hpc.run).parameters)
        text = text.replace("Returns\n", inspect.getdoc(rcdp_hpc.run).partition("\n\n")[2], 1)
    sections = re.findall(r"^(\w[\w ]*)\n-+$", text, flags=re.MULTILINE)
    assert "Parameters" in sections
    described = re.findall(r"^([\w*, ]+) : ", text[text.index("Parameters") :], flags=re.MULTILINE)
    words = {word.strip("* ") for group in described for word in group.split(",")}
    called = thing.__init__ if inspect.isclass(thing) else thing
    parameters = [one for one in inspect.signature(called).parameters if one != "self"]
    assert set(parameters) <= words
    if not inspect.isclass(thing):
        assert "Returns" in sections
        assert "Raises" in sections


def test_the_names_are_all_there_and_an_unknown_one_is_not():
    assert set(rcdp_hpc.__all__) <= set(dir(rcdp_hpc))
    with pytest.raises(AttributeError, match="predit"):
        rcdp_hpc.predit  # noqa: B018


def test_importing_the_package_imports_no_library():
    code = f"import rcdp_hpc, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_reading_a_configuration_loads_nothing_heavy():
    heavy = tuple(name for name in HEAVY if name != "pydantic")
    code = (
        "import sys; from rcdp_hpc.config import load_config; load_config('digits', training={'epochs': 2}); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
