"""The paper's method: a reservoir and the network of eq. 11, searched by moth-flame optimisation.

S. Mirjalili, "Moth-flame optimization algorithm: A novel nature-inspired heuristic paradigm", Knowledge-Based Systems
89 (2015) 228-249.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rcdp_hpc.comparison.methods.pipeline_method import PipelineMethod
from rcdp_hpc.comparison.methods.settings import DEPTH, TRAINING, WIDTH, completed, searched_by, with_own
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.config.search import DIMENSION_KEYS
from rcdp_hpc.reservoir.sequencing import Sequencer

READOUT_SPACE: dict[str, Any] = {
    **TRAINING,
    "relu_slope": {"low": 0.0, "high": 0.3},
    "hidden": WIDTH,
    "outputs": WIDTH,
    "readout_layers": DEPTH,
}
# Searched reservoirs have a quarter of the configured neurons at least.
FEWEST_NODES = 4
MOST_STATES = 8


class MothFlameReservoir(PipelineMethod):
    """Reservoir, network of eq. 11 and their training, by `rcdp_hpc.search.optimizers.moth_flame`.

    The space has the dimensions of the comparison's ``[search.space]``, the size and density of the reservoir, and
    those of the readout. A dimension that ``[search.space]`` has keeps its bounds.
    """

    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the settings: a random reservoir, the network of eq. 11, and a search of both."""
        base = completed(config, facts, {"readout.kind": "network", "reservoir.kind": "random"})
        # The steps of a map of an extractor are not known, so that no bound of the kept states suits them all.
        fixed = ("states",) if base.extractor.makes_sequences else ()
        space = {**reservoir_space(base), **kept_states(base, facts), **READOUT_SPACE, **own_space(base, fixed)}
        return with_own(base, searched_by("mfo", space))


def own_space(config: Config, fixed: Collection[str] = ()) -> dict[str, Any]:
    """Return the dimensions of ``[search.space]`` that the complete settings use.

    State sets are left out, since they set what other dimensions search, and so are the `fixed` dimensions.
    """
    space = config.search.space.model_dump(exclude_none=True, exclude={"state_set", *fixed})
    used = readout_choice(config.readout.kind).keys
    return {
        name: bounds
        for name, bounds in space.items()
        if not DIMENSION_KEYS[name].startswith("readout.") or DIMENSION_KEYS[name] in used
    }


def reservoir_space(config: Config) -> dict[str, Any]:
    """Return the dimensions of a reservoir that is generated; none if its matrices are the user's own."""
    reservoir = config.reservoir
    if reservoir.matrices:
        return {}
    space: dict[str, Any] = {"input_scaling": _around(reservoir.input_scaling), "layers": {"low": 1, "high": 2}}
    if reservoir.nodes > FEWEST_NODES:
        space["nodes"] = {"low": max(2, reservoir.nodes // FEWEST_NODES), "high": reservoir.nodes}
    if reservoir.topology not in ("ring", "cycle-jumps"):
        space["density"] = {"low": 0.01, "high": 0.5, "log": True}
    if reservoir.scaling == "spectral_radius":
        space["spectral_radius"] = {"low": 0.3, "high": 1.5}
    else:
        space["weight_scale"] = {"low": 0.01, "high": 1.0, "log": True}
    return space


def kept_states(config: Config, facts: DataFacts) -> dict[str, Any]:
    """Return the dimension of the states that are features; none if features are other reductions of the states."""
    reservoir = config.reservoir
    if "states" not in reservoir.reduction or reservoir.steps or config.extractor.makes_sequences:
        return {}
    if 0 in facts.sample_shape:  # the steps of series are not known yet
        return {}
    sequencer = Sequencer.of(reservoir)
    steps, _ = sequencer.shape(facts.sample_shape)
    shortest = steps if facts.shortest is None else int(sequencer.lengths([facts.shortest])[0])
    most = min(MOST_STATES, shortest - reservoir.warm_up)
    return {"states": {"low": 1, "high": most}} if most > 1 else {}


def _around(value: float) -> dict[str, Any]:
    return {"low": value / 8, "high": min(4 * value, 100.0), "log": True}
