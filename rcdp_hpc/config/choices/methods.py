"""Methods of a comparison: one line for each.

`METHODS` belongs to ``compare.methods``. Each name is one file of `rcdp_hpc.comparison.methods`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

ALL_KINDS = ("table", "series", "images")


@dataclass(frozen=True)
class MethodChoice(Choice):
    """A method, with the facts that tables and refusals need before its class is imported.

    Attributes
    ----------
    source : str
        Where its equations are published.
    kinds : tuple of str
        Kinds of data that it takes.
    searches : bool
        Whether it has a search, which uses the candidate evaluations of the comparison.
    """

    source: str = ""
    kinds: tuple[str, ...] = ALL_KINDS
    searches: bool = True


_PACKAGE = "rcdp_hpc.comparison.methods"
_SEQUENCES = ("series", "images")
_LSTM = "Hochreiter & Schmidhuber 1997"

METHODS = ChoiceTable(
    "compare.methods",
    (
        MethodChoice(
            "mfo",
            "the paper's method: reservoir, network of eq. 11, moth-flame search of both",
            f"{_PACKAGE}.mfo:MothFlameReservoir",
            source="the paper; Mirjalili 2015",
        ),
        MethodChoice(
            "mfo-lstm",
            "reservoir, 100 components into an LSTM of 128 units, moth-flame search",
            f"{_PACKAGE}.mfo_lstm:MothFlameReservoirLSTM",
            source=f"the paper; Mirjalili 2015; {_LSTM}",
            kinds=_SEQUENCES,
        ),
        MethodChoice(
            "no-reservoir",
            "as mfo, without a reservoir",
            f"{_PACKAGE}.no_reservoir:NoReservoir",
            source="the paper; Mirjalili 2015",
        ),
        MethodChoice(
            "woa-lstm",
            "LSTM on the input, searched by whale optimisation",
            f"{_PACKAGE}.woa_lstm:WhaleLSTM",
            source=f"Mirjalili & Lewis 2016; {_LSTM}",
            kinds=_SEQUENCES,
        ),
        MethodChoice(
            "pso-lstm",
            "LSTM on the input, searched by particle swarm optimisation",
            f"{_PACKAGE}.pso_lstm:ParticleSwarmLSTM",
            source=f"Kennedy & Eberhart 1995; {_LSTM}",
            kinds=_SEQUENCES,
        ),
        MethodChoice(
            "ga",
            "network of eq. 11 on the input, its structure and training searched by a genetic algorithm",
            f"{_PACKAGE}.ga:GeneticNetwork",
            source="Goldberg & Deb 1991; Deb & Agrawal 1995; Deb & Goyal 1996",
        ),
        MethodChoice(
            "wpd-avoa-delm",
            "wavelet packets into a deep extreme learning machine, searched by African vultures optimisation",
            f"{_PACKAGE}.wpd_avoa_delm:WaveletVulturesDELM",
            source="Coifman & Wickerhauser 1992; Kasun et al. 2013; Abdollahzadeh et al. 2021",
        ),
        MethodChoice(
            "ridge",
            "ridge regression on the input",
            f"{_PACKAGE}.ridge:RawRidge",
            source="Hoerl & Kennard 1970",
            searches=False,
        ),
        MethodChoice(
            "logistic",
            "logistic regression on the input",
            f"{_PACKAGE}.logistic:Logistic",
            source="Cox 1958",
            searches=False,
        ),
        MethodChoice(
            "trees",
            "gradient boosted trees",
            f"{_PACKAGE}.trees:BoostedTrees",
            source="Friedman 2001; Ke et al. 2017",
            kinds=("table",),
            searches=False,
        ),
        MethodChoice(
            "minirocket",
            "MiniRocket features of series into a ridge classifier (needs aeon)",
            f"{_PACKAGE}.minirocket:MiniRocketFloor",
            source="Dempster et al. 2021",
            kinds=("series",),
            extra="compare",
            searches=False,
        ),
    ),
    user_class="a method of your own (docs/extending.md)",
)


def method_choice(name: str) -> MethodChoice:
    """Return the facts about a value of ``compare.methods``; of a user's class, those that hold for all of them."""
    for choice in METHODS:
        if choice.name == name and isinstance(choice, MethodChoice):
            return choice
    return MethodChoice(name, METHODS.user_class, name)
