"""The documentation site: its navigation, its pages from outside docs/, and its API pages. `make docs` builds it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import re
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from launch import REPOSITORY

import rcdp_hpc
from rcdp_hpc.pipeline import stages

DOCS = REPOSITORY / "docs"
# Packages with an ``__all__`` for the program, not for users.
INTERNAL = {"rcdp_hpc.cli"}


def load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", REPOSITORY / "tools/site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = load_hooks()
SITE = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())


def navigation_pages(entries: list[Any]) -> list[str]:
    """The pages of a navigation in its order."""
    pages = []
    for entry in entries:
        for place in entry.values():
            pages += navigation_pages(place) if isinstance(place, list) else [place]
    return pages


def included() -> list[str]:
    """Every module and function that an API page includes."""
    return [name for page in DOCS.glob("api/*.md") for name in HOOKS.INCLUDED.findall(page.read_text())]


def test_the_navigation_has_every_page_once():
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(navigation_pages(SITE["nav"])) == sorted([*pages, *HOOKS.PAGES.values()]), (
        "each page of docs/ needs one line under nav in mkdocs.yml"
    )


def test_the_build_fails_on_warnings():
    assert SITE["strict"]
    assert set(SITE["validation"].values()) == {"warn"}
    # MkDocs counts no warnings with --quiet.
    (command,) = [line for line in (REPOSITORY / "Makefile").read_text().splitlines() if "mkdocs build" in line]
    assert command.endswith("mkdocs build --strict")


def test_every_public_package_and_module_is_on_an_api_page():
    package = REPOSITORY / "rcdp_hpc"
    modules = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in [*package.rglob("__init__.py"), *package.glob("*.py")]
    }
    public = {module for module in modules if HOOKS.public_names(module)}
    assert "rcdp_hpc.search.optimizers" in public
    assert public - INTERNAL <= set(included()), "docs/api/*.md needs a line '::: NAME' for each of these"


def test_every_class_of_the_page_on_extending_is_on_an_api_page():
    text = (DOCS / "extending.md").read_text()
    classes = {tuple(name) for name in re.findall(r"`(rcdp_hpc(?:\.[a-z_]+)+)\.([A-Z]\w+)`", text)}
    assert ("rcdp_hpc.parallel.ranks", "RanksEngine") in classes
    for module, name in classes:
        assert module in included(), f"docs/api/*.md needs a line '::: {module}'"
        assert name in HOOKS.module_file(module).read_text()


def test_pages_of_the_examples_have_every_program_and_cell():
    programs = HOOKS.page_text(REPOSITORY / "examples")
    assert re.findall(r"^## (.*)$", programs, re.MULTILINE) == sorted(
        path.name for path in REPOSITORY.glob("examples/*.py")
    )
    notebook = HOOKS.page_text(REPOSITORY / "examples/first_steps.ipynb")
    cells = json.loads((REPOSITORY / "examples/first_steps.ipynb").read_text())["cells"]
    assert notebook.count("```python") == sum(cell["cell_type"] == "code" for cell in cells)
    assert all("".join(cell["source"]) in notebook for cell in cells)


def test_a_notebook_becomes_text_code_and_outputs():
    printed, value = {"text": ["a\n"]}, {"data": {"text/plain": "1"}}
    code = {"cell_type": "code", "source": ["print('a')\n", "1"], "outputs": [printed, value]}
    notebook = {"cells": [{"cell_type": "markdown", "source": "# Title"}, code]}
    fences = ("```python\nprint('a')\n1\n```", "```text\na\n```", "```text\n1\n```")
    assert HOOKS.notebook_text(json.dumps(notebook)) == "\n\n".join(["# Title", *fences]) + "\n"


def test_api_pages_include_existing_modules_once():
    names = included()
    assert len(names) == len(set(names))
    # The functions whose names are those of packages and modules too.
    functions = {
        "rcdp_hpc.deploy.export.lowering.lower.lower",
        "rcdp_hpc.pipeline.stages.search",
        "rcdp_hpc.reservoir.reductions.feature_shape.feature_shape",
    }
    others = {name for name in names if not HOOKS.module_file(name).is_file()} - functions
    # The others are classes.
    for name in others:
        module, _, class_name = name.rpartition(".")
        assert f"class {class_name}" in HOOKS.module_file(module).read_text()


def test_what_public_functions_return_is_on_an_api_page():
    functions = [stages.search if name == "search" else getattr(rcdp_hpc, name) for name in rcdp_hpc.__all__]
    returned = {
        name
        for function in functions
        if not inspect.isclass(function)
        for name in re.findall(r"\b[A-Z]\w+", str(inspect.signature(function).return_annotation))
    } - {"None"}
    assert {"RunResult", "Prediction", "Communicator"} <= returned
    documented = {name.rpartition(".")[2] for name in included()} | set(rcdp_hpc.__all__)
    for module in included():
        if HOOKS.module_file(module).is_file():
            documented |= set(re.findall(r"^class (\w+)", HOOKS.module_file(module).read_text(), re.MULTILINE))
    assert returned <= documented


@pytest.mark.parametrize(
    ("source", "link", "rewritten"),
    [
        ("README.md", "[a](docs/install.md)", "[a](install.md)"),
        ("README.md", "[a](docs/method.md#kernels)", "[a](method.md#kernels)"),
        ("README.md", "[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("README.md", "[a](slurm/README.md) [b](docs/slurm.md)", "[a](slurm-scripts.md) [b](slurm.md)"),
        ("README.md", '<img src="docs/images/a.png" width="3">', '<img src="images/a.png" width="3">'),
        ("README.md", "![a](docs/images/a.png)", "![a](images/a.png)"),
        ("CHANGELOG.md", "[a](https://example.org/x) [b](#c)", "[a](https://example.org/x) [b](#c)"),
        ("slurm/README.md", "[a](../docs/slurm.md)", "[a](slurm.md)"),
        ("docs/how-do-i.md", "[a](../examples/first_steps.ipynb)", "[a](first-steps.md)"),
        ("README.md", "[examples](examples)", "[examples](examples.md)"),
        ("docs/slurm.md", "[a](../README.md) [b](install.md)", "[a](index.md) [b](install.md)"),
        ("docs/api/config.md", "[a](../configuration.md)", "[a](../configuration.md)"),
        # A file that is not on the site becomes text; a link that leads nowhere stays, and fails the build.
        ("docs/install.md", "[the licence](../LICENSE)", "the licence (`LICENSE`)"),
        ("README.md", "[tools/bootstrap.py](tools/bootstrap.py)", "tools/bootstrap.py"),
        ("docs/install.md", "[a](../nothing.md)", "[a](../nothing.md)"),
        ("docs/install.md", "[a](../../x)", "[a](../../x)"),
    ],
)
def test_links_lead_to_pages_of_the_site(source, link, rewritten):
    assert HOOKS.site_links(link, source) == rewritten


def test_a_public_name_without_documentation_is_a_warning(tmp_path, caplog):
    (tmp_path / "docs/api").mkdir(parents=True)
    (tmp_path / "site/api").mkdir(parents=True)
    (tmp_path / "docs/api/optimisers.md").write_text("::: rcdp_hpc.search.optimizers\n")
    anchors = [f"rcdp_hpc.search.optimizers.{name}" for name in HOOKS.public_names("rcdp_hpc.search.optimizers")]
    page = tmp_path / "site/api/optimisers.html"
    config = SimpleNamespace(docs_dir=str(tmp_path / "docs"), site_dir=str(tmp_path / "site"))
    page.write_text("".join(f'<h2 id="{anchor}">' for anchor in anchors))
    with caplog.at_level(logging.WARNING, logger="mkdocs.hooks.site_pages"):
        HOOKS.on_post_build(config)
        assert not caplog.records
        page.write_text("".join(f'<h2 id="{anchor}">' for anchor in anchors if not anchor.endswith(".Optimizer")))
        HOOKS.on_post_build(config)
    assert [record.getMessage() for record in caplog.records] == [
        "docs/api/optimisers.md: no documentation of Optimizer in rcdp_hpc.search.optimizers"
    ]
