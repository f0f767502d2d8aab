"""Inputs of the products of successive steps, in buffers that are used in turns.

A slot holds the input [s_t, u_t, 1, 0] of a product. The product of a step is written into the next slot, as its s.
The inputs u of several steps are written at once, one step into each slot: with as many slots as steps, those of the
whole block.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor

# Slots of a block on a device other than a CPU, together. On a CPU two slots stay in the cache.
SLOT_BYTES = 1 << 30


class Slots:
    """The slots of a block.

    Parameters
    ----------
    batch : int
        Samples of the block.
    nodes : int
    features : int
        Length of u.
    length : int
        Length of a slot's rows, at least nodes + features + 1. The values after the 1 are 0.
    like : torch.Tensor
        The slots have its dtype and device.
    count : int
        Number of slots, at least 2.

    Attributes
    ----------
    step : int
        Steps that were made.
    """

    def __init__(self, batch: int, nodes: int, features: int, length: int, like: Tensor, count: int = 2) -> None:
        self.batch = batch
        self.nodes = nodes
        self.step = 0
        # Neither s nor u of a slot is used before it is written.
        self._slots = like.new_empty(count, batch, length)
        if like.device.type == "cpu":
            # The first product leaves out s. With AMX, oneDNN reads past the end of its rows if their length is not a
            # multiple of 32, and multiplies the s of the next row by zeros: NaN in unused memory would stay NaN.
            self._slots[:2, :, :nodes].zero_()
        self._slots[..., nodes + features :].zero_()
        self._slots[..., nodes + features].fill_(1)
        self._u = self._slots[..., nodes : nodes + features]
        self._inputs = self._slots.unbind()
        self._states = self._slots[..., :nodes].unbind()
        self._sequences: Tensor | None = None
        self._window = 1

    @classmethod
    def of_sequences(cls, u: Tensor, window: int, nodes: int, length: int) -> Self:
        """Return slots that are filled with the inputs of a block by themselves.

        Parameters
        ----------
        u : torch.Tensor, shape (steps, batch, columns)
            Of the dtype and device of the slots.
        window : int
            As of `rcdp_hpc.reservoir.kernels.Kernel.begin_sequences`.
        nodes, length : int
            As of the class.
        """
        steps, batch, columns = u.shape
        slots = cls(batch, nodes, window * columns, length, u, max(2, slots_for(steps, u, length)))
        slots._sequences = u
        slots._window = window
        return slots

    @property
    def states(self) -> Tensor:
        """The states of all samples after the last step, shape (batch, nodes)."""
        return self._states[self.step % len(self._states)]

    def input(self, rows: int) -> Tensor:
        """Return the place of u of the next step, for the first samples, shape (rows, features)."""
        return self._u[self.step % len(self._u), :rows]

    def move(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Make a step of the first samples.

        Returns
        -------
        joined : torch.Tensor, shape (rows, length)
            Input of the step's product; at the first step without s, which is 0.
        before : torch.Tensor, shape (rows, nodes)
            s of the step.
        after : torch.Tensor, shape (rows, nodes)
            Place of the product: s of the next step.
        """
        place = self.step % len(self._inputs)
        if self._sequences is not None and place == 0:
            self._write(self._sequences)
        joined, before = self._inputs[place], self._states[place]
        if self.step == 0:
            joined = joined[:, self.nodes :]
        self.step += 1
        after = self.states
        if rows == self.batch:
            return joined, before, after
        return joined[:rows], before[:rows], after[:rows]

    def _write(self, sequences: Tensor) -> None:
        """Write the inputs of the next steps, as many as there are slots."""
        first = self.step
        steps = min(len(self._slots), len(sequences) - first)
        columns = sequences.shape[2]
        for back in range(self._window):
            into = self._u[:steps, :, back * columns : (back + 1) * columns]
            missing = min(steps, max(0, back - first))
            if missing:
                into[:missing].zero_()
            if missing < steps:
                into[missing:].copy_(sequences[first + missing - back : first + steps - back])


def slots_for(steps: int, u: Tensor, length: int) -> int:
    """Return the number of slots of a block: one for each step if they fit into their memory, at least 2.

    Parameters
    ----------
    steps : int
    u : torch.Tensor, shape (steps, batch, columns)
        The inputs of the block.
    length : int
        Length of a slot's rows.
    """
    fitting = 0 if u.device.type == "cpu" else SLOT_BYTES // (max(1, u.shape[1]) * length * u.element_size())
    return max(2, min(steps, fitting))
