"""Norms of gradients: by hand, without a trace in the training, over checkpoints and ranks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from settings import config_of

from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.monitor.gradient_norms import GradientNorms
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.step import Stepper

ROWS, KEPT = 12, FeatureShape(1, 4, 3)


def stepped(network, states: torch.Tensor, batches: list[torch.Tensor], **keys) -> GradientNorms:
    settings = config_of(**keys)
    watch = GradientNorms(network.train())
    labels = torch.arange(len(states)) % 2
    rows = CachedStates(states, labels, 0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    objective = Objective(settings, np.array([5, 5]))
    stepper = Stepper(settings, 1, network, optimizer, objective, rows, single_process(), gradient_norms=watch)
    for batch in batches:
        stepper.step([batch.numpy()], float(len(batch)), 0.1)
    return watch


def lstm() -> torch.nn.Module:
    network = build_readout(config_of(readout__kind="lstm", readout__outputs=4, readout__hidden=5), KEPT, 2, 1)
    network.state_scale.copy_(torch.linspace(0.5, 4, KEPT.features))
    return network


def test_norms_by_layer_and_by_time_step_by_hand():
    torch.manual_seed(0)
    states, batches = torch.randn(ROWS, KEPT.features), [torch.arange(0, 8), torch.arange(8, 12), torch.arange(2, 5)]
    found = stepped(lstm(), states, batches, optimizer__clip_norm=1e-3, loss__l2=0.1).close(
        SingleProcess(), single_process()
    )
    network, norms = lstm(), []
    for number, batch in enumerate(batches):
        standard = ((states[batch] - network.state_mean) * network.state_scale).requires_grad_()
        network.zero_grad()
        torch.nn.functional.cross_entropy(network.read(standard, None), batch % 2).backward()
        norms.append(torch.cat([value.grad.flatten() for value in network.recurrent.parameters()]).norm())
        if not number:
            by_step = standard.grad.view(-1, 4, 3).square().sum((0, 2)).sqrt()
        total = torch.cat([value.grad.flatten() for value in network.parameters()])
        penalised = torch.cat(
            [(value.grad + 0.1 * value * (value.ndim > 1)).flatten() for value in network.parameters()]
        )
        assert total.norm() > 1e-3
        with torch.no_grad():
            parts = penalised.split([value.numel() for value in network.parameters()])
            for value, part in zip(network.parameters(), parts, strict=True):
                value -= 0.1 * part.view(value.shape) * 1e-3 / penalised.norm()
    assert list(found["layers"]) == ["output_map", "recurrent", "scores"]
    layer = found["layers"]["recurrent"]
    expected = torch.stack(norms)
    assert layer["first"] == pytest.approx(float(expected[0]), rel=1e-4)
    assert layer["last"] == pytest.approx(float(expected[-1]), rel=1e-4)
    assert layer["mean"] == pytest.approx(float(expected.mean()), rel=1e-4)
    np.testing.assert_allclose(found["steps"], by_step.numpy(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["random", "none"])
def test_with_a_trained_extractor_the_steps_are_those_of_its_map(kind):
    settings = config_of(
        extractor={"kind": "convolution", "channels": [4]},
        readout__outputs=4,
        readout__hidden=6,
        reservoir__nodes=10,
        reservoir__kind=kind,
    )

    def made():
        source = make_source(settings, (8, 8), torch.device("cpu"))
        return build_network(settings, (8, 8), source, 2, 1)

    torch.manual_seed(0)
    images, batch = torch.randn(ROWS, 64), torch.arange(ROWS)
    found = stepped(made(), images, [batch]).close(SingleProcess(), single_process())
    network = made().train()
    sequences = network.extractor(images.view(-1, 8, 8)).detach().requires_grad_()
    kept = sequences.flatten(1) if network.reservoir is None else network.reservoir(sequences)
    torch.nn.functional.cross_entropy(network.readout(kept), batch % 2).backward()
    np.testing.assert_allclose(found["steps"], sequences.grad.square().sum((0, 2)).sqrt().numpy(), rtol=1e-3, atol=1e-6)


def test_each_epoch_starts_from_zero_and_skipped_steps_do_not_count():
    states = torch.randn(ROWS, KEPT.features)
    states[3] = float("nan")
    watch = stepped(lstm(), states, [torch.arange(0, 5), torch.arange(5, 12)])
    assert watch.steps == 1
    found = watch.close(SingleProcess(), single_process())
    alone = stepped(lstm(), states, [torch.arange(5, 12)]).close(SingleProcess(), single_process())
    assert found == alone
    assert watch.awaited
    assert not watch.steps


def test_squares_of_ranks_add_up():
    """Two ranks' shares of a batch, each with its own part of the mean loss, give the norm of the whole."""
    states, weight = torch.randn(ROWS, KEPT.features), float(ROWS)
    whole = stepped(lstm(), states, [torch.arange(ROWS)]).squares
    parts = []
    for rows in (torch.arange(0, 5), torch.arange(5, ROWS), torch.arange(0)):
        network = lstm()
        watch = GradientNorms(network.train())
        objective = Objective(config_of(), np.array([5, 5]))
        (objective.sum(network(states[rows]), rows % 2) / weight).backward()
        parts.append(watch.squares)
        assert not watch.awaited
    torch.testing.assert_close(sum(parts), whole)


def test_tensorboard_has_a_curve_for_each_norm(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from rcdp_hpc.training.monitor.tensorboard import TensorBoardWriter

    watch = stepped(lstm(), torch.randn(ROWS, KEPT.features), [torch.arange(ROWS)])
    gradients = watch.close(SingleProcess(), single_process())
    json.dumps(gradients)
    board = TensorBoardWriter(tmp_path, 0)
    board.write({"epoch": 0, "gradients": gradients})
    board.writer.close()
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("gradients/layers/recurrent/mean")[0].value == pytest.approx(
        gradients["layers"]["recurrent"]["mean"]
    )
    assert events.Scalars("gradients/steps/3")[0].value == pytest.approx(gradients["steps"][3])
