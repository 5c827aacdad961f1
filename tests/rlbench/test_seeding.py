"""Seeds: each purpose has a stream of its own, which stays what it is."""

import hashlib

import torch

from rlbench.seeding import derive, initialising


def test_a_seed_follows_from_the_run_s_seed_and_the_whole_purpose() -> None:
    digest = hashlib.sha256(b"3/episode/41/7").digest()
    assert derive(3, "episode", 41, 7) == int.from_bytes(digest[:4], "little") // 2
    streams: list[tuple[int, str, int]] = [
        (3, "episode", 41), (4, "episode", 41), (3, "episode", 42), (3, "actions", 41),
    ]  # fmt: skip
    seeds = {derive(*stream) for stream in streams} | {derive(3), derive(3, "episode")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_weights_are_drawn_from_their_seed_and_the_global_generator_stays_where_it_was() -> None:
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with initialising(seed):
            drawn.append(torch.nn.Linear(3, 3).weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)
