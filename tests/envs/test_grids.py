"""Grids of LPG: what a step does, which levels there are, and that everything comes from the seed."""

import copy

import pytest
import torch
from torch import Tensor

from rlbench.envs.grids.engine import GridWorlds
from rlbench.envs.grids.levels import LEVELS, NAMED, RANDOM, NamedGrid, RandomLevels, free_cells
from rlbench.envs.grids.lifetimes import WorldLifetimes
from rlbench.envs.grids.make import make_lifetimes, make_worlds
from rlbench.envs.grids.names import CHAINS, GRIDS, LENGTHS, RANDOM as RANDOM_NAMES, parse
from rlbench.errors import UserError
from tests.grids import DOWN, LEFT, RIGHT, STAY, UP, Drawn, play, worlds

ROOM = """
.#.0
.A.#
....
"""
ALL = list(LENGTHS)


def cell(world: GridWorlds) -> int:
    return int(world.cell[0, 0])


def test_walls_and_edges_leave_the_agent_in_place() -> None:
    world = worlds(ROOM, (1.0, 0.0, 0.0))
    assert cell(world) == 5
    for action, expected in (
        (UP, 5), (RIGHT, 6), (RIGHT, 6), (UP, 2), (UP, 2), (LEFT, 2), (DOWN, 6), (STAY, 6), (DOWN, 10),
        (DOWN, 10), (RIGHT, 11), (RIGHT, 11), (UP, 11), (LEFT, 10), (LEFT, 9), (LEFT, 8), (LEFT, 8),
    ):  # fmt: skip
        play(world, action)
        assert cell(world) == expected


def test_nine_actions_add_the_diagonals() -> None:
    world = worlds("   \n A \n  0", (1.0, 0.0, 0.0), actions=9)
    for action, there, back in ((5, 0, 8), (6, 2, 7), (7, 6, 6)):
        play(world, action)
        assert cell(world) == there
        play(world, back)
        assert cell(world) == 4
    assert play(world, 8) == (1.0, False, 8 * 2)


def test_eighteen_actions_collect_from_the_cell_that_they_point_at() -> None:
    world = worlds("A0 \n   ", (1.0, 0.0, 1.0), actions=18)
    assert play(world, RIGHT) == (0.0, False, 1 * 2 + 1), "moving onto it collects nothing"
    assert play(world, LEFT) == (0.0, False, 0 * 2 + 1)
    assert play(world, 9 + DOWN)[0] == 0
    assert play(world, 9 + RIGHT) == (1.0, False, 0 * 2 + 0), "collects and stays"
    play(world, STAY)
    play(world, RIGHT)
    assert play(world, 9 + STAY) == (1.0, False, 1 * 2 + 0)


def test_an_object_is_collected_once_and_comes_back_by_chance() -> None:
    world = worlds("A0 ", (0.5, 0.0, 0.3))
    assert play(world, RIGHT, returns=0.0) == (0.5, False, 2), "it does not return in the same step"
    assert play(world, STAY, returns=0.3) == (0.0, False, 2)
    assert play(world, STAY, returns=0.29) == (0.0, False, 3)
    assert play(world, STAY) == (0.5, False, 2)


def test_an_object_that_always_returns_is_there_in_the_next_step() -> None:
    world = worlds("A0 ", (1.0, 0.0, 1.0))
    rewards = [play(world, action, returns=0.99)[0] for action in (RIGHT, STAY, STAY, STAY)]
    assert rewards == [1.0, 0.0, 1.0, 0.0]


def test_episodes_end_with_the_probability_of_the_object() -> None:
    world = worlds("A01", (1.0, 0.4, 0.0), (-1.0, 1.0, 0.0))
    assert play(world, RIGHT, ends=0.4) == (1.0, False, 1 * 4 + 2)
    assert play(world, RIGHT, ends=0.999) == (-1.0, True, 2 * 4)
    assert int(world.obs()) == 3, "the next episode begins at the start with both objects"
    assert play(world, RIGHT, ends=0.39) == (1.0, True, 1 * 4 + 2)
    assert play(world, LEFT, ends=0.0) == (0.0, False, 3), "no object, no end"


def test_the_time_limit_ends_an_episode() -> None:
    world = worlds("A 0", (1.0, 0.0, 0.0), limit=3)
    for _ in range(2):
        assert [play(world, RIGHT)[1] for _ in range(3)] == [False, False, True]
        assert int(world.obs()) == 1


def test_starts_are_free_cells_without_objects() -> None:
    world = worlds("#0 \n  1", (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), limit=1)
    found = []
    for start in (0.0, 0.34, 0.67, 0.9999999):
        play(world, STAY, start=start)
        found.append(cell(world))
    assert found == [2, 3, 4, 4]


