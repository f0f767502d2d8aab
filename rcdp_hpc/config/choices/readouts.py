"""Readouts: one line for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rcdp_hpc.config.choices.choice import USER_CLASS, Choice, ChoiceTable


@dataclass(frozen=True)
class ReadoutChoice(Choice):
    """A readout, with the facts that checks need before its class is imported.

    Attributes
    ----------
    solver : str
        The class that solves the readout without gradients, as ``module:Class``; empty if gradient steps train it.
    linear : bool
        The readout is linear in the states, and has no other weights.
    stepwise : bool
        The readout reads states step by step, so that it needs several of them.
    warm_start : bool
        The readout can start from the weights of a ridge readout.
    dense : bool
        The readout has no more work than the layers of eq. 10 and 11; the choice of the number of threads uses that.
    """

    solver: str = ""
    linear: bool = False
    stepwise: bool = False
    warm_start: bool = False
    dense: bool = False

    @property
    def trained(self) -> bool:
        """Whether gradient steps train the readout; False if it is solved."""
        return not self.solver


_PACKAGE = "rcdp_hpc.networks.readouts"
_SOLVERS = "rcdp_hpc.training.solve"
_WIDTHS = ("readout.outputs", "readout.hidden", "readout.dropout")
_LAYERS = (*_WIDTHS, "readout.layers")
_MEMBERS = ("readout.members", "readout.member_rows", "readout.member_ratio")
_READOUTS = (
    ReadoutChoice(
        "network",
        "the network of eq. 10 and 11 (paper)",
        f"{_PACKAGE}.mlp:MLPReadout",
        (*_LAYERS, "readout.activation", "readout.relu_slope", "readout.warm_start"),
        warm_start=True,
        dense=True,
    ),
    ReadoutChoice(
        "ridge",
        "linear, solved by ridge regression",
        f"{_PACKAGE}.ridge:RidgeNetwork",
        ("readout.keep_sums", "readout.without_units", *_MEMBERS),
        solver=f"{_SOLVERS}.ridge_solver:RidgeSolver",
        linear=True,
        dense=True,
    ),
    ReadoutChoice(
        "elm",
        "deep extreme learning machine: a stack of autoencoders, each solved, and a linear readout of them",
        f"{_PACKAGE}.elm:ELMReadout",
        (
            "readout.hidden",
            "readout.layers",
            "readout.activation",
            "readout.relu_slope",
            "readout.elm_penalty",
            "readout.bands",
            *_MEMBERS,
        ),
        solver=f"{_SOLVERS}.elm_solver:ELMSolver",
        dense=True,
    ),
    ReadoutChoice("lstm", "LSTM over the kept states", f"{_PACKAGE}.lstm:LSTMReadout", _LAYERS, stepwise=True),
    ReadoutChoice("gru", "GRU over the kept states", f"{_PACKAGE}.gru:GRUReadout", _LAYERS, stepwise=True),
    ReadoutChoice(
        "transformer",
        "transformer over the kept states",
        f"{_PACKAGE}.transformer:TransformerReadout",
        (*_LAYERS, "readout.heads"),
        stepwise=True,
    ),
    ReadoutChoice(
        "convolution",
        "convolution over the kept states",
        f"{_PACKAGE}.convolution:ConvolutionReadout",
        (*_LAYERS, "readout.kernel_size"),
        stepwise=True,
    ),
)
_USER_READOUT = ReadoutChoice(USER_CLASS, "a readout of your own (docs/extending.md)")

READOUTS = ChoiceTable("readout.kind", _READOUTS, user_class=_USER_READOUT.meaning)


def readout_choice(name: str) -> ReadoutChoice:
    """Return the facts about a value of ``readout.kind``; of a user's class, those that hold for every such class."""
    return next((choice for choice in _READOUTS if choice.name == name), replace(_USER_READOUT, name=name))
