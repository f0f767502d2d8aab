"""The fitted model of an estimator: the bytes of its file, from which it is loaded when it is first needed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.sklearn.folders import temporary_folder

if TYPE_CHECKING:
    from rcdp_hpc.model.trained_model import TrainedModel

# Names the model in messages.
WHERE = "the fitted model"


class FittedModel:
    """A trained model that can be pickled.

    Parameters
    ----------
    content : bytes
        Content of a ``model.pt``.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._loaded: TrainedModel | None = None
        self._process = os.getpid()

    @property
    def model(self) -> TrainedModel:
        """The model, for this process."""
        # Threads of torch do not survive a fork, so that a model of the parent process is not used.
        if self._loaded is None or self._process != os.getpid():
            self._loaded, self._process = _load(self.content), os.getpid()
        return self._loaded

    def write(self, path: Path) -> None:
        """Write the ``model.pt``, atomically."""
        write_atomic(path, lambda file: file.write(self.content))

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self.content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["content"])  # type: ignore[misc]


def _load(content: bytes) -> TrainedModel:
    from rcdp_hpc.model.model_file import ModelFile, named_code
    from rcdp_hpc.model.trained_model import TrainedModel
    from rcdp_hpc.runtime.user_code import load_named

    with temporary_folder() as folder:
        path = folder / "model.pt"
        path.write_bytes(content)
        file = replace(ModelFile.read(path), where=WHERE)
    # The caller's own configuration named these classes, or the caller unpickled the estimator.
    for key, name in named_code(file.config).items():
        load_named(key, name, "class", "my_networks:Mine", working_directory=False)
    return TrainedModel(file)
