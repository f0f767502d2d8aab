"""Files for people who find this repository: citation, issue forms, workflow, pre-commit, recipes, metadata."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch import BIN, REPOSITORY
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import rcdp_hpc

SETUP = configparser.ConfigParser()
SETUP.read(REPOSITORY / "setup.cfg")
SPACK = REPOSITORY / "recipes/spack/spack_repo/rcdp"
CONDA = REPOSITORY / "recipes/conda/recipe.yaml"
(EASYBUILD,) = (REPOSITORY / "recipes/easybuild").glob("*.eb")

# File -> its schema, which check-jsonschema has without a network.
SCHEMAS = {
    "CITATION.cff": "citation-file-format",
    ".github/workflows/ci.yml": "github-workflows",
    ".github/ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
}


def read_yaml(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text())


def requirements(section: str, key: str) -> dict[str, Requirement]:
    """The requirements of a key of setup.cfg by name."""
    lines = [line for line in SETUP[section][key].splitlines() if line]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


REQUIRED = requirements("options", "install_requires")
OPTIONAL = {
    name: requirement
    for extra in SETUP["options.extras_require"]
    for name, requirement in requirements("options.extras_require", extra).items()
}
PYTHONS = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)


@pytest.mark.parametrize("schema", sorted(set(SCHEMAS.values())))
def test_files_follow_their_schema(schema):
    files = [REPOSITORY / path for path, name in SCHEMAS.items() if name == schema]
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_citation_has_the_version_and_license_of_the_package():
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == SETUP["metadata"]["version"] == rcdp_hpc.__version__
    assert citation["license"] == SETUP["metadata"]["license"]


def test_the_workflow_runs_the_whole_check_with_every_python_of_the_metadata():
    (job,) = read_yaml(".github/workflows/ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}"
    assert job["env"]["RCDP_HOROVOD"] == "${{ matrix.python == '3.13' && '0' || '1' }}"
    assert os.access(REPOSITORY / ".ci/run", os.X_OK)


def test_the_python_versions_begin_with_the_required_one():
    assert SETUP["options"]["python_requires"] == f">={PYTHONS[0]}"
    assert Version(PYTHONS[0]) < Version(PYTHONS[-1])


@pytest.mark.parametrize("python", [f"{version}.0" for version in PYTHONS])
def test_the_pinned_versions_install_on_every_python(python):
    """Also on the first release of each: some distributions stay at an early one."""
    refused = []
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        name, pinned, version = line.partition("==")
        if not pinned or not _is_installed(name, version):
            continue
        required = metadata.metadata(name).get("Requires-Python") or ""
        if not SpecifierSet(required).contains(python):
            refused.append(f"{name}=={version} needs Python {required}")
    assert not refused


def _is_installed(name: str, version: str) -> bool:
    try:
        return Version(metadata.version(name)).public == Version(version).public
    except metadata.PackageNotFoundError:
        return False


def test_the_bug_form_requires_the_output_of_doctor():
    fields = {field["id"]: field for field in read_yaml(".github/ISSUE_TEMPLATE/bug.yml")["body"] if "id" in field}
    assert "rcdp doctor" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"]


def test_security_and_templates_link_to_files():
    for path in ("SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md", "recipes/README.md"):
        text = (REPOSITORY / path).read_text()
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert (REPOSITORY / path).parent.joinpath(target).exists(), f"{path}: {target}"
    assert "](docs/security.md)" in (REPOSITORY / "SECURITY.md").read_text()


@pytest.fixture
def small_repository(tmp_path) -> Path:
    """A repository with the hooks and the settings of this one, and a module that is in order."""
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "module.py").write_text('"""A module."""\n\nONE = 1\n')
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, timeout=60)
    return tmp_path


def hook(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run a hook on all files, without a network."""
    subprocess.run(["git", "add", "."], cwd=folder, check=True, timeout=60)
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PRE_COMMIT_HOME": str(folder / "cache")}
    command = [BIN / "pre-commit", "run", name, "--all-files"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("ruff-check", '"""A module."""\n\nimport os\n'), ("ruff-format", '"""A module."""\n\nONE=1\n')],
)
def test_hooks_find_faults(small_repository, name, fault):
    assert hook(small_repository, name).returncode == 0
    (small_repository / "module.py").write_text(fault)
    done = hook(small_repository, name)
    assert done.returncode == 1
    assert "module.py" in done.stdout


