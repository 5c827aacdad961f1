"""Names of the Atari tasks; standard library only.

Every game is a task, named with hyphens, such as `atari-ms-pacman`.

Preprocessing: sticky actions, the full set of actions, and no signal for a lost life
(Machado et al., 2018, https://arxiv.org/abs/1709.06009); 84x84 greyscale pictures, the last four stacked, and
rewards clipped to their sign in training (Mnih et al., 2015, https://doi.org/10.1038/nature14236).
"""

import textwrap
from typing import Any

GAMES = (
    "adventure", "air_raid", "alien", "amidar", "assault", "asterix", "asteroids", "atlantis",
    "atlantis2", "backgammon", "bank_heist", "basic_math", "battle_zone", "beam_rider", "berzerk",
    "blackjack", "bowling", "boxing", "breakout", "carnival", "casino", "centipede",
    "chopper_command", "crazy_climber", "crossbow", "darkchambers", "defender", "demon_attack",
    "donkey_kong", "double_dunk", "earthworld", "elevator_action", "enduro", "entombed", "et",
    "fishing_derby", "flag_capture", "freeway", "frogger", "frostbite", "galaxian", "gopher",
    "gravitar", "hangman", "haunted_house", "hero", "human_cannonball", "ice_hockey", "jamesbond",
    "journey_escape", "kaboom", "kangaroo", "keystone_kapers", "king_kong", "klax", "koolaid",
    "krull", "kung_fu_master", "laser_gates", "lost_luggage", "mario_bros", "miniature_golf",
    "montezuma_revenge", "mr_do", "ms_pacman", "name_this_game", "othello", "pacman", "phoenix",
    "pitfall", "pitfall2", "pong", "pooyan", "private_eye", "qbert", "riverraid", "road_runner",
    "robotank", "seaquest", "sir_lancelot", "skiing", "solaris", "space_invaders", "space_war",
    "star_gunner", "superman", "surround", "tennis", "tetris", "tic_tac_toe_3d", "time_pilot",
    "trondead", "turmoil", "tutankham", "up_n_down", "venture", "video_checkers", "video_chess",
    "video_cube", "video_pinball", "wizard_of_wor", "word_zapper", "yars_revenge", "zaxxon",
)  # fmt: skip
"""All games of EnvPool 1.2.5, under EnvPool's names."""

PREFIX = "atari-"
FRAME_SKIP = 4
"""Frames for which an action lasts, as in Gymnasium's v5 ids."""
MAX_STEPS = 108_000 // FRAME_SKIP
"""Time limit in steps: half an hour of play at 60 frames per second."""
SIDE = 84
"""Height and width of a picture."""
STACK = 4
"""Number of pictures in an observation."""


def parse(name: str) -> str | None:
    """The game that a task name stands for; None for any other name.

    >>> parse("atari-ms-pacman")
    'ms_pacman'
    >>> parse("atari-ms_pacman") is None
    True
    """
    game = name.removeprefix(PREFIX).replace("-", "_")
    return game if game in GAMES and name == task_name(game) else None


def task_name(game: str) -> str:
    """The name of a game's task.

    >>> task_name("ms_pacman")
    'atari-ms-pacman'
    """
    return PREFIX + game.replace("_", "-")


def env_id(game: str) -> str:
    """EnvPool's id of a game.

    >>> env_id("ms_pacman")
    'MsPacman-v5'
    """
    return "".join(word.capitalize() for word in game.split("_")) + "-v5"


def options(*, clipped: bool) -> dict[str, Any]:
    """EnvPool's options; `clipped` replaces rewards by their sign, for training."""
    return {
        "repeat_action_probability": 0.25,
        "full_action_space": True,
        "frame_skip": FRAME_SKIP,
        "max_episode_steps": MAX_STEPS,
        "episodic_life": False,
        "zero_discount_on_life_loss": False,
        # Sticky actions make starts random enough, and the agent has to press fire itself.
        "noop_max": 1,
        "use_fire_reset": False,
        "gray_scale": True,
        "img_height": SIDE,
        "img_width": SIDE,
        "use_inter_area_resize": True,
        "stack_num": STACK,
        "reward_clip": clipped,
    }


def names() -> list[str]:
    """The names of all Atari tasks."""
    return [task_name(game) for game in GAMES]


def lines() -> list[str]:
    """Lines that list the games, for `rlbench list`."""
    text = ", ".join(name.removeprefix(PREFIX) for name in names())
    return textwrap.wrap(f"{PREFIX}{{{text}}}", 98, break_on_hyphens=False)
