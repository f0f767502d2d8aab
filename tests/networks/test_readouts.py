"""Readouts: scores computed by hand, gradients, order of steps, and a whole run of each."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from networks.runs import assert_prediction_equals_evaluation
from settings import config_of

from rcdp_hpc.config import load_config
from rcdp_hpc.config.choices import READOUTS, readout_choice
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.networks.readouts.transformer import repeatable_attention, waves
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.reductions import FeatureShape

STEPWISE = [str(choice.name) for choice in READOUTS if readout_choice(choice.name).stepwise]
TRAINED = [str(choice.name) for choice in READOUTS if readout_choice(choice.name).trained]
KEPT = FeatureShape(parts=2, steps=3, width=4)


def readout(name: str, kept: FeatureShape = KEPT, **changes):
    settings = config_of(readout__kind=name, readout__outputs=4, readout__hidden=6, readout__heads=2, **changes)
    return build_readout(settings, kept, classes=5, seed=1)


@pytest.mark.parametrize("name", TRAINED)
def test_scores_have_their_shape_and_every_weight_a_gradient(name):
    network = readout(name).train()
    scores = network(torch.randn(7, KEPT.features))
    assert scores.shape == (7, 5)
    scores.square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters() if parameter.ndim > 1)


@pytest.mark.parametrize("name", TRAINED)
def test_a_batch_without_rows_gives_gradients_of_zero(name):
    network = readout(name).eval()
    network(torch.empty(0, KEPT.features)).sum().backward()
    # Scores of no rows depend on no batch statistics here: what is left is that every weight takes part.
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_initial_weights_depend_only_on_the_seed(name):
    torch.manual_seed(5)
    first = readout(name).state_dict()
    torch.manual_seed(6)
    second = readout(name).state_dict()
    assert all(torch.equal(second[key], value) for key, value in first.items())


@pytest.mark.parametrize("name", STEPWISE)
def test_a_step_has_the_states_of_all_parts_of_the_reservoir(name):
    network = readout(name)
    states = torch.arange(KEPT.features, dtype=torch.float32)[None]
    # By part, then step, then neuron: step 1 of part 1 starts after part 0 (12 values) and step 0 (4 values).
    by_step = network.outputs(states)
    expected = torch.cat([states[0, 4:8], states[0, 16:20]]) @ network.output_map.weight.T
    torch.testing.assert_close(by_step[0, 1], expected)


def test_the_lstm_by_hand():
    network = readout("lstm", FeatureShape(1, 2, 3)).eval()
    states = torch.randn(1, 6)
    w_in, w_rec, b_in, b_rec = (value.detach() for value in network.recurrent.parameters())
    hidden, cell = torch.zeros(6), torch.zeros(6)
    for s in states.view(2, 3):
        i, f, g, r = (w_in @ (network.output_map.weight @ s) + b_in + w_rec @ hidden + b_rec).view(4, 6)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(r) * torch.tanh(cell)
    torch.testing.assert_close(network(states)[0], network.scores(hidden))


def test_the_gru_by_hand():
    network = readout("gru", FeatureShape(1, 2, 3)).eval()
    states = torch.randn(1, 6)
    w_in, w_rec, b_in, b_rec = (value.detach() for value in network.recurrent.parameters())
    hidden = torch.zeros(6)
    for s in states.view(2, 3):
        (r_i, u_i, n_i), (r_h, u_h, n_h) = (
            (w_in @ (network.output_map.weight @ s) + b_in).view(3, 6),
            (w_rec @ hidden + b_rec).view(3, 6),
        )
        r, u = torch.sigmoid(r_i + r_h), torch.sigmoid(u_i + u_h)
        hidden = (1 - u) * torch.tanh(n_i + r * n_h) + u * hidden
    torch.testing.assert_close(network(states)[0], network.scores(hidden))


def test_the_convolution_by_hand():
    network = readout("convolution", FeatureShape(1, 4, 2), readout__kernel_size=3).eval()
    states = torch.randn(1, 8)
    o = states.view(4, 2) @ network.output_map.weight.T
    padded = torch.cat([torch.zeros(1, 4), o, torch.zeros(1, 4)])
    kernel, norm = network.kernels[0].weight, network.norms[0]
    c = torch.stack([sum(kernel[:, :, j] @ padded[t + j] for j in range(3)) for t in range(4)])
    c = torch.relu(c / (1 + norm.eps) ** 0.5)
    torch.testing.assert_close(network(states)[0], network.scores(torch.cat([c.mean(0), c.amax(0)])))


def test_the_attention_by_hand():
    network = readout("transformer", FeatureShape(1, 3, 2)).eval()
    states, layer = torch.randn(1, 6), network.encoder[0]
    x = states.view(3, 2) @ network.output_map.weight.T + waves(3, 4)
    q, k, v = (layer.norm1(x) @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).split(4, dim=1)
    heads = [torch.softmax(q[:, two] @ k[:, two].T / 2**0.5, dim=1) @ v[:, two] for two in (slice(0, 2), slice(2, 4))]
    x = x + layer.self_attn.out_proj(torch.cat(heads, dim=1))
    x = x + layer.linear2(torch.relu(layer.linear1(layer.norm2(x))))
    torch.testing.assert_close(network(states)[0], network.scores(network.norm(x.mean(0))))


@pytest.mark.parametrize(("device", "deterministic"), [("cuda", True), ("cuda", False), ("cpu", True)])
def test_attention_on_a_gpu_repeats_to_the_bit(device, deterministic, monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    chosen = device == "cuda" and deterministic
    with repeatable_attention(torch.device(device)):
        assert torch.backends.cuda.mem_efficient_sdp_enabled() != chosen
        assert torch.backends.cuda.cudnn_sdp_enabled() != chosen
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


def test_positions_are_sines_and_cosines():
    torch.testing.assert_close(
        waves(2, 4)[1], torch.tensor([np.sin(1), np.cos(1), np.sin(0.01), np.cos(0.01)], dtype=torch.float32)
    )
    assert waves(3, 5).shape == (3, 5)


@pytest.mark.parametrize("name", TRAINED)
def test_dropout_depends_on_the_sample_not_on_the_batch(name):
    network = readout(name, readout__dropout=0.5).train()
    for module in network.modules():
        if type(module).__name__ == "SyncBatchNorm":
            module.eval()
    states, samples = torch.randn(6, KEPT.features), torch.arange(6)
    whole = network(states, SampleRng.at(1, 0, samples))
    torch.testing.assert_close(network(states[3:], SampleRng.at(1, 0, samples[3:])), whole[3:])
    assert not torch.allclose(whole, network(states, SampleRng.at(1, 1, samples)))


def test_inputs_without_a_reservoir_share_one_scale():
    network = readout("network", FeatureShape(1, 1, 2, raw=True))
    rows = torch.tensor([[0.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    network.standardise(rows.sum(0), rows.square().sum(0), 2)
    deviation = np.std([0, 1, 0, 3])
    torch.testing.assert_close(network.state_mean, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(network.state_scale, torch.full((2,), float(1 / (deviation + 1e-3))))


SMALL = [
    "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "reservoir.states=4", "reservoir.sequence=rows",
    "search.generations=0", "training.epochs=6", "training.threads=1", "readout.outputs=20", "readout.hidden=24",
    "training.batch=64", "optimizer.learning_rate=5e-3", "run.progress=false",
]  # fmt: skip


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("source", ["reservoir.reduction=all", "reservoir.kind=none"])
def test_each_readout_trains_and_predicts_as_it_evaluates(name, source, tmp_path):
    config = load_config("digits", [*SMALL, source, f"readout.kind={name}"])
    results = run_stages(["prepare", "train", "evaluate"], config, tmp_path)
    assert results["evaluate"]["accuracy"] > 0.6
    assert_prediction_equals_evaluation(tmp_path, results["evaluate"])


def test_reservoir_kind_none_trains_without_a_reservoir(tmp_path, caplog):
    config = load_config("digits", [*SMALL, "reservoir.kind=none"])
    with caplog.at_level("INFO"):
        results = run_stages(["prepare", "search", "train", "evaluate"], config, tmp_path)
    assert "search.generations = 0: no search" in caplog.text
    assert results["evaluate"]["accuracy"] > 0.85
    assert results["evaluate"]["ridge"]["accuracy"] > 0.85
    weights = torch.load(tmp_path / "train/last.pt", weights_only=True)["trainer"]["network"]
    assert weights["output_map.weight"].shape == (20, 64)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_states_cached_in_16_bits_train_as_well(precision, tmp_path):
    config = load_config("digits", [*SMALL, "readout.kind=gru", f"states.precision={precision}"])
    results = run_stages(["prepare", "train", "evaluate"], config, tmp_path)
    assert results["evaluate"]["accuracy"] > 0.6
    assert json.loads((tmp_path / "report/summary.json").read_text())["test"]["ridge"]["accuracy"] > 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["readout.kind=lstm", "reservoir.states=1"], "a single state is not a sequence"),
        (["readout.kind=gru", "reservoir.reduction=mean_std"], r"needs reservoir\.reduction = 'all'"),
        (["readout.kind=transformer", "readout.heads=3", "reservoir.states=2"], "a multiple of readout.heads"),
        (["readout.kind=convolution", "readout.kernel_size=4"], "must be odd"),
        (["readout.kind=lstm", "readout.warm_start=true"], "readout.warm_start = true needs readout.kind"),
        (["readout.kind=perceptron"], "readout.kind"),
        (["reservoir.reduction=all", "reservoir.warm_up=2"], "keeps every state"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        load_config("digits", changes)
