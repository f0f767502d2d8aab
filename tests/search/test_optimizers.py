"""Every optimiser against steps computed by hand, and the contract of all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from search.fixed_random_numbers import squares, step, with_numbers

from rcdp_hpc.config.choices import MOTH_FLAME_IMPROVEMENTS, SEARCH_OPTIMIZERS
from rcdp_hpc.runtime.user_code import load_choice
from rcdp_hpc.search.optimizers.genetic import Genetic
from rcdp_hpc.search.optimizers.moth_flame import MothFlame
from rcdp_hpc.search.optimizers.particle_swarm import ParticleSwarm
from rcdp_hpc.search.optimizers.sobol import Sobol
from rcdp_hpc.search.optimizers.vultures import Vultures
from rcdp_hpc.search.optimizers.whale import Whale

CLASSES = [load_choice(SEARCH_OPTIMIZERS, name) for name in SEARCH_OPTIMIZERS.names]


class ImprovedMothFlame(MothFlame):
    """Moth-flame with all improvements."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, improvements=MOTH_FLAME_IMPROVEMENTS.names)


ALL = [*CLASSES, ImprovedMothFlame]
POSITIONS = [0.7, 0.4, 0.9]  # of [-10, 10]: 4, -2 and 8


def test_whales_explore_encircle_and_spiral():
    # a = 2 in the first move. Whale 1 (4): A = 2·2·0.25 - 2 = -1, so it follows whale number floor(0.9·3) = 2, at 8:
    # C = 1.5, D = |12 - 4| = 8, 8 + 8 = 16, clipped. Whale 2 (-2): A = 0, so it stays on X* = -2.
    # Whale 3 (8): p = 0.8, u = -1/2: 10·e^(-1/2)·cos(-pi) - 2.
    numbers = [POSITIONS, [0.25, 0.5, 0.0, 0.75, 0.5, 0.0, 0.3, 0.3, 0.8, 0.0, 0.0, 0.25, 0.9, 0.0, 0.0]]
    moved = step(with_numbers(Whale, numbers, -10, 10, 3, 2, 0))
    np.testing.assert_allclose(moved, [10, -2, -10 * math.exp(-0.5) - 2], rtol=1e-14)


def test_whales_encircle_with_the_coefficient_of_the_second_move():
    # a = 2 - 2·1/4 = 1.5: A = 2·1.5·0.75 - 1.5 = 0.75, C = 1: D = |X* - X|.
    still = [0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0]  # A = 0: both go to X* = -2
    numbers = [[0.7, 0.4], still, [0.75, 0.5, 0.5, 0.5, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0]]
    search = with_numbers(Whale, numbers, -10, 10, 2, 4, 0)
    np.testing.assert_allclose(step(search), [-2, -2])
    search.positions[0] = 1.0
    np.testing.assert_allclose(step(search), [1.0, 1.0])  # the new best is 1; whale 2 goes to it with A = 0


def test_two_moves_of_whales_in_two_dimensions():
    # Whales (4, -2) and (-2, 2): X* is the second. a = 2: A = 0.5, C = 1.5, D = (7, 5): X* - D/2. It spirals around
    # itself: D' = 0. Then a = 1.5: whale 1 spirals with u = -1/2 at D' = (3.5, 2.5); whale 2 has A = -1.5 and follows
    # whale 1 from where that was evaluated: C = 1, D = (3.5, 2.5).
    numbers = [
        [0.7, 0.4, 0.4, 0.6],
        [0.625, 0.5, 0.75, 0.5, 0.3, 0.8, 0.0, 0.75, 0.0, 0.0],
        [0.5, 0.0, 0.5, 0.5, 0.7, 0.3, 0.25, 0.0, 0.0, 0.1],
    ]
    search = with_numbers(Whale, numbers, [-10, -10], [10, 10], 2, 4, 0)
    search.tell(squares(search.ask()))
    np.testing.assert_allclose(search.ask(), [[-5.5, -0.5], [-2, 2]], rtol=1e-14)
    search.tell(squares(search.ask()))
    np.testing.assert_allclose(search.ask(), [[-4.12285731, 0.48367335], [-0.25, 3.25]], rtol=1e-8)


