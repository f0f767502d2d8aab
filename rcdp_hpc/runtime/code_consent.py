"""Whether code that a file names may be run.

A configuration that the user gives to a command may name classes and functions as module:name. The same names are in
files that somebody else may have written: a model file, the config.toml of a run directory. Code that such a file names
is run in two cases only: the command has the option --allow-code, or the user's own configuration named the same module
file before and the file is still the same. For the second case the path and the SHA-256 of each module that the user's
own configuration names are recorded in the user's home, never in the run directory: whoever writes a run directory
could write a record, too.
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
        Its dotted name.
    folder : str
        The entry of the path of modules that it is found in.
    files : list of str
        Those of its packages, and its own at the end.
    sha256 : str
        Of all files.
    """

    module: str
    folder: str
    files: list[str]
    sha256: str


def record_file() -> Path:
    """Return the file with the modules that the user's own configurations named."""
    folder = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(folder) / "rcdp_hpc" / "own-code.json"


def code_named_by(config: Config) -> dict[str, str]:
    """Return the names module:name in a configuration, by key; choices of the search space as ``key[number]``."""
    settings = flatten(to_tree(config))
    keys = [key for key, table in TABLES.items() if table.user_class]
    named = {key: str(settings[key]) for key in (*keys, "search.function")}
    for key, choices in settings.items():
        if key.startswith("search.space.") and isinstance(choices, list):
            named |= {f"{key}[{number}]": str(choice) for number, choice in enumerate(choices)}
    return {key: name for key, name in named.items() if is_user_class(name)}


def find_module(module: str, places: Iterable[str]) -> ModuleFiles | None:
    """Return the files that an import would run, without running any; None if there is no such file.

    Parameters
    ----------
    module : str
        Dotted name.
    places : iterable of str
        Folders that are searched, in this order.
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
    return _described(module, files) if files else None


def loaded_module(module: str) -> ModuleFiles | None:
    """Return the files of an imported module; None if it has none."""
    parts = module.split(".")
    loaded = [sys.modules.get(".".join(parts[:number])) for number in range(1, len(parts) + 1)]
    files = [os.path.realpath(part.__file__) for part in loaded if getattr(part, "__file__", None)]  # type: ignore
    return _described(module, files) if files else None


def _described(module: str, files: list[str]) -> ModuleFiles | None:
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    except OSError:
        return None
    above = Path(files[-1]).parents
    depth = module.count(".") + (Path(files[-1]).stem == "__init__")
    return ModuleFiles(module, str(above[min(depth, len(above) - 1)]), files, digest.hexdigest())


def digests_of(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the imported modules of names module:name, for the file that holds what they computed."""
    modules = {name.partition(":")[0] for name in names}
    found = {module: loaded_module(module) for module in sorted(modules)}
    return {module: files.sha256 for module, files in found.items() if files is not None}


def record_user_modules(names: Iterable[str]) -> None:
    """Record the modules of names module:name that the user's own configuration holds."""
    found = [find_module(name.partition(":")[0], search_path(working_directory=True)) for name in names]
    fresh = [files for files in found if files is not None]
    kept = recorded()
    if all(files in kept for files in fresh):
        return
    places = {files.files[-1] for files in fresh}
    kept = [files for files in kept if files.files[-1] not in places]
    path = record_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path, [asdict(files) for files in [*kept, *fresh][-MOST_RECORDS:]])
        path.chmod(0o600)
    except (OSError, RcdpError) as error:
        log.info(
            "the code that this configuration names is not recorded (%s): commands without a configuration need "
            "--allow-code",
            error,
        )


def recorded() -> list[ModuleFiles]:
    """Return the modules that the user's own configurations named; nothing if the file cannot be believed."""
    path = record_file()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return []
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            log.warning("%s: not used: others may write to it (chmod 600)", path)
            return []
        return [_record(entry) for entry in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, RecursionError, AttributeError):
        log.warning("%s: not used: it is damaged. Remove it.", path)
        return []


def _record(entry: Mapping[str, Any]) -> ModuleFiles:
    files = [str(file) for file in entry["files"]]
    if not files:
        raise ValueError("no files")
    return ModuleFiles(str(entry["module"]), str(entry["folder"]), files, str(entry["sha256"]))


def search_path(working_directory: bool) -> list[str]:
    """Return the folders in which modules are searched."""
    here = os.getcwd()
    return [*sys.path, *([here] if working_directory and here not in sys.path else [])]


def require_consent(key: str, name: str, where: Path) -> None:
    """Refuse a name in a configuration that is not the user's own, unless its module is recorded and unchanged.

    Parameters
    ----------
    key, name : str
        The configuration's key, and module:name.
    where : Path
        The file that names it.

    Raises
    ------
    InputError
        If the module is another than the one that the user's own configuration named.
    """
    found = find_module(name.partition(":")[0], search_path(working_directory=True))
    if found is not None and found in recorded():
        return
    reason = _difference(found) if found is not None else "no such module is found"
    raise InputError(
        f"{where}: names code that would be run, {key} = {name!r}, and {reason}. Name your own configuration file "
        "before --out, or read the code and add --allow-code if you trust it."
    )


def _difference(found: ModuleFiles) -> str:
    same_place = any(own.files == found.files for own in recorded())
    if same_place:
        return f"{found.files[-1]} has changed since a configuration of yours named it"
    return f"no configuration of yours has named {found.files[-1]}"


def check_model_code(key: str, name: str, digests: Mapping[str, str], where: Path, allow: bool) -> None:
    """Refuse a name in a model file, unless it is allowed or its module is recorded and the one of the training.

    The working directory is not searched; the folder of a recorded module is.

    Parameters
    ----------
    key, name : str
        The setting's key, and module:name.
    digests : mapping of str to str
        SHA-256 of each module at the end of the training, as the model file has it.
    where : Path
        The model file.
    allow : bool
        Whether the user allows whatever the file names.

    Raises
    ------
    InputError
        If it is refused.
    """
    module = name.partition(":")[0]
    own = [files for files in recorded() if files.module == module and files.sha256 == digests.get(module)]
    places = search_path(working_directory=False)
    found = find_module(module, places)
    for files in own:
        if found in (None, files) and find_module(module, [files.folder]) == files:
            if found is None:
                sys.path.append(files.folder)
            return
    if allow:
        if found is not None and found.sha256 != digests.get(module):
            log.warning("%s is not the file that %s was trained with: it has changed", found.files[-1], where)
        return
    reason = (
        "no configuration of yours has named that module as it was in training"
        if found is None or not own
        else (f"{found.files[-1]} is another file")
    )
    raise InputError(
        f"{where}: names code that would be run, {key} = {name!r}, and {reason}. Read the code, and add --allow-code "
        "if you trust it; its folder must be in PYTHONPATH, the working directory is not searched."
    )
