"""Consent to run the code that a file names.

A configuration that the user passes to a command may name classes and functions as module:name. Such names are also in
files that somebody else may have written: a model file, or the config.toml of a run directory. Code named by such a
file is run only if the command has the option --allow-code, or if a configuration of the user has named the same module
file before and the file has not changed. For the second case, the path and SHA-256 of each module that a configuration
of the user names are recorded in the user's home directory. They are never recorded in the run directory, because its
author could write the record as well.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import TABLES, is_user_class
from rcdp_hpc.config.keys import flatten, to_tree
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.files import write_json

log = logging.getLogger(__name__)

MOST_RECORDS = 1000


@dataclass(frozen=True)
class ModuleFiles:
    """The files that importing a module runs.

    Attributes
    ----------
    module : str
        Dotted name of the module.
    folder : str
        Entry of the module search path that contains the module.
    files : list of str
        Files of the parent packages, followed by the file of the module.
    sha256 : str
        Digest of all files.
    """

    module: str
    folder: str
    files: list[str]
    sha256: str


def record_file() -> Path:
    """Return the path of the record of modules that configurations of the user have named."""
    folder = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(folder) / "rcdp_hpc" / "own-code.json"


def code_named_by(config: Config) -> dict[str, str]:
    """Return the values of the form module:name in a configuration, by key.

    Entries of a list, as candidates of the search space and methods of a comparison, have keys of the form
    ``key[index]``.
    """
    settings = flatten(to_tree(config))
    keys = [key for key, table in TABLES.items() if table.user_class]
    values: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, list) and (key in keys or key.startswith("search.space.")):
            values |= {f"{key}[{index}]": str(entry) for index, entry in enumerate(value)}
        elif key in keys or key == "search.function":
            values[key] = str(value)
    return {key: value for key, value in values.items() if is_user_class(value)}


def find_module(module: str, places: Iterable[str]) -> ModuleFiles | None:
    """Return the files that an import would run, without running them; None if the module is not found.

    Parameters
    ----------
    module : str
        Dotted name.
    places : iterable of str
        Folders to search, in this order.
    """
    importlib.invalidate_caches()
    parts, files, search = module.split("."), [], [os.path.abspath(place) for place in places]
    for number in range(1, len(parts) + 1):
        try:
            spec = PathFinder.find_spec(".".join(parts[:number]), search)
        except (ImportError, ValueError, OSError):
            spec = None
        if spec is None:
            return None
        if spec.origin and spec.has_location:
            files.append(os.path.realpath(spec.origin))
        search = list(spec.submodule_search_locations or ())
    return _module_files(module, files) if files else None


def loaded_module(module: str) -> ModuleFiles | None:
    """Return the files of an imported module; None if it has none."""
    parts = module.split(".")
    loaded = [sys.modules.get(".".join(parts[:number])) for number in range(1, len(parts) + 1)]
    files = [os.path.realpath(part.__file__) for part in loaded if getattr(part, "__file__", None)]  # type: ignore
    return _module_files(module, files) if files else None


def _module_files(module: str, files: list[str]) -> ModuleFiles | None:
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    except OSError:
        return None
    parents = Path(files[-1]).parents
    depth = module.count(".") + (Path(files[-1]).stem == "__init__")
    return ModuleFiles(module, str(parents[min(depth, len(parents) - 1)]), files, digest.hexdigest())


def digests_of(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the imported modules of names module:name, to be stored with their results."""
    modules = {name.partition(":")[0] for name in names}
    loaded = {module: loaded_module(module) for module in sorted(modules)}
    return {module: files.sha256 for module, files in loaded.items() if files is not None}


