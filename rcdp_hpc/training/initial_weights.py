"""The weights of a trained model as the start of a training (``training.initial``)."""

from __future__ import annotations

import logging
from pathlib import Path

from rcdp_hpc.config import Config
from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.networks.base import Network
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)

RESTORE = "Restore the file from a backup, or name another model."


def load_initial(network: Network, config: Config, shards: ShardReader) -> None:
    """Give a network the weights of the model that ``training.initial`` names, its standardisation included.

    The file is only read: no code that it names runs.

    Raises
    ------
    InputError
        If there is no such model, or it is of another architecture or other classes.
    DataDamagedError
        If the file is damaged.
    """
    path = model_path(Path(config.training.initial))
    file = ModelFile.read(path, RESTORE)
    if list(file.classes) != list(shards.classes):
        raise InputError(
            f"training.initial = {path}: a model of the classes {', '.join(file.classes)}; these data have "
            f"{', '.join(shards.classes)}"
        )
    expected = network.state_dict()
    for name in sorted(set(file.weights) ^ set(expected)):
        verb = "has" if name in file.weights else "lacks"
        raise InputError(f"training.initial = {path}: the model {verb} the weights {name!r}. {_same(config)}")
    for name, value in expected.items():
        if file.weights[name].shape != value.shape:
            raise InputError(
                f"training.initial = {path}: {name!r} has the shape {tuple(file.weights[name].shape)}, expected "
                f"{tuple(value.shape)}. {_same(config)}"
            )
    network.load_state_dict(file.weights)
    log.info("the training starts from the weights of %s", path)


def model_path(path: Path) -> Path:
    """Return the model file at a path: itself, or that of a run directory.

    Raises
    ------
    InputError
        If there is no such file.
    """
    file = RunDirectory(path).model if path.is_dir() else path
    refuse_special(str(file), "training.initial =")
    if not file.exists():
        raise InputError(f"training.initial = {path}: there is no model {file}")
    return file


def _same(config: Config) -> str:
    return (
        "Name a model of the same extractor, reservoir and readout, or leave training.initial empty "
        f"(readout.kind = {config.readout.kind!r})"
    )