def test_the_cell_of_a_missing_object_is_a_start() -> None:
    world = worlds(" 0", (1.0, 0.0, 0.5))
    levels = world.levels
    levels.exists[:] = False
    world.tables = world._tables(levels)
    world.begin(torch.tensor([[True]]), torch.full((1, 1, 3), 0.9))
    assert cell(world) == 1
    assert not world.present.any()
    assert play(world, STAY, returns=0.0) == (0.0, False, 2), "and it never comes"


LONGER = """
###########
#    #    #
#         #
#    #    #
#   ###   #
#    #    #
#         #
#    #    #
###########
"""
LONG_DENSE = """
#############
#     #     #
#     #     #
#           #
#     #     #
#     #     #
### ##### ###
#     #     #
#     #     #
#           #
#     #     #
#     #     #
#############
"""
SMALL = """
#########
#       #
#  #    #
#       #
#    #  #
#       #
#########
"""


@pytest.mark.parametrize(
    ("grid", "picture"),
    [(NAMED["longer"], LONGER), (NAMED["long-dense"], LONG_DENSE), (RANDOM["small"], SMALL)],
)
def test_named_maps(grid: NamedGrid, picture: str) -> None:
    rows = picture.strip().splitlines()
    inner = "".join(line[1:-1] for line in rows[1:-1])
    level = grid.draw(1, torch.Generator().manual_seed(0))
    assert level.wall[0].tolist() == [mark == "#" for mark in inner]


@pytest.mark.parametrize("name", GRIDS)
def test_objects_of_named_grids_are_in_different_free_cells(name: str) -> None:
    levels = NAMED[name].draw(1_000, torch.Generator().manual_seed(0))
    assert all(len(set(cells)) == NAMED[name].slots for cells in levels.cell.tolist())
    assert not levels.wall.gather(1, levels.cell).any()
    free = int((~levels.wall[0]).sum())
    assert len(levels.cell.unique()) == free, "everywhere"
    assert len(levels.cell[:, 0].unique()) > free / 2


@pytest.mark.parametrize("name", LEVELS)
def test_random_levels_are_within_their_bounds(name: str) -> None:
    kind = LEVELS[name]
    levels = kind.draw(2_000, torch.Generator().manual_seed(0))
    number = levels.exists.sum(1)
    assert (int(number.min()), int(number.max())) == kind.objects
    low, high = kind.limits
    assert low <= int(levels.limit.min()) <= 1.1 * low
    assert 0.9 * high <= int(levels.limit.max()) <= high
    places = torch.cat([levels.start[:, None], levels.cell], 1)
    assert not levels.wall.gather(1, places).any()
    assert all(len(set(cells)) == len(cells) for cells in places.tolist())
    rows = (~levels.wall).view(-1, *kind.shape)
    heights = [int(x.any(1).nonzero().max()) + 1 for x in rows]
    assert max(heights) == kind.sides[1]
    assert (sum(height < kind.sides[1] for height in heights) > 0) == (
        kind.sides[0] < kind.sides[1]
    )
    assert not (~levels.exists & (levels.reward != 0)).any()
    if not kind.kinds:
        there = levels.exists
        assert float(levels.reward[:, 0].min()) >= 0
        assert -1 <= float(levels.reward.min()) < -0.95 or kind.slots == 1
        assert 0.95 < float(levels.reward.max()) <= 1
        for values, least, most in ((levels.ends, 0.01, 1), (levels.returns, 0.001, 0.1)):
            assert least <= float(values[there].min()) < 1.1 * least
            assert 0.9 * most < float(values[there].max()) <= most * (1 + 1e-6)
            middle = float(values[there].log10().mean())
            assert abs(middle - torch.tensor([least, most]).log10().mean()) < 0.05, "log-uniform"


def test_levels_small_have_walls_and_all_sizes() -> None:
    levels = LEVELS["small"].draw(500, torch.Generator().manual_seed(1))
    grid = levels.wall.view(-1, 6, 6)
    sizes = {
        (int((~x).any(1).nonzero().max()) + 1, int((~x).any(0).nonzero().max()) + 1) for x in grid
    }
    assert {(height, width) for height in (4, 5, 6) for width in (4, 5, 6)} <= sizes
    inside = grid[:, :4, :4].float().mean()
    assert abs(float(inside) - (1 - (35 / 36) ** 7)) < 0.02


def test_walls_are_removed_in_levels_with_too_few_free_cells() -> None:
    crowded = RandomLevels((2, 3), (3, 3), (20, 100), walls=60)
    levels = crowded.draw(100, torch.Generator().manual_seed(0))
    places = torch.cat([levels.start[:, None], levels.cell], 1)
    assert all(len(set(cells)) == 4 for cells in places.tolist())
    assert not levels.wall.gather(1, places).any()
    taken = free_cells(torch.tensor([[True, False, True]]), 2, torch.Generator(), never=torch.tensor([[True, False, False]]))  # fmt: skip
    assert taken.tolist() == [[1, 2]]


