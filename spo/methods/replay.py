"""The replay buffer of SPO-tree: one iteration's segments are spread over the following ones (spec §3.3)."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from spo.methods.world import Memory
from spo.settings import Tree
from spo.types import Episode


def draw(
    offered: Memory, credit: Tree, iteration: int, generator: np.random.Generator
) -> tuple[tuple[Episode, ...], Memory]:
    """(Episodes of this iteration in random order, what stays for later ones).

    Segments of age `max_age_iterations` or more are dropped; each problem offers at most `max_per_problem`, drawn at
    random; of those at most `episodes_per_iteration` are used. Without a buffer all that is not used is dropped.
    Deviation: the official code loses what a problem offers and the iteration does not use (`replay.keep_surplus`), and
    repeats segments where they are too few (`fill_by_repeating`).
    """
    replay, limit = credit.replay, credit.episodes_per_iteration
    if replay is not None:
        offered = tuple(item for item in offered if iteration - item[0] < replay.max_age_iterations)
    by_problem: dict[str, list[int]] = defaultdict(list)
    for i, (_, episode) in enumerate(offered):
        by_problem[episode.problem_id].append(i)
    taken: list[int] = []
    for indices in by_problem.values():
        quota = len(indices) if replay is None else replay.max_per_problem
        taken += [indices[i] for i in generator.permutation(len(indices))[:quota]]
    shuffled = [taken[i] for i in generator.permutation(len(taken))]
    used = shuffled[:limit]
    gone = set(used if replay is not None and replay.keep_surplus else shuffled)
    kept = () if replay is None else tuple(item for i, item in enumerate(offered) if i not in gone)
    if credit.fill_by_repeating and used:
        used = [used[i % len(used)] for i in range(limit)]
    return tuple(offered[i][1] for i in used), kept
