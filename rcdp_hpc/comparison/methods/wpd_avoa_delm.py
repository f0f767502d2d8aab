"""WPD-AVOA-DELM: wavelet packets into a deep extreme learning machine, searched by African vultures optimisation.

R. R. Coifman, M. V. Wickerhauser, "Entropy-based algorithms for best basis selection", IEEE Transactions on Information
Theory 38 (1992) 713-718: wavelet packets. L. L. C. Kasun, H. Zhou, G.-B. Huang, C. M. Vong, "Representational learning
with extreme learning machine for big data", IEEE Intelligent Systems 28 (2013) 31-34: stacked ELM autoencoders.
B. Abdollahzadeh, F. S. Gharehchopogh, S. Mirjalili, "African vultures optimization algorithm: A new nature-inspired
metaheuristic algorithm for global optimization problems", Computers & Industrial Engineering 158 (2021) 107408.
"""

from __future__ import annotations

from typing import Any

from rcdp_hpc.comparison.methods.pipeline_method import PipelineMethod
from rcdp_hpc.comparison.methods.settings import (
    BY_VALIDATION,
    DEPTH,
    NO_DENSITY_TERM,
    completed,
    input_only,
    refuse_trained_extractor,
    searched_by,
    with_own,
)
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.errors import InputError

SPACE: dict[str, Any] = {
    "hidden": {"low": 16, "high": 512, "log": True},
    "readout_layers": DEPTH,
    "elm_penalty": {"low": 1e-3, "high": 1e6, "log": True},
}


class WaveletVulturesDELM(PipelineMethod):
    """A deep extreme learning machine on wavelet packets; widths, depth and penalty are searched.

    Wavelet, levels and axis are those of ``[extractor]``, by default db4, 3 levels and the rows of images and tables or
    the steps of series. ``readout.bands`` of the comparison is kept: one machine for all bands, or one for each.
    """

    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the settings: wavelet packets, no reservoir, an extreme learning machine, and a search of it."""
        refuse_trained_extractor(config, "it reads wavelet packets of the input")
        parts: dict[str, Any] = {
            "readout.kind": "elm",
            "reservoir.kind": "none",
            "extractor.kind": "wavelet_packets",
            "loss.kind": "cross_entropy",
        }
        base = completed(config, facts, parts)
        own = {**searched_by("avoa", SPACE), **NO_DENSITY_TERM, **BY_VALIDATION}
        return with_own(base, {**input_only(base), **own})

    def check(self, config: Config, facts: DataFacts) -> None:
        """Raise an `InputError` if samples have no wavelet packets, or do not fit the settings otherwise."""
        if facts.shortest not in (None, facts.sample_shape[0]):
            raise InputError(
                f"wavelet packets are those of samples of one length, and these have {facts.shortest} to "
                f"{facts.sample_shape[0]} steps: leave the method out"
            )
        try:
            super().check(config, facts)
        except InputError as error:
            # The extractor is what the method is.
            raise InputError(str(error).replace("choose another extractor.kind", "leave the method out")) from None
