"""Recorded work of a device, which repeats with one launch instead of one for each torch call.

A GPU computes most operations of a small network sooner than the host can ask for the next one. A CUDA graph is asked
for once: the host records a piece of work, and from then on each repetition is one call. What is recorded reads and
writes fixed tensors. Its Python code is not run again, so nothing in it may depend on the step but through tensors.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch

from rcdp_hpc.runtime.cuda_graphs import first_cause, recorded, stream_for

log = logging.getLogger(__name__)

Work = Callable[[], None]
# Repetitions before the recording: kernels are chosen, and optimisers create their state, in the first ones.
WARM_UPS = 3
# Shapes of which work is recorded. Ranks of a training have few numbers of rows in a step.
MOST_KEYS = 32


class Recorder(ABC):
    """Records work of a device."""

    @abstractmethod
    def warm_up(self, work: Work) -> None:
        """Run work as it is, where it is recorded later."""

    @abstractmethod
    def record(self, work: Work) -> Work:
        """Return what repeats a piece of work, without running it now.

        Raises
        ------
        RuntimeError
            If it cannot be recorded, for example because it reads a value back.
        """

    def forget(self) -> None:  # noqa: B027 - not all recordings share something
        """Prepare for other recordings; all earlier ones are about to be freed."""


class CudaGraphs(Recorder):
    """Records CUDA graphs.

    All graphs of a recorder share their memory: what one leaves to another has to be referenced from outside.

    Parameters
    ----------
    device : torch.device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = stream_for("steps", device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        """Run work on the stream of the recordings."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Work) -> Work:
        """Return what launches the graph of a piece of work; parameters and errors as `Recorder.record`."""
        return recorded(work, self.device, self.stream, self.pool)

    def forget(self) -> None:
        """Wait for what was launched, and give the next recordings memory of their own.

        Torch records nothing into the memory of graphs that are gone.
        """
        # Not for the whole GPU, on which another thread may be recording.
        torch.cuda.current_stream(self.device).synchronize()
        self.pool = torch.cuda.graph_pool_handle()


@dataclass
class _Piece:
    """A piece of work.

    Attributes
    ----------
    runs : int
        Warm-ups so far.
    repeat : callable, optional
        Repeats the recording; None until there is one.
    gradients : list of (torch.Tensor or None)
        Gradients of the weights at the end of the recording, which each repetition writes.
    """

    runs: int = 0
    repeat: Work | None = None
    gradients: list[torch.Tensor | None] = field(default_factory=list)


class GraphRunner:
    """Runs pieces of work: the first times as they are, then as recordings.

    If a piece cannot be recorded, all of them run as they are from then on, with one warning that has the reason.

    Parameters
    ----------
    recorder : Recorder, optional
        None records nothing.
    weights : sequence of torch.Tensor
        The weights whose gradients pieces leave to one another. A repetition gives them the gradients of its recording,
        which work that ran in between may have replaced.
    """

    def __init__(self, recorder: Recorder | None, weights: Sequence[torch.Tensor] = ()) -> None:
        self.recorder = recorder
        self.weights = weights
        self._pieces: dict[tuple[str, Hashable], _Piece] = {}

    def run(self, name: str, work: Work, key: Hashable = None) -> None:
        """Run a piece of work once.

        Parameters
        ----------
        name : str
            Name of the piece, for the message if it cannot be recorded.
        work : callable
            The same work each time; it changes fixed tensors.
        key : hashable
            What a recording depends on besides the values of fixed tensors, as shapes. Each key has its own recording;
            from `MOST_KEYS` on, further ones are not recorded.
        """
        known = (name, key) in self._pieces or len(self._pieces) < MOST_KEYS
        if self.recorder is None or not known:
            work()
            return
        piece = self._pieces.setdefault((name, key), _Piece())
        if piece.runs < WARM_UPS:
            piece.runs += 1
            self.recorder.warm_up(work)
        elif piece.repeat is not None or self._record(self.recorder, name, work, piece):
            self._repeat(piece)
        else:
            work()

    def forget(self) -> None:
        """Forget all recordings, since tensors have moved; work is recorded again after as many warm-ups."""
        if self.recorder is not None:
            self.recorder.forget()
        self._pieces.clear()

    def record_again(self) -> None:
        """Forget all recordings, since numbers on the host have changed; work is recorded again when it is next run."""
        if self.recorder is not None:
            self.recorder.forget()
        for piece in self._pieces.values():
            piece.repeat, piece.gradients = None, []

    def _record(self, recorder: Recorder, name: str, work: Work, piece: _Piece) -> bool:
        """Record a piece; return whether that succeeded."""
        try:
            piece.repeat = recorder.record(work)
        except RuntimeError as error:
            reason = str(first_cause(error)).partition("\n")[0]
            log.warning("the %s cannot be recorded (training.graph), so that each one takes longer: %s", name, reason)
            self.recorder = None
            self._pieces.clear()
            return False
        piece.gradients = [weights.grad for weights in self.weights]
        return True

    def _repeat(self, piece: _Piece) -> None:
        for weights, gradient in zip(self.weights, piece.gradients, strict=True):
            weights.grad = gradient
        if piece.repeat is not None:
            piece.repeat()