def test_particles_move_with_inertia_and_pull():
    # Generation 1: x = 4, -2; v = 0 and (2·0.6 - 1)·10 = 2. w = 0.9, g = -2.
    # Particle 1: v = 2·0.25·(-2 - 4) = -3, x = 1. Particle 2: v = 0.9·2, x = -0.2.
    # Generation 2: w = 0.4, g = -0.2. Particle 1: 0.4·(-3) + 2·0.5·(-0.2 - 1) = -2.4, x = -1.4. Particle 2: 0.72.
    numbers = [[0.7, 0.4, 0.5, 0.6], [0.9, 0.9, 0.25, 0.25], [0.5, 0.5, 0.5, 0.5]]
    search = with_numbers(ParticleSwarm, numbers, -10, 10, 2, 3, 0)
    np.testing.assert_allclose(step(search), [1, -0.2], rtol=1e-13)
    np.testing.assert_allclose(step(search), [-1.4, 0.52], rtol=1e-13)


def test_particles_return_to_their_best_positions_within_the_maximum_velocity():
    numbers = [[0.7, 0.4, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    search = with_numbers(ParticleSwarm, numbers, -10, 10, 2, 3, 0)  # v = 10 and -10
    np.testing.assert_allclose(step(search), [10, -10])  # 4 + 9 and -2 - 9, clipped
    # The personal bests stay at 4 and -2: v = 0.4·9 + 2·(4 - 10) = -8.4 and 0.4·(-9) + 2·8 = 12.4, limited to 10.
    np.testing.assert_allclose(step(search), [1.6, 0.0], atol=1e-13)


def test_children_of_two_parents():
    # Tournaments: 1 against 2 (2 wins: -2) and 1 against 1 (4). beta = (2·0.5^17)^(1/16) = 1/2: 1 -+ 1.5.
    # Mutation of child 2: (2·0.5^22)^(1/21) - 1 = -1/2 of the width 20. Child 1 gives way to the best.
    numbers = [[0.7, 0.4], [0.0, 0.9, 0.0, 0.1, 0.5, 0.5**17, 0.2, 0.5, 0.5, 0.5, 0.5**22]]
    np.testing.assert_allclose(step(with_numbers(Genetic, numbers, -10, 10, 2, 2, 0)), [-2, 2.5 - 10], rtol=1e-13)
    # Without crossover (chance 0.95) and mutation (1/2 moves by 0) the second child is the second parent.
    numbers[1][4], numbers[1][-1] = 0.95, 0.5
    np.testing.assert_allclose(step(with_numbers(Genetic, numbers, -10, 10, 2, 2, 0)), [-2, 4], rtol=1e-13)


def test_two_generations_of_children_in_two_dimensions():
    # Parents (-2, 2) and (4, -2). u = 0.875 gives beta = 4^(1/16), in the second dimension alone. The second child
    # mutates in the first dimension by -1/2 of the width 20; the first gives way to the best.
    # Then the best, which wins although drawn second, and the second child, without crossover (chance 0.95); the
    # second child's second dimension mutates by 1 - (2·0.5^22)^(1/21) = 1/2 of the width.
    numbers = [
        [0.7, 0.4, 0.4, 0.6],
        [0.0, 0.9, 0.1, 0.2, 0.5, 0.5, 0.875, 0.9, 0.2, 0.9, 0.9, 0.1, 0.9, 0.5, 0.5, 0.5**22, 0.5],
        [0.9, 0.0, 0.9, 0.9, 0.95, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.5, 0.5, 0.5, 1 - 0.5**22],
    ]
    search = with_numbers(Genetic, numbers, [-10, -10], [10, 10], 2, 3, 0)
    search.tell(squares(search.ask()))
    np.testing.assert_allclose(search.ask(), [[-2, 2], [-6, -2.18101547]], rtol=1e-8)
    search.tell(squares(search.ask()))
    np.testing.assert_allclose(search.ask(), [[-2, 2], [-6, 7.81898453]], rtol=1e-8)


def vulture_numbers(**columns: list[float]) -> list[list[float]]:
    """Return the numbers of generation 2 of three vultures on one dimension."""
    names = [
        "wheel",
        "h",
        "z",
        "rand1",
        "rand2",
        "rand3",
        "rand4",
        "rand5",
        "rand6",
        "choice",
        "x",
        "u1",
        "u2",
        "v1",
        "v2",
    ]
    return [POSITIONS, [number for name in names for number in columns.get(name, [0.5, 0.5, 0.5])]]


def test_vultures_by_their_first_choices():
    # After generation 1 of 2, with h = 0: F = (2·rand1 + 1)·z/2 = 1.25, 0.75 and 0.25. Best -2, second 4.
    numbers = vulture_numbers(
        wheel=[0.5, 0.9, 0.5], z=[1, 1, 0.75], rand1=[0.75, 0.25, 0], rand4=[0, 0.25, 0], choice=[0.5, 0.3, 0.2]
    )
    moved = step(with_numbers(Vultures, numbers, -10, 10, 3, 2, 0))
    first = -2 - abs(-2 - 4) * 1.25  # eq. 6
    second = abs(4 + 2) * (0.75 + 0.25) - (4 + 2)  # eq. 10
    third = (-2 - (-2 * 8) / (-2 - 64) * 0.25 + 4 - (4 * 8) / (4 - 64) * 0.25) / 2  # eq. 16
    np.testing.assert_allclose(moved, [first, second, third], rtol=1e-13, atol=1e-13)


def test_vultures_by_their_second_choices():
    u = 1 - math.exp(-0.5)  # a normal number of 1 where the angle is 0
    numbers = vulture_numbers(
        wheel=[0.5, 0.9, 0.5], z=[1, 1, 0.75], rand1=[0.75, 0.25, 0], rand3=[0.25] * 3, rand6=[0.25] * 3,
        choice=[0.9, 0.9, 0.9], u1=[u] * 3, u2=[0] * 3, v1=[u] * 3, v2=[0] * 3,
    )  # fmt: skip
    moved = step(with_numbers(Vultures, numbers, -10, 10, 3, 2, 0))
    first = -2 - 1.25 + 0.5 * (20 * 0.25 - 10)  # eq. 8
    second = 4 - 4 * -2 / (2 * math.pi) * (0.5 * math.cos(-2) + 0.25 * math.sin(-2))  # eq. 13
    third = -2 - 10 * 0.25 * 0.01 * 0.6965745  # eq. 17, sigma of beta = 1.5 from tables
    np.testing.assert_allclose(moved, [first, second, third], rtol=1e-7)


def test_two_moves_of_vultures():
    # f = 1/4, h = 0: F = 1.5, 0.75 and 0.25. Best -2, second 4; X = 0.5 for the first vulture, else 1.
    numbers = vulture_numbers(
        wheel=[0.5, 0.9, 0.5], z=[1, 1, 2 / 3], rand1=[0.5, 0, 0], rand4=[0, 0.5, 0], choice=[0.5, 0.3, 0.2],
        x=[0.25, 0.5, 0.5],
    )  # fmt: skip
    # f = 1/2, h = 1: t = 0.5^1.25 + 0.5^0.5 - 1; F = 1 + t, 1/2 + t and t.
    numbers += vulture_numbers(
        wheel=[0.5] * 3, h=[0.75] * 3, z=[1, 1, 0.5], rand1=[0.5, 0, 0], rand3=[0.75] * 3, rand6=[0.25] * 3,
        choice=[0.9, 0.9, 0.2],
    )[1:]  # fmt: skip
    search = with_numbers(Vultures, numbers, -10, 10, 3, 4, 0)
    third = (-2 - 16 / 66 * 0.25 + 4 + 32 / 60 * 0.25) / 2  # eq. 16: 1.03636
    # eq. 6: -2 - |-1 - 4|·1.5; eq. 10: 6·(0.75 + 0.5) - (4 + 2)
    np.testing.assert_allclose(step(search), [-9.5, 1.5, third], rtol=1e-13)
    lean = 0.12755499  # the best is now the third vulture, the second best the second
    first = third - (1 + lean) + 0.5 * (20 * 0.75 - 10)  # eq. 8
    second = third - third * 1.5 / (2 * math.pi) * (0.5 * math.cos(1.5) + 0.25 * math.sin(1.5))  # eq. 13
    other = 1.5 - 1.5 * third / (1.5 - third**2) * lean
    third = (third - third**2 / (third - third**2) * lean + other) / 2  # eq. 15 and 16
    np.testing.assert_allclose(step(search), [first, second, third], rtol=1e-7)


def test_the_hunger_of_vultures_has_the_term_t():
    # h = 2·1 (from 1.0), f = 1/2: t = 2·(sin^2.5(pi/4) + cos(pi/4) - 1) = 0.25510998; z = 0 leaves F = t < 1/2.
    numbers = vulture_numbers(wheel=[0.5] * 3, h=[1.0] * 3, choice=[0.2] * 3)
    moved = step(with_numbers(Vultures, numbers, -10, 10, 3, 2, 0))
    hunger = 2 * (0.5**1.25 + 0.5**0.5 - 1)
    assert hunger == pytest.approx(0.25510998, rel=1e-7)
    assert moved[2] == pytest.approx((-2 - 16 / 66 * hunger + 4 + 32 / 60 * hunger) / 2, rel=1e-13)


def test_the_second_best_position_differs_from_the_best():
    search = Vultures([-10], [10], 4, 5, 0)
    search.positions = np.array([[3.0], [1.0], [1.0], [2.0]])
    search.tell([9, 1, 1, 4])
    assert (search.best_position[0], search.second_position[0]) == (1, 2)
    search.positions = np.array([[0.5], [5.0], [6.0], [7.0]])
    search.tell([0.25, 25, 36, 49])
    assert (search.best_position[0], search.second_position[0]) == (0.5, 1)  # the old best became the second


def test_sobol_points_are_the_published_ones():
    search = with_numbers(Sobol, [[0.0, 0.0]] * 9, [0, 0], [1, 1], 2, 4, 0)
    found = []
    for _ in range(4):
        found.extend(search.ask().tolist())
        search.tell([0, 0])
    expected = [[0, 0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.375, 0.375], [0.875, 0.875]]
    np.testing.assert_allclose(found[:6], expected, atol=1e-9)


def test_shifted_sobol_points_stay_a_net():
    search = Sobol([0] * 3, [1] * 3, 64, 1, 5)
    for column in search.ask().T:
        assert np.bincount((column * 64).astype(int), minlength=64).tolist() == [1] * 64


def test_opposition_and_restart_by_hand():
    search = with_numbers(MothFlame, [[0.7, 0.4, 0.9, 0.1]], [-10], [10], 4, 9, 0, None, ["opposition"])
    np.testing.assert_allclose(search.ask()[:, 0], [4, -2, -4, 2])
    search = MothFlame([-10], [10], 4, 20, 0, None, ["restart"])
    for _ in range(6):
        search.tell([1.0] * 4)  # equal: no better flame after the first generation
    assert search.ask()[-1, 0] == pytest.approx(-10 + 20 * search.random_numbers(7, 24)[-1])
    assert search.state()["stale"] == 0


def test_the_order_of_improvements_has_no_effect_and_unknown_ones_are_refused():
    searches = [
        MothFlame([-5] * 2, [5] * 2, 6, 8, 3, improvements=names)
        for names in (["restart", "levy", "opposition"], ["opposition", "restart", "levy"])
    ]
    while not searches[0].done:
        assert searches[0].ask().tobytes() == searches[1].ask().tobytes()
        for search in searches:
            search.tell(squares(search.ask()))
    with pytest.raises(ValueError, match="improvements must be among"):
        MothFlame([-5] * 2, [5] * 2, 6, 8, 3, improvements=["chaos"])


@pytest.mark.parametrize("kind", ALL)
def test_a_restored_optimiser_gives_the_same_bits(kind):
    uninterrupted, stopped = kind([-5] * 3, [5] * 3, 7, 9, 4), kind([-5] * 3, [5] * 3, 7, 9, 4)
    for _ in range(4):
        uninterrupted.tell(squares(uninterrupted.ask()))
        stopped.tell(squares(stopped.ask()))
    state = stopped.state()
    stopped.tell(squares(stopped.ask()))  # must not change the earlier state
    resumed = kind([-5] * 3, [5] * 3, 7, 9, 4)
    resumed.restore(state)
    while not uninterrupted.done:
        assert uninterrupted.ask().tobytes() == resumed.ask().tobytes()
        uninterrupted.tell(squares(uninterrupted.ask()))
        resumed.tell(squares(resumed.ask()))
    assert resumed.done
    assert uninterrupted.best()[1] == resumed.best()[1]
    for name, array in uninterrupted.state().items():
        assert array.dtype != object
        assert array.tobytes() == resumed.state()[name].tobytes()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("population", [1, 2, 5])
def test_positions_stay_within_the_bounds_if_candidates_fail(kind, population):
    generator = np.random.default_rng(population)
    search = kind([-3, 0, 1e-3], [2, 1, 1e6], population, 12, 8)
    while not search.done:
        positions = search.ask()
        assert positions.shape == (population, 3)
        assert (positions >= search.lower).all()
        assert (positions <= search.upper).all()
        costs = generator.standard_normal(population)
        costs[generator.random(population) < 0.5] = np.inf
        search.tell(costs)
    assert np.isfinite(search.best()[0]).all()


@pytest.mark.parametrize("kind", CLASSES)
def test_the_starting_point_replaces_only_the_first_position(kind):
    plain, started = kind([0, 0], [1, 1], 4, 3, 6), kind([0, 0], [1, 1], 4, 3, 6, [0.25, np.nan])
    assert started.ask()[0].tolist() == [0.25, plain.ask()[0, 1]]
    assert started.ask()[1:].tobytes() == plain.ask()[1:].tobytes()
    started.tell([0, 1, 2, 3])
    assert started.best() == (pytest.approx([0.25, plain.ask()[0, 1]]), 0.0)
    with pytest.raises(ValueError, match="start"):
        kind([0, 0], [1, 1], 4, 3, 6, [0.5])


@pytest.mark.parametrize("kind", ALL)
def test_equal_seeds_give_equal_and_other_seeds_other_positions(kind):
    def trajectory(seed: int) -> bytes:
        search, found = kind([-5] * 2, [5] * 2, 5, 4, seed), b""
        while not search.done:
            found += search.ask().tobytes()
            search.tell(squares(search.ask()))
        return found

    assert trajectory(1) == trajectory(1) != trajectory(2)


@pytest.mark.parametrize("kind", ALL)
def test_wrong_use_is_refused(kind):
    with pytest.raises(ValueError, match="below upper"):
        kind([0, 1], [1, 1], 3, 3, 0)
    with pytest.raises(ValueError, match="one length"):
        kind([0, 1], [1], 3, 3, 0)
    search = kind([0], [1], 3, 1, 0)
    with pytest.raises(ValueError, match="NaN"):
        search.tell([1, np.nan, 2])
    with pytest.raises(ValueError, match="shape"):
        search.tell([1, 2])
    with pytest.raises(ValueError, match="state"):
        search.restore({})
    search.tell([1, 2, 3])
    assert search.best()[1] == 1
    with pytest.raises(ValueError, match="already"):
        search.tell([1, 2, 3])
