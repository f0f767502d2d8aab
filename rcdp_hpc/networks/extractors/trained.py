"""The base class of extractors that are trained together with the readout."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from rcdp_hpc.networks.extractors.base import MapExtractor
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.sequencing import Sequencer

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.base import Network, SequenceModule
    from rcdp_hpc.parallel.base import Strategy
    from rcdp_hpc.reservoir.identity_source import StateSource
    from rcdp_hpc.reservoir.reductions import FeatureShape


class TrainedExtractor(MapExtractor):
    """An extractor that is trained with the readout, through the reservoir (eq. 8).

    The rows cached for the training are the samples themselves. A subclass implements `trained_part` and, if the shape
    of its sequences is known without torch, `sequence_shape`.
    """

    @abstractmethod
    def trained_part(self, parallel: Strategy | None = None) -> SequenceModule:
        """Return the module that is trained, with random weights.

        Parameters
        ----------
        parallel : Strategy, optional
            Sums batch statistics over ranks; default: one process.
        """

    def sequence_shape(self) -> tuple[int, int] | None:
        """Return None: the shape of the sequences follows from a trial."""
        return None

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> StateSource:
        """Return a source of the samples themselves; parameters as `Extractor.source`."""
        from rcdp_hpc.reservoir.identity_source import IdentitySource

        # series_scaling and differences change what drives the reservoir, not the samples that the extractor reads.
        unchanged = self.reservoir.model_copy(update={"series_scaling": "none", "differences": False})
        return IdentitySource(unchanged, Sequencer(), self.sample_shape, device)

    def network(self, source: StateSource, classes: int, seed: int, parallel: Strategy | None = None) -> Network:
        """Return extractor, reservoir and readout as one network; parameters as `Extractor.network`."""
        import torch

        from rcdp_hpc.networks.end_to_end import EndToEnd
        from rcdp_hpc.networks.readouts import build_readout
        from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
        from rcdp_hpc.reservoir.states import Reservoir

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.trained_part(parallel)
        shape, reservoir = _sequences_of(module), None
        if self.reservoir.kind != "none":
            states = Reservoir(self.reservoir, module.features, "dense-fp32", source.device, steps=module.steps)
            shape, reservoir = states.feature_shape, DifferentiableReservoir(states)
        readout = build_readout(self.config, shape, classes, seed, parallel)
        return EndToEnd(self.sample_shape, module, reservoir, readout, self.config.augment).to(source.device)

    def feature_shape(self) -> FeatureShape:
        """Return the order of the features that the readout reads."""
        from rcdp_hpc.reservoir.reductions import feature_shape

        module = self.trained_part()
        if self.reservoir.kind == "none":
            return _sequences_of(module)
        return feature_shape(self.reservoir, module.steps)


def _sequences_of(module: SequenceModule) -> FeatureShape:
    from rcdp_hpc.reservoir.reductions import FeatureShape

    return FeatureShape(1, module.steps, module.features, raw=True)