@pytest.mark.parametrize("family", ["grid-dense", "grid-levels-small", "grid-levels-sparse"])
def test_two_seeds_share_no_level(family: str) -> None:
    def levels(seed: int) -> set[str]:
        worlds = make_worlds(family, 200, 1, seed=seed)
        assert isinstance(worlds, GridWorlds)
        drawn = worlds.levels
        return {str([x[row].tolist() for x in vars(drawn).values()]) for row in range(200)}

    first, second = levels(0), levels(1)
    assert not first & second
    assert len(first) == 200


def lifetimes(family: str, seed: int) -> WorldLifetimes:
    """Short ones."""
    made = make_lifetimes(family, 6, 3, seed=seed, staggered=True)
    made.length = 20
    return made


def lived(made: WorldLifetimes, seed: int) -> Tensor:
    """All numbers of three rollouts with random actions, [M]."""
    pick, numbers = torch.Generator().manual_seed(seed), []
    for _ in range(3):
        made.renew()
        x = made.rollout(
            lambda _: torch.randint(made.spec.actions, made.spec.shape, generator=pick), 10
        )
        numbers += [x.obs, x.reward, x.terminated, x.final_obs]
    return torch.cat([y.double().flatten() for y in numbers])


@pytest.mark.parametrize("family", ALL)
def test_seeds_reproduce_and_states_resume_bit_for_bit(family: str) -> None:
    one, two = lifetimes(family, 0), lifetimes(family, 0)
    assert torch.equal(lived(one, 0), lived(two, 0))
    state = one.state_dict()
    kept = copy.deepcopy(state)
    expected = lived(one, 1)
    for saved, seed in ((state, 1), (kept, 2)):
        other = lifetimes(family, seed)
        other.load_state_dict(saved)
        assert torch.equal(lived(other, 1), expected), "later steps do not change a state"
    assert not torch.equal(lived(lifetimes(family, 3), 1), expected)


def test_renewed_worlds_are_new_and_the_others_continue() -> None:
    world = GridWorlds(LEVELS["small"], 5, 4, 5, seed=0)
    for _ in range(10):
        world.step(torch.randint(0, 5, (5, 4)), world.chance(1)[0])
    before = {name: x.clone() for name, x in vars(world.levels).items()}
    obs, steps = world.obs(), world.steps
    world.renew(torch.tensor([1, 3]))
    for name, old in before.items():
        assert torch.equal(getattr(world.levels, name)[[0, 2, 4]], old[[0, 2, 4]])
    assert not torch.equal(world.levels.cell[1], before["cell"][1])
    assert torch.equal(world.obs()[[0, 2, 4]], obs[[0, 2, 4]])
    assert torch.equal(world.steps[[0, 2, 4]], steps[[0, 2, 4]])
    assert (world.steps[[1, 3]] == 0).all()
    assert torch.equal(world.cell[[1, 3]], world.levels.start[[1, 3], None].expand(2, 4))
    whole = world._tables(world.levels)
    assert all(
        x is None or torch.equal(x, getattr(whole, name)) for name, x in vars(world.tables).items()
    )


def test_workers_of_a_world_share_its_level_but_not_its_chance() -> None:
    world = GridWorlds(NAMED["dense"], 2, 500, 9, seed=0)
    assert len(world.cell[0].unique()) > 80
    fixed = GridWorlds(Drawn(ROOM, ((1.0, 0.0, 0.0),)), 2, 3, 5, seed=0)
    assert (fixed.cell == 5).all()


def test_names() -> None:
    found = parse("grid-levels-small-level-3")
    assert found is not None
    assert (found.family, found.level, str(found)) == (
        "grid-levels-small",
        3,
        "grid-levels-small-level-3",
    )
    for name in (
        "grid-denser",
        "chain",
        "grid-rand-dense-level-1",
        "grid-dense-level-",
        "grid-dense-level-1234567890",
    ):
        assert parse(name) is None
    assert len(ALL) == len(GRIDS) + len(LEVELS) + len(RANDOM_NAMES) + len(CHAINS)
    assert all(str(parse(family)) == family for family in ALL)


def test_actions_that_do_not_exist_are_refused_in_one_sentence() -> None:
    where = make_lifetimes("chain-short", 2, 3, seed=0)
    for action in (-1, 2):
        with pytest.raises(UserError, match=f"took the action {action}, expected whole numbers from 0 to 1"):  # fmt: skip
            where.rollout(lambda obs, action=action: torch.full_like(obs, action), 2)  # type: ignore[misc]