def found_digests(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the modules of names module:name, imported or not; modules that are not found are left out.

    For a module that is not imported, the digest is that of the files that an import would run.
    """
    places = search_path(working_directory=True)
    modules = sorted({name.partition(":")[0] for name in names})
    found = {module: loaded_module(module) or find_module(module, places) for module in modules}
    return {module: files.sha256 for module, files in found.items() if files is not None}


def record_user_modules(names: Iterable[str]) -> None:
    """Record the modules of names module:name from a configuration of the user."""
    modules = [find_module(name.partition(":")[0], search_path(working_directory=True)) for name in names]
    named = [module for module in modules if module is not None]
    earlier = recorded_modules()
    if all(module in earlier for module in named):
        return
    named_files = {module.files[-1] for module in named}
    earlier = [module for module in earlier if module.files[-1] not in named_files]
    path = record_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path, [asdict(module) for module in [*earlier, *named][-MOST_RECORDS:]])
        path.chmod(0o600)
    except (OSError, RcdpError) as error:
        log.info(
            "the code that this configuration names cannot be recorded (%s): commands without a configuration will "
            "need --allow-code",
            error,
        )


def recorded_modules() -> list[ModuleFiles]:
    """Return the recorded modules; an empty list if the record is missing, damaged or writable by others."""
    path = record_file()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return []
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            log.warning("%s: not used, because other users may write to it. Correct this with chmod 600.", path)
            return []
        return [_record(entry) for entry in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, RecursionError, AttributeError):
        log.warning("%s: not used, because it is damaged. Remove it.", path)
        return []


def _record(entry: Mapping[str, Any]) -> ModuleFiles:
    files = [str(file) for file in entry["files"]]
    if not files:
        raise ValueError("no files")
    return ModuleFiles(str(entry["module"]), str(entry["folder"]), files, str(entry["sha256"]))


def search_path(working_directory: bool) -> list[str]:
    """Return the folders of the module search path."""
    here = os.getcwd()
    return [*sys.path, *([here] if working_directory and here not in sys.path else [])]


def require_consent(key: str, name: str, where: Path) -> None:
    """Refuse code named by a configuration of unknown origin, unless its module is recorded and unchanged.

    Parameters
    ----------
    key : str
        Configuration key.
    name : str
        Value of the key, module:name.
    where : Path
        The configuration file.

    Raises
    ------
    InputError
        If no configuration of the user has named the module, or the module has changed since.
    """
    module = find_module(name.partition(":")[0], search_path(working_directory=True))
    if module is not None and module in recorded_modules():
        return
    reason = _difference(module) if module is not None else "the module is not found"
    raise InputError(
        f"{where}: names code that would be run, {key} = {name!r}, and {reason}. Pass your configuration file to the "
        "command, or read the code and add --allow-code if you trust it."
    )


def _difference(module: ModuleFiles) -> str:
    if any(recorded.files == module.files for recorded in recorded_modules()):
        return f"{module.files[-1]} has changed since a configuration of yours named it"
    return f"no configuration of yours has named {module.files[-1]}"


def check_model_code(key: str, name: str, digests: Mapping[str, str], where: Path, allow: bool) -> None:
    """Refuse code named by a model file, unless it is allowed, or its module is recorded and unchanged since training.

    The working directory is not searched, but the folder of a recorded module is.

    Parameters
    ----------
    key : str
        Configuration key.
    name : str
        Value of the key, module:name.
    digests : mapping of str to str
        SHA-256 of each module at the end of the training, from the model file.
    where : Path
        The model file.
    allow : bool
        Whether the user allows the code (``--allow-code``).

    Raises
    ------
    InputError
        If the code is refused.
    """
    module = name.partition(":")[0]
    recorded = [files for files in recorded_modules() if (files.module, files.sha256) == (module, digests.get(module))]
    found = find_module(module, search_path(working_directory=False))
    for files in recorded:
        if found in (None, files) and find_module(module, [files.folder]) == files:
            if found is None:
                sys.path.append(files.folder)
            return
    if allow:
        if found is not None and found.sha256 != digests.get(module):
            log.warning("%s has changed since %s was trained with it", found.files[-1], where)
        return
    reason = (
        "no configuration of yours has named that module as it was in training"
        if found is None or not recorded
        else f"{found.files[-1]} is another file"
    )
    raise InputError(
        f"{where}: names code that would be run, {key} = {name!r}, and {reason}. Read the code, and add --allow-code "
        "if you trust it. Its folder must be in PYTHONPATH; the working directory is not searched."
    )
