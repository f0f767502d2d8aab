from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from rcdp_hpc.cli.commands import main
from rcdp_hpc.config import parse_config
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.connection import connection_matrix
from rcdp_hpc.reservoir.feasible import check_reservoir, has_cycle


def config(reservoir, **search):
    return parse_config({"reservoir": reservoir, "search": {"generations": 0, **search}}, where="test")


@pytest.mark.parametrize(
    ("reservoir", "words"),
    [
        (
            {"nodes": 100, "density": 0.001},
            r"reservoir\.density = 0\.001 leaves 100 nodes without a cycle.*about 0\.03",
        ),
        ({"nodes": 20, "density": 0.001}, r"without any connection: raise reservoir\.density \(about 0\.15"),
        ({"nodes": 1, "density": 0.4}, r"without any connection: raise reservoir\.nodes = 1 "),
        ({"nodes": 1, "density": 0.4, "scaling": "weight_scale"}, "without any connection"),
        ({"nodes": 1, "topology": "small-world"}, "without any connection"),
        ({"nodes": 30, "density": 0.01, "topology": "small-world"}, "without any connection"),
        ({"nodes": 60, "density": 0.003, "layers": 2}, "without a cycle"),
    ],
)
def test_impossible_reservoirs_are_refused_with_a_remedy(reservoir, words):
    with pytest.raises(InputError, match=words) as refused:
        check_reservoir(config(reservoir))
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "reservoir",
    [
        {"nodes": 100, "density": 0.001, "scaling": "weight_scale"},
        {"nodes": 100, "density": 0.001, "kind": "none"},
        {"nodes": 100, "density": 0.001, "weights": "orthogonal"},
        {"nodes": 100, "density": 0.001, "topology": "ring"},
        {"nodes": 1, "topology": "ring"},
        {"nodes": 1, "density": 1.0},
        {"nodes": 100, "density": 0.05},
        {"nodes": 2, "topology": "small-world", "density": 0.5},
    ],
)
def test_accepted_reservoirs_have_a_matrix(reservoir):
    result = config(reservoir)
    check_reservoir(result)
    if result.reservoir.kind != "none":
        connection_matrix(result.reservoir)


def test_the_largest_searched_density_decides():
    dense, thin = ({"density": {"low": 0.001, "high": high}} for high in (0.2, 0.002))
    reservoir = {"nodes": 50, "density": 0.001}
    check_reservoir(config(reservoir, generations=2, space=dense))
    with pytest.raises(InputError, match=r"search\.space\.density: its largest value, 0\.002, leaves 50 nodes"):
        check_reservoir(config(reservoir, generations=2, space=thin))
    with pytest.raises(InputError, match=r"search\.space\.density: its largest value, 0\.002"):
        check_reservoir(config(reservoir, generations=2, space={"density": {"choices": [0.001, 0.002]}}))


def test_the_largest_searched_reservoir_decides():
    reservoir = {"nodes": 20, "density": 0.005}
    large, small = ({"nodes": {"low": 5, "high": high}} for high in (900, 30))
    check_reservoir(config(reservoir, generations=2, space=large))
    message = r"reservoir\.density = 0\.005 leaves 30 nodes \(the most of search\.space\.nodes\) without a cycle"
    with pytest.raises(InputError, match=message):
        check_reservoir(config(reservoir, generations=2, space=small))
    both = {"nodes": {"choices": [5, 30]}, "density": {"low": 0.001, "high": 0.005}}
    with pytest.raises(InputError, match=r"search\.space\.density: its largest value, 0\.005, leaves 30 nodes \(the"):
        check_reservoir(config(reservoir, generations=2, space=both))
    check_reservoir(config({"nodes": 500, "density": 0.01}, generations=0, space=small))


@pytest.mark.parametrize("seed", range(8))
def test_has_cycle_agrees_with_scaling(seed):
    reservoir = {"nodes": 30, "density": 0.03, "seed": seed}
    try:
        connection_matrix(config(reservoir).reservoir)
    except CandidateError:
        with pytest.raises(InputError, match="without a cycle"):
            check_reservoir(config(reservoir))
    else:
        check_reservoir(config(reservoir))


def test_a_cycle_through_one_neuron_or_several():
    loop, pair = np.zeros((2, 3, 3))
    loop[1, 1] = pair[0, 2] = pair[2, 0] = 0.5
    chain = np.diag([1.0, 1.0], 1)
    assert [has_cycle(scipy.sparse.csr_array(matrix)) for matrix in (loop, pair, chain)] == [True, True, False]


def test_an_impossible_reservoir_is_refused_before_data_are_read(tmp_path, capsys):
    settings = ["reservoir.nodes=100", "reservoir.density=0.001", "search.generations=0"]
    out = tmp_path / "run"
    for command in ("prepare", "run", "train"):
        assert main([command, "digits", "--out", str(out), *(f"--set={setting}" for setting in settings)]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("rcdp: ") == 1
        assert "reservoir.density = 0.001 leaves 100 nodes without a cycle" in captured.err
        assert not captured.out
    assert not out.exists()
