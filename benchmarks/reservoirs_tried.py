"""Reservoirs in torch for the comparison in `reservoir_kinds.py`, next to those that the package has.

Each has `nodes`, `begin(rows)` and `step(u)`, which computes the next states of the first len(u) sequences and returns
the states of all sequences, shape (rows, nodes).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.states import Reservoir

Array = NDArray[np.float64]


def tensor(array: Array) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).contiguous()


def log_uniform(draw: np.random.Generator, low: float, high: float, count: int) -> Array:
    return np.exp(draw.uniform(math.log(low), math.log(high), count))


def orthogonal(draw: np.random.Generator, nodes: int) -> Array:
    q, r = np.linalg.qr(draw.standard_normal((nodes, nodes)))
    return np.asarray(q * np.sign(np.diag(r)))


class Leaky:
    """s = (1 - a) · s + a · tanh(C · s + W · u + b), with one a for each neuron, log-uniform in `leaks`.

    For inputs of standard deviation 1 the argument of tanh has standard deviation `scaling`. A radius of 0 means no
    recurrence.
    """

    def __init__(
        self,
        nodes: int,
        features: int,
        seed: int,
        radius: float = 0.9,
        scaling: float = 0.5,
        bias: float = 0.3,
        leaks: tuple[float, float] = (0.02, 1.0),
    ) -> None:
        draw = np.random.default_rng(seed)
        self.nodes = nodes
        connections = draw.uniform(-1, 1, (nodes, nodes)) * (draw.random((nodes, nodes)) < 0.1)
        if radius:
            connections *= radius / np.abs(np.linalg.eigvals(connections)).max()
        self.recurrent = tensor(connections.T) if radius else None
        self.input = tensor(draw.uniform(-1, 1, (features, nodes)) * scaling * math.sqrt(3 / features))
        self.bias = tensor(draw.uniform(-1, 1, nodes) * bias)
        self.leak = tensor(log_uniform(draw, *leaks, nodes))
        self.draw = draw

    def begin(self, rows: int) -> None:
        self.state = torch.zeros(rows, self.nodes)

    def driven(self, u: Tensor) -> Tensor:
        inputs = torch.addmm(self.bias, u, self.input)
        return inputs if self.recurrent is None else inputs.addmm_(self.state[: len(u)], self.recurrent)

    def step(self, u: Tensor) -> Tensor:
        self.state[: len(u)].lerp_(self.driven(u).tanh_(), self.leak)
        return self.state


class Ring(Leaky):
    """A leaky reservoir whose neurons read only their neighbour, with weights of 0.9 or -0.9."""

    def __init__(self, nodes: int, features: int, seed: int) -> None:
        super().__init__(nodes, features, seed, radius=0)
        self.ring = tensor(0.9 * self.draw.choice([-1.0, 1.0], nodes))

    def driven(self, u: Tensor) -> Tensor:
        return super().driven(u).addcmul_(self.state[: len(u)].roll(1, 1), self.ring)


class EdgeOfStability(Leaky):
    """ES2N: s = (1 - a) · O · s + a · tanh(C · s + W · u + b), O orthogonal or a cyclic shift (arXiv 2308.02902)."""

    def __init__(self, nodes: int, features: int, seed: int, cyclic: bool = False) -> None:
        super().__init__(nodes, features, seed)
        self.rotation = None if cyclic else tensor(orthogonal(self.draw, nodes))

    def step(self, u: Tensor) -> Tensor:
        state = self.state[: len(u)]
        rotated = state.roll(1, 1) if self.rotation is None else state @ self.rotation
        self.state[: len(u)] = torch.lerp(rotated, self.driven(u).tanh_(), self.leak)
        return self.state


class Residual(EdgeOfStability):
    """A residual reservoir: s = a · O · s + (1 - a) · tanh(C · s + W · u + b), a uniform in [0.5, 0.99]."""

    def __init__(self, nodes: int, features: int, seed: int, cyclic: bool = False) -> None:
        super().__init__(nodes, features, seed, cyclic)
        self.leak = 1 - tensor(self.draw.uniform(0.5, 0.99, nodes))


class Euler(Leaky):
    """An Euler state network: s += e · tanh((A - A' - g · I) · s + W · u + b), e log-uniform (arXiv 2203.09382)."""

    def __init__(
        self, nodes: int, features: int, seed: int, damping: float = 0.1, steps: tuple[float, float] = (0.02, 0.5)
    ) -> None:
        super().__init__(nodes, features, seed, radius=0, leaks=steps)
        drawn = self.draw.uniform(-1, 1, (nodes, nodes)) / math.sqrt(nodes)
        self.recurrent = tensor((drawn - drawn.T - damping * np.eye(nodes)).T)

    def step(self, u: Tensor) -> Tensor:
        self.state[: len(u)].addcmul_(self.driven(u).tanh_(), self.leak)
        return self.state


class Joined:
    """Reservoirs next to each other, or stacked, each driven by the states of the one below."""

    def __init__(self, *parts: Leaky | Joined | Engine, stacked: bool = False) -> None:
        self.parts = parts
        self.stacked = stacked
        self.nodes = sum(part.nodes for part in parts)

    def begin(self, rows: int) -> None:
        for part in self.parts:
            part.begin(rows)

    def step(self, u: Tensor) -> Tensor:
        states, inputs = [], u
        for part in self.parts:
            states.append(part.step(inputs))
            if self.stacked:
                inputs = states[-1][: len(u)]
        return torch.cat(states, dim=1)


class Engine:
    """A reservoir that the package computes."""

    def __init__(self, nodes: int, features: int, seed: int, **settings: object) -> None:
        section = ReservoirSection.model_validate({"nodes": nodes, "seed": seed, **settings})
        self.nodes = nodes
        self.kernel = Reservoir(section, features).only_kernel

    def begin(self, rows: int) -> None:
        self.kernel.begin(rows)

    def step(self, u: Tensor) -> Tensor:
        return self.kernel.step([u])


class Without:
    """No reservoir: the inputs themselves."""

    def __init__(self, features: int) -> None:
        self.nodes = features

    def begin(self, rows: int) -> None:
        self.state = torch.zeros(rows, self.nodes)

    def step(self, u: Tensor) -> Tensor:
        self.state[: len(u)] = u
        return self.state
