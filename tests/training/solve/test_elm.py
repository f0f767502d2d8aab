"""Deep extreme learning machines: each layer by hand and against NumPy, any number of ranks, continued solutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from search.ranks import Ranks
from settings import config_of

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.networks.readouts.elm import ELMReadout
from rcdp_hpc.reservoir.autoencoder import random_layer, solve_autoencoder
from rcdp_hpc.reservoir.device_sums import make_sums
from rcdp_hpc.reservoir.left_out import solve_rows
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve import elm_solver
from rcdp_hpc.training.solve.layer_file import LayerFile
from rcdp_hpc.training.solve.ridge_fit import ORIGINAL, VALIDATION, GatheredRows, RowSource
from rcdp_hpc.training.solve.short_training import fit_readout
from rcdp_hpc.training.solve.solver import Solution, solver_of

ROWS, JUDGED, CLASSES = 150, 50, 3
SHAPE = FeatureShape(1, 4, 3)
BANDS = FeatureShape(1, 4, 3, raw=True, bands=4)
FUNCTIONS = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "relu": lambda x: np.maximum(x, 0)}


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def elm(**settings: object) -> Config:
    readout = {"kind": "elm", "hidden": 8, "ridge_selection": "validation", **settings}
    loss = readout.pop("loss", {})
    reservoir = {"kind": "none"} if readout.get("bands") == "separate" else {}
    return config_of(readout=readout, loss=loss, reservoir=reservoir)


class Rows:
    """Uneven classes, every feature of its own mean and scale."""

    def __init__(self) -> None:
        rng = np.random.default_rng(8)
        count, width = ROWS + JUDGED, SHAPE.features
        self.labels = rng.choice(CLASSES, count, p=[0.55, 0.35, 0.1])
        centres = rng.normal(size=(CLASSES, width))
        states = centres[self.labels] + rng.normal(size=(count, width))
        self.states = torch.from_numpy(rng.normal(size=width) + states * rng.uniform(0.2, 3, width)).float()

    def source(self, comm: Communicator, bound: float | None = None) -> RowSource:
        plan = BatchPlan(ROWS, 32, 12, comm.rank, comm.size, 1)

        def partitions(first: int, rows: int):
            of_split = replace(plan, rows=rows)
            for partition in of_split.local_partitions:
                start, stop = (first + bound for bound in of_split.partition_bounds(partition))
                yield [(self.states[start:stop], torch.from_numpy(self.labels[start:stop]))]

        origins = np.where(np.arange(ROWS + JUDGED) < ROWS, ORIGINAL, VALIDATION)
        gathered = GatheredRows(self.states, self.labels, origins)
        return RowSource(
            SHAPE.features, CLASSES, ROWS, JUDGED, np.bincount(self.labels[:ROWS], minlength=CLASSES),
            lambda: partitions(0, ROWS), lambda: partitions(ROWS, JUDGED),
            lambda: gathered if comm.is_root else None, bound,
        )  # fmt: skip


def solved(
    config: Config, comm: Communicator | None = None, shape: FeatureShape = SHAPE, **options: object
) -> Solution:
    comm = comm or SingleProcess()
    return solver_of(config).solve(config, comm, Rows().source(comm), shape, 5, **options)  # type: ignore[arg-type]


def bits(solution: Solution) -> tuple[object, ...]:
    arrays = [value.numpy().tobytes() for value in solution.weights.values()]
    return solution.accuracy, solution.penalties, *arrays


# An autoencoder of 3 rows and 2 inputs: A swaps the inputs, b = (0, 1), C = 1, and g is the ReLU.
INPUTS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
SWAP, BIAS = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.0, 1.0])
HIDDEN = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 2.0]])
# H'H + I = [[3, 3], [3, 10]] of determinant 21, and H'X = [[1, 2], [4, 3]].
BETA = np.array([[-2.0, 11.0], [9.0, 3.0]]) / 21
RESULT = np.array([[0.0, 9.0], [11.0, 3.0], [9.0, 12.0]]) / 21


@pytest.mark.parametrize("device", [None, torch.device("cpu")], ids=["blas", "torch"])
@pytest.mark.parametrize("largest", [None, 12.0])
def test_an_autoencoder_of_three_rows_by_hand(largest, device):
    np.testing.assert_array_equal(np.maximum(INPUTS @ SWAP + BIAS, 0), HIDDEN)
    sums = make_sums(2, 2, "double", largest, joined=False, device=device)
    sums.add(HIDDEN, INPUTS)
    np.testing.assert_allclose(solve_autoencoder(sums, 1.0), BETA, rtol=1e-12)
    np.testing.assert_array_equal(sums.yy, [2, 2])
    with pytest.raises(CandidateError, match=r"2 units cannot be solved with readout\.elm_penalty = -0\.1"):
        solve_autoencoder(sums, -0.1)


def test_layers_of_a_device_are_those_of_blas_and_of_any_number_of_ranks():
    def on_torch(comm):
        source = replace(Rows().source(comm), device=torch.device("cpu"))
        return solver_of(config).solve(config, comm, source, SHAPE, 5)

    config = elm(layers=2, ridge_penalties=[1e-3, 1e-1])
    expected, (solution,) = solved(config), Ranks(1).run(on_torch)
    assert {bits(one) for one in Ranks(2).run(on_torch)} == {bits(solution)}
    assert (solution.penalties, solution.accuracy) == (expected.penalties, expected.accuracy)
    for name, value in expected.weights.items():
        torch.testing.assert_close(solution.weights[name], value, rtol=1e-4, atol=1e-5)


def test_a_layer_of_the_solver_is_the_one_by_hand(monkeypatch):
    monkeypatch.setattr(elm_solver, "random_layer", lambda *_: (SWAP, BIAS))
    monkeypatch.setattr(ELMReadout, "standardise", lambda *_: None)
    states, labels = torch.from_numpy(INPUTS).float(), torch.tensor([0, 1, 1])
    source = RowSource(
        2, 2, 3, 3, np.array([1, 2]), lambda: [[(states, labels)]], lambda: [[(states, labels)]], lambda: None
    )
    config, shape = elm(hidden=2, elm_penalty=1.0), FeatureShape(1, 1, 2)
    solution = solver_of(config).solve(config, SingleProcess(), source, shape, 0, with_validation=False)
    np.testing.assert_allclose(solution.weights["machines.0.layers.0.weight"], BETA, rtol=1e-6)
    network = ELMReadout(config.readout, shape, 2)
    network.load_state_dict(solution.weights)
    np.testing.assert_allclose(network.layer_input(states, 0, 1).detach(), RESULT, rtol=1e-6)


@pytest.mark.parametrize(("inputs", "width"), [(7, 3), (5, 5), (3, 7), (1, 4), (4, 1)])
def test_random_layers_are_orthogonal(inputs, width):
    weights, bias = random_layer(inputs, width, 1, (0, 0))
    product = weights.T @ weights if width <= inputs else weights @ weights.T
    np.testing.assert_allclose(product, np.eye(min(inputs, width)), atol=1e-12)
    assert weights.shape == (inputs, width)
    np.testing.assert_allclose(np.linalg.norm(bias), 1)
    again, _ = random_layer(inputs, width, 1, (0, 0))
    np.testing.assert_array_equal(again, weights)
    for seed, part in ((2, (0, 0)), (1, (0, 1)), (1, (1, 0))):
        assert not np.array_equal(random_layer(max(inputs, 2), max(width, 2), seed, part)[0], weights)


def reference(x: np.ndarray, judged: np.ndarray, config: Config, weights: np.ndarray, band: int, raw: bool):
    """The deep features of the training rows and of other rows, in float64, with NumPy only."""
    mean, square = weights @ x / weights.sum(), weights @ np.square(x) / weights.sum()
    if raw:
        mean, square = np.full_like(mean, mean.mean()), np.full_like(square, square.mean())
    scale = np.sqrt(square - mean**2) + 1e-3
    x, judged = (x - mean) / scale, (judged - mean) / scale
    g = FUNCTIONS[config.readout.activation]
    for layer in range(config.readout.layers):
        a, b = random_layer(x.shape[1], config.readout.hidden, 5, (band, layer))
        hidden = g(x @ a + b)
        weighted = hidden.T * weights
        gram = weighted @ hidden + np.eye(hidden.shape[1]) / config.readout.elm_penalty
        beta = np.linalg.solve(gram, weighted @ x)
        x, judged = g(x @ beta.T), g(judged @ beta.T)
    return x, judged


@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "tanh", "layers": 3, "elm_penalty": 0.5},
        {"activation": "relu", "layers": 2, "hidden": 20},
        {"activation": "sigmoid", "layers": 1, "loss": {"class_weights": "balanced"}},
        {"activation": "tanh", "layers": 2, "bands": "separate", "hidden": 5},
    ],
)
@pytest.mark.parametrize("selection", ["validation", "left_out"])
def test_a_deep_machine_equals_one_in_numpy(settings, selection):
    config, rows = elm(**settings, ridge_selection=selection, ridge_precision="double"), Rows()
    separate = config.readout.bands == "separate"
    shape = BANDS if separate else SHAPE
    solution = solved(config, shape=shape, with_validation=False)
    x, labels = rows.states.numpy().astype(np.float64), rows.labels
    counts = np.bincount(labels[:ROWS])
    by_class = ROWS / (CLASSES * counts) if config.loss.class_weights == "balanced" else np.ones(CLASSES)
    weights = by_class[labels[:ROWS]]
    expected = []
    for band, columns in enumerate(np.split(x, shape.bands, axis=1) if separate else [x]):
        deep, judged = reference(columns[:ROWS], columns[ROWS:], config, weights, band, separate)
        readout = solve_rows(deep, labels[:ROWS], CLASSES, solution.penalties[band], weights)
        expected.append(judged @ readout.weights + readout.intercept)
    scores = np.mean(expected, axis=0)
    found = solution.scores(rows.states[ROWS:]).numpy()
    np.testing.assert_allclose(found, scores, atol=2e-4)
    if selection == "validation":
        assert solution.accuracy == np.mean(found.argmax(1) == labels[ROWS:])
    network = ELMReadout(config.readout, shape, CLASSES)
    network.load_state_dict(solution.weights)
    clipped = np.maximum(scores, 1e-6)
    probabilities = network.probabilities(rows.states[ROWS:]).detach()
    np.testing.assert_allclose(probabilities, clipped / clipped.sum(1, keepdims=True), atol=3e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("selection", ["validation", "left_out"])
@pytest.mark.parametrize("bound", [None, 60.0])
def test_any_number_of_ranks_gives_the_same_bits(activation, selection, bound):
    config = elm(activation=activation, layers=2, ridge_selection=selection, loss={"class_weights": "balanced"})

    def on(comm: Communicator) -> Solution:
        return solver_of(config).solve(config, comm, Rows().source(comm, bound), SHAPE, 5)

    expected = bits(on(SingleProcess()))
    for size in (2, 3, 7):
        assert [bits(one) for one in Ranks(size).run(on)] == [expected] * size


def test_machines_for_each_band_have_the_same_bits_on_three_ranks():
    config = elm(bands="separate", layers=2, hidden=4)
    expected = bits(solved(config, shape=BANDS))
    assert len(expected[1]) == 4
    assert [bits(one) for one in Ranks(3).run(lambda comm: solved(config, comm, BANDS))] == [expected] * 3


@pytest.mark.parametrize("selection", ["validation", "left_out"])
def test_a_constant_band_gives_the_shares_of_the_classes(selection):
    config, rows = elm(bands="separate", layers=2, ridge_selection=selection), Rows()
    rows.states[:, 3:6] = 0.5
    source = rows.source(SingleProcess())
    solution = solver_of(config).solve(config, SingleProcess(), source, BANDS, 5, with_validation=False)
    assert not solution.weights["machines.1.scores.weight"].any()
    shares = np.bincount(rows.labels[:ROWS]) / ROWS
    np.testing.assert_allclose(solution.weights["machines.1.scores.bias"], shares, rtol=1e-5)


def test_the_scores_are_finally_fitted_to_the_validation_rows_but_the_layers_are_not():
    config = elm(layers=2, ridge_penalties=[1e-3, 1e-1])
    first, second = solved(config, with_validation=False), solved(config)
    for name, value in first.weights.items():
        assert torch.equal(second.weights[name], value) == ("scores" not in name)


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("solved_before", [0, 1, 2])
def test_a_killed_solution_continues_after_its_last_layer_with_the_same_bits(tmp_path, monkeypatch, solved_before):
    config, file = elm(layers=3), LayerFile(tmp_path / "train/layers.pt", "these rows")
    expected, layers = bits(solved(config)), []

    def drawn(inputs: int, width: int, seed: int, part: tuple[int, int]):
        layers.append(part[1])
        if len(layers) > solved_before and not file.path.with_name("killed").exists():
            file.path.with_name("killed").touch()
            raise _KilledError
        return random_layer(inputs, width, seed, part)

    monkeypatch.setattr(elm_solver, "random_layer", drawn)
    with pytest.raises(_KilledError):
        solved(config, file=file)
    layers.clear()
    assert bits(Ranks(2).run(lambda comm: solved(config, comm, file=file))[0]) == expected
    assert layers == list(range(solved_before, 3))


def test_layers_of_other_settings_or_a_damaged_file_are_solved_again(tmp_path, caplog):
    path = tmp_path / "layers.pt"
    config = elm(layers=2, ridge_penalties=[1e-3, 1e-1])
    expected = bits(solved(config, file=LayerFile(path, "one")))
    assert bits(solved(config, file=LayerFile(path, "other"))) == expected
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with caplog.at_level("WARNING"):
        assert bits(solved(config, file=LayerFile(path, "other"))) == expected
    assert "The layers are solved again" in caplog.text


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
def test_layers_that_are_almost_zero_lose_nothing_in_the_sums(activation):
    # With a small C, the values of each layer are a small factor of those of the layer before.
    rows, accuracies = Rows(), []
    for penalty in (1e-9, 1e-3):
        config = elm(activation=activation, layers=2, elm_penalty=penalty, hidden=12)
        solution = solved(config, with_validation=False)
        network = ELMReadout(config.readout, SHAPE, CLASSES)
        network.load_state_dict(solution.weights)
        values = network.layer_input(rows.states, 0, 2).abs().max()
        accuracies.append(solution.accuracy)
        assert penalty > 1e-9 or 0 < values < 1e-9
    assert abs(accuracies[0] - accuracies[1]) < 0.15


def test_layers_that_vanish_are_refused():
    config = elm(activation="tanh", layers=100, elm_penalty=1e-12)
    with pytest.raises(CandidateError, match=r"are below 1e-30: set a larger readout\.elm_penalty than 1e-12"):
        solved(config)


def test_features_that_are_not_finite_are_refused():
    config, rows = elm(), Rows()
    rows.states[3, 2] = torch.nan
    with pytest.raises(CandidateError, match="features are not finite"):
        solver_of(config).solve(config, SingleProcess(), rows.source(SingleProcess()), SHAPE, 5)
    rows.states[3, 2], rows.states[ROWS - 1, 2] = 0.0, torch.inf
    with pytest.raises(CandidateError, match="features are not finite"):
        solver_of(config).solve(config, SingleProcess(), rows.source(SingleProcess(), 30.0), SHAPE, 5)


def test_sums_that_exceed_what_the_first_rows_suggest_are_summed_again():
    config, rows, first = elm(activation="identity", layers=2), Rows(), 20
    rows.states[first:] *= 1000

    def on(comm: Communicator) -> Solution:
        return solver_of(config).solve(config, comm, rows.source(comm), SHAPE, 5)

    expected = bits(on(SingleProcess()))
    assert [bits(one) for one in Ranks(3).run(on)] == [expected] * 3


def test_deep_wide_machines_of_relus_are_solved():
    config = elm(activation="relu", layers=6, hidden=300, elm_penalty=10.0)
    assert solved(config).accuracy > 0.8


def test_a_candidate_is_solved_on_the_training_rows_and_scored_on_the_validation_rows(caplog):
    caplog.set_level("INFO")
    config, rows, checks = elm(layers=2), Rows(), []
    labels = torch.from_numpy(rows.labels)
    scores = fit_readout(
        rows.states[:ROWS], SHAPE, labels[:ROWS], rows.states[ROWS:], config=config, classes=CLASSES, epochs=1,
        seed=5, validation_labels=labels[ROWS:], before_step=lambda: checks.append(1),
    )  # fmt: skip
    assert len(checks) >= 4
    assert not caplog.records  # a line for each of hundreds of candidates would hide the others
    expected = solved(config, with_validation=False).scores(rows.states[ROWS:])
    np.testing.assert_allclose(scores, expected, atol=1e-4)