def test_hooks_are_local_and_make_the_checks_of_the_makefile():
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert {entry["language"] for entry in repository["hooks"]} == {"system"}
    entries = [entry["entry"].replace(" --force-exclude", "") for entry in repository["hooks"]]
    commands = re.findall(r"^(?:lint|type):\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert entries == [line.strip().removesuffix(" .") for block in commands for line in block.splitlines()]


def recipe_requirements(name: str) -> dict[str, SpecifierSet]:
    """The requirements of the conda or the Spack recipe by their names in setup.cfg."""
    lines = conda_lines() if name == "conda" else spack_lines()
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    parsed = [Requirement(line) for line in lines]
    return {names.get(requirement.name, requirement.name): requirement.specifier for requirement in parsed}


def conda_lines() -> list[str]:
    recipe = yaml.safe_load(CONDA.read_text())["requirements"]
    return [*recipe["run"], *recipe["run_constraints"]]


def spack_lines() -> list[str]:
    lines = []
    for spec in spack_directives(SPACK / "packages/py_rcdp_hpc/package.py")["depends_on"]:
        name, _, version = spec.split()[0].partition("@")
        if name not in ("py-setuptools", "py-wheel"):
            lines.append(name.removeprefix("py-") + pip_bounds(version))
    return lines


def pip_bounds(version: str) -> str:
    """The bounds of a version of Spack: ``2:``, ``3.11:3.12`` (with all of 3.12), ``0.14`` (all of it), ``1.2.3``."""
    low, colon, high = version.partition(":")
    if not colon:
        if version.count(".") != 1:
            return f"=={version}" if version else ""
        high = version
    *parents, last = high.split(".") if high else [""]
    return f">={low}" + (f",<{'.'.join([*parents, str(int(last) + 1)])}" if high else "")


def spack_directives(path: Path) -> dict[str, list[str]]:
    """The first argument of each directive of a Spack recipe by the directive's name; the recipe is not executed."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            found.setdefault(node.func.id, []).append(getattr(node.args[0], "value", ""))
    return found


@pytest.mark.parametrize("name", ["conda", "spack"])
def test_recipes_have_the_requirements_of_the_package(name):
    recipe = recipe_requirements(name)
    assert recipe.pop("python") == SpecifierSet(f">={PYTHONS[0]},<3.{int(PYTHONS[-1].split('.')[1]) + 1}")
    assert {key: recipe[key] for key in REQUIRED} == {key: value.specifier for key, value in REQUIRED.items()}
    optional = {key: value for key, value in recipe.items() if key not in REQUIRED}
    assert optional == {key: OPTIONAL[key].specifier for key in optional}
    assert {"torch", "mpi4py", "pyarrow"} <= optional.keys()


def test_the_version_and_license_of_the_recipes():
    recipe = yaml.safe_load(CONDA.read_text())
    assert recipe["context"]["version"] == rcdp_hpc.__version__
    assert recipe["about"]["license"] == SETUP["metadata"]["license"]
    assert recipe["build"]["python"]["entry_points"] == [SETUP["options.entry_points"]["console_scripts"].strip()]
    assert (CONDA.parent / recipe["source"]["path"] / "setup.cfg").is_file()
    assert easybuild()["version"] == rcdp_hpc.__version__
    assert EASYBUILD.name.startswith(f"rcdp_hpc-{rcdp_hpc.__version__}-foss-")


def test_spack_recipes_are_in_a_repository_and_named_as_their_classes():
    assert yaml.safe_load((SPACK / "repo.yaml").read_text()) == {"repo": {"namespace": SPACK.name, "api": "v2.0"}}
    paths = sorted(SPACK.glob("packages/*/package.py"))
    assert len(paths) == 3
    for path in paths:
        classes = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        assert classes == ["".join(word.capitalize() for word in path.parent.name.split("_"))]
    # The recipe's idea of where the checkout is.
    (levels,) = re.findall(r"parents\[(\d)\]", (SPACK / "packages/py_rcdp_hpc/package.py").read_text())
    assert (SPACK / "packages/py_rcdp_hpc/package.py").parents[int(levels)] == REPOSITORY


def easybuild() -> dict[str, Any]:
    """The settings of the EasyBuild file, which is Python with constants and templates."""
    settings: dict[str, Any] = {}
    exec(compile(EASYBUILD.read_text(), EASYBUILD.name, "exec"), settings)
    return settings


def test_the_easybuild_file_satisfies_the_requirements_of_the_package():
    settings = easybuild()
    versions = {entry[0]: entry[1] for entry in [*settings["dependencies"], *settings["exts_list"]]}
    assert SpecifierSet(SETUP["options"]["python_requires"]).contains(versions["Python"])
    assert versions["rcdp_hpc"] == rcdp_hpc.__version__
    # Modules with several packages, as the comments of the file say.
    bundles = {"Python-bundle-PyPI": ("psutil", "threadpoolctl", "tomlkit"), "SciPy-bundle": ("numpy", "scipy")}
    bundled = {name for bundle, names in bundles.items() if bundle in versions for name in names}
    for name, requirement in REQUIRED.items():
        assert name in bundled or requirement.specifier.contains(versions[name]), name


@pytest.mark.parametrize("wrong", [lambda v: v.update(numpy=SpecifierSet(">=1")), lambda v: v.pop("h5py")])
def test_a_recipe_that_differs_is_found(wrong: Callable[[dict[str, SpecifierSet]], object]):
    recipe = recipe_requirements("conda")
    wrong(recipe)
    assert {key: recipe.get(key) for key in REQUIRED} != {key: value.specifier for key, value in REQUIRED.items()}
