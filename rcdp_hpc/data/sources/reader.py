"""The contract of a source: the base class of the package's readers and of the user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.base import NewSamples, Source, joined
from rcdp_hpc.data.sources.by_content import read_by_content
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest


class SourceReader(ABC):
    """Reads the samples of one kind of source. It is instantiated without arguments.

    Attributes
    ----------
    needs_path : bool
        Whether ``data.path`` must be set.
    takes_test_path : bool
        Whether ``data.test_path`` may name a separate test set.
    file_formats : tuple of str
        Names of the file formats (`rcdp_hpc.data.sources.sniff.FORMATS`) that new samples usually have. Prediction logs
        if a file has another format; empty logs nothing.
    """

    needs_path: ClassVar[bool] = True
    takes_test_path: ClassVar[bool] = False
    file_formats: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read(self, request: SourceRequest) -> Source:
        """Return the labelled samples.

        Parameters
        ----------
        request : SourceRequest
            Path and settings. `SourceRequest.from_arrays` turns arrays into the result.

        Raises
        ------
        InputError
            If the data cannot be used: the message names file, key or row, what was expected and what to do.
        """

    def read_new(self, request: SampleRequest) -> NewSamples:
        """Return new samples for prediction.

        The default chooses the format of a file by its content; a folder is read as images.

        Parameters
        ----------
        request : SampleRequest
            Path, settings and the shape of the model's samples. `SampleRequest.from_arrays` turns arrays into the
            result.

        Raises
        ------
        InputError
            As in `read`.
        """
        return read_by_content(request, self.file_formats)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether ``rcdp init`` proposes this source for a file or folder."""
        return False

    def propose(self, path: Path, data: DataSection) -> tuple[dict[str, Any], list[str]]:
        """Return settings of ``[data]`` that ``rcdp init`` proposes for `path`, and sentences that give the reasons."""
        return {}, []


class FixedFilesReader(SourceReader):
    """A source of several files with fixed names: a folder of new samples has the same files."""

    def read_new(self, request: SampleRequest) -> NewSamples:
        """Return all samples of a folder, training samples first, or those of one file."""
        return self.read_all(request) if request.path.is_dir() else super().read_new(request)

    def read_all(self, request: SampleRequest) -> NewSamples:
        """Return the training samples and then the test samples of a source, as new samples."""
        data = request.data.model_copy(update={"path": str(request.path)})
        return joined(self.read(SourceRequest(request.path, data)), request.longest)
