"""Operations counted by hand on tiny networks, and the complexity of trained models."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from rcdp_hpc.config import load_config
from rcdp_hpc.evaluation.report.complexity import complexity as section
from rcdp_hpc.model.complexity import amount, complexity
from rcdp_hpc.model.flops import Flops, add_reservoir, counted
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.dictionary import PatchDictionary
from rcdp_hpc.networks.input_maps import LinearMap, RandomProjection
from rcdp_hpc.networks.kernels import RandomKernels
from rcdp_hpc.networks.readouts.transformer import TransformerReadout
from rcdp_hpc.networks.wavelet_packets import WaveletPackets
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.digests import read_sealed

SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=20", "reservoir.density=0.5",
    "reservoir.kernel=dense-fp32", "training.epochs=1", "training.threads=1", "training.baseline=false",
    "readout.outputs=6", "readout.hidden=5",
)  # fmt: skip


def flops_of(module: nn.Module, *inputs) -> Flops:
    with torch.no_grad(), counted(module) as flops:
        module(*inputs)
    return flops


def zeroed(layer: nn.Module, name: str, count: int) -> nn.Module:
    with torch.no_grad():
        getattr(layer, name).view(-1)[:count] = 0
    return layer


@pytest.mark.parametrize(
    ("layer", "shape", "dense", "zeros", "sparse"),
    [
        (nn.Linear(7, 3), (7,), 2 * 21, 5, 2 * 16),
        (nn.Linear(7, 3), (4, 7), 2 * 4 * 21, 5, 2 * 4 * 16),  # at four steps
        (nn.Conv1d(2, 3, 5, padding=2), (2, 10), 2 * 10 * 30, 10, 2 * 10 * 20),
        (nn.Conv2d(2, 3, 3), (2, 6, 5), 2 * 4 * 3 * 54, 4, 2 * 4 * 3 * 50),
        (nn.Conv2d(4, 6, 3, groups=2, stride=2), (4, 7, 7), 2 * 9 * 6 * 2 * 9, 8, 2 * 9 * 100),
    ],
)
def test_layers_by_hand(layer, shape, dense, zeros, sparse):
    flops = flops_of(zeroed(layer, "weight", zeros), torch.zeros(1, *shape))
    assert (flops.dense, flops.sparse, flops.uncounted) == (dense, sparse, [])


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_layers_by_hand(kind, gates):
    layers = kind(3, 5, num_layers=2, batch_first=True)
    zeroed(layers, "weight_hh_l1", 7)
    flops = flops_of(layers, torch.zeros(1, 9, 3))
    assert flops.dense == 2 * 9 * gates * 5 * (3 + 5 + 5 + 5)
    assert flops.dense - flops.sparse == 2 * 9 * 7


def test_a_transformer_by_hand():
    settings = load_config("digits", ["readout.outputs=8", "readout.heads=2", "readout.hidden=6"]).readout
    steps, width, hidden, nodes, classes = 5, 8, 6, 4, 3
    readout = TransformerReadout(settings, FeatureShape(1, steps, nodes), classes).eval()
    flops = flops_of(readout, torch.zeros(1, steps * nodes))
    layer = 2 * steps * (4 * width * width + 2 * width * hidden) + 4 * steps * steps * width
    assert flops.dense == 2 * steps * nodes * width + settings.layers * layer + 2 * width * classes
    assert not flops.uncounted


def test_a_reservoir_by_hand():
    nodes, inputs, steps = 20, 8, 8
    settings = load_config("digits", [*SETTINGS, "reservoir.bidirectional=true", "reservoir.layers=2"]).reservoir
    flops, reservoir = Flops(), Reservoir(settings, inputs)
    add_reservoir(flops, reservoir, steps)
    assert flops.dense == 2 * steps * 2 * nodes * ((nodes + inputs) + (nodes + nodes))
    connections = sum(part.recurrent.nnz for part in reservoir.matrices[0])
    assert flops.sparse == 2 * steps * 2 * (connections + nodes * (inputs + nodes))


def test_a_diagonal_reservoir_by_hand():
    settings = load_config("digits", [*SETTINGS, "reservoir.kind=diagonal", "reservoir.memory_units=4"]).reservoir
    flops = Flops()
    add_reservoir(flops, Reservoir(settings, 8), 6)
    # A rotation has four entries for each of four units; the real halves read eight inputs; W_mix is 20 x 8.
    assert flops.dense == flops.sparse == 2 * 6 * (4 * 4 + 4 * 8 + 20 * 8)


def test_fixed_extractors_by_hand():
    settings = load_config(
        "digits", ["extractor.patch=3", "extractor.atoms=10", "extractor.stride=1", "extractor.mirror=true"]
    ).extractor
    dictionary = PatchDictionary(settings, (8, 8))
    dictionary.filters[:6] = 1
    flops = flops_of(dictionary, torch.zeros(1, 8, 8))
    assert (flops.dense, flops.sparse) == (2 * 2 * 36 * 10 * 9, 2 * 2 * 36 * 6 * 9)
    packets = WaveletPackets(load_config("digits", ["extractor.levels=2", "extractor.wavelet=db2"]).extractor, (8, 8))
    assert flops_of(packets, torch.zeros(1, 8, 8)).dense == 2 * 2 * 64 * 4
    settings = load_config("digits", ["extractor.kernels=168", "extractor.kernel_inputs=['values']"]).extractor
    kernels = RandomKernels(settings, 1, 1)  # two biases of one dilation
    assert flops_of(kernels, torch.zeros(1, 30, 1)).dense == 30 * (3 * 84 + 8 + 2 * 84)


def test_reduced_inputs_by_hand():
    config = load_config("digits", ["extractor.components=3", "extractor.projection=gaussian"])
    for kind in (LinearMap, RandomProjection):
        module = kind(config.extractor, config.reservoir, (8, 8))
        flops = flops_of(module, torch.zeros(1, 8, 8))
        assert flops.dense == 2 * module.steps * module.inputs * 3
        assert flops.sparse == (0 if kind is LinearMap else flops.dense)


def test_layers_without_a_formula_are_named():
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))
            self.inner = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) @ self.weight.T

    flops = flops_of(Mine(), torch.zeros(1, 4))
    assert (flops.dense, flops.uncounted) == (2 * 16, ["Mine"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    run_stages(["prepare", "train", "evaluate"], load_config("digits", SETTINGS), out)
    return out


def test_a_trained_model_by_hand(run):
    model = TrainedModel.load(run / "train/model.pt")
    size = complexity(model)
    nodes, outputs, hidden, classes, inputs, steps = 20, 6, 5, 10, 16, 8
    features = model.reservoir.width
    weights = features * outputs + outputs * hidden + hidden * hidden + hidden * classes
    assert size.trained == weights + classes + 4 * hidden
    # Two numbers for each feature and each normalised unit.
    assert size.nonzero <= size.trained + 2 * features + 4 * hidden
    assert size.nonzero > 0.9 * weights
    assert size.flops == 2 * weights + 2 * steps * model.reservoir.parts * nodes * (nodes + inputs)
    assert size.sparse_flops < size.flops
    assert size.bytes == (run / "train/model.pt").stat().st_size
    assert (size.seeded, size.uncounted, size.milliseconds) == (True, [], None)
    assert size.fixed > 0


def test_every_summary_and_report_has_the_complexity(run):
    summary = read_sealed(run / "report/summary.json")
    size = summary["complexity"]
    assert size["milliseconds"] > 0
    assert {**size, "milliseconds": None} == complexity(TrainedModel.load(run / "train/model.pt")).to_json()
    log = (run / "log.jsonl").read_text()
    messages = [json.loads(line)["message"] for line in log.splitlines()]
    (line,) = [message for message in messages if "trained parameters" in message]
    assert f"{size['trained']:,} trained parameters" in line
    assert "ms a sample on one thread" in line
    recalls = [recall for recall in summary["test"]["recall"] if recall is not None]
    assert summary["test"]["balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-6)
    assert any(f"balanced accuracy {summary['test']['balanced_accuracy']:.4f}" in message for message in messages)
    page = (run / "report/index.html").read_text()
    assert "Size and speed of the model" in page
    assert f"{size['trained']:,}" in page
    assert "they follow from its seed: 0 bytes in the file" in page


def test_reports_of_runs_without_a_complexity():
    for summary, text in ((None, "no result on the test yet"), ({"test": {}}, "does not have it")):
        assert text in section(SimpleNamespace(summary=summary))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        ["readout.kind=ridge"],
        ["readout.kind=elm", "reservoir.kind=none"],
        ["readout.kind=lstm", "reservoir.states=4"],
        ["extractor.kind=convolution", "extractor.channels=[4]", "augment.test_shift=1"],
        ["extractor.kind=dictionary", "extractor.patch=3", "extractor.atoms=8"],
        ["extractor.kind=pca", "extractor.components=4"],
        ["extractor.kind=random_projection", "extractor.components=4"],
        ["extractor.kind=selection", "extractor.components=4"],
        ["extractor.kind=kernels", "extractor.kernels=336", "reservoir.sequence=pixels"],
    ],
)
def test_every_kind_of_model_is_counted(settings):
    config = load_config("digits", [*SETTINGS, *settings])
    source = make_source(config, (8, 8), torch.device("cpu"))
    network = build_network(config, (8, 8), source, 10, seed=0).eval()
    file = SimpleNamespace(weights=network.state_dict(), learned={}, matrices=None, where="nowhere")
    model = SimpleNamespace(file=file, reservoir=source, network=network, sample_shape=(8, 8))
    size = complexity(model)  # type: ignore[arg-type]
    assert size.uncounted == []
    assert size.flops >= 2 * size.trained // 2
    assert size.bytes is None
    assert size.trained > 0


def test_amounts_have_three_digits_and_a_prefix():
    assert [amount(value) for value in (0, 999, 1234, 56_789_000, 2e9)] == ["0 ", "999 ", "1.23 k", "56.8 M", "2 G"]
