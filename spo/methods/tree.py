"""SPO-tree: responses sampled as a tree of token segments, values averaged bottom-up (paper §5, spec §3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spo import seeds
from spo.credit.tree import tree_advantages, tree_values
from spo.methods.grow import Node, grow
from spo.methods.replay import draw
from spo.methods.report import mismatch, summary
from spo.methods.world import Collected, Memory, World
from spo.types import Episode, Problem


class Rated(NamedTuple):
    """What trees are worth, in the order of their N nodes: `parents`, and `values` and `stds` (N) of `tree_values`; a
    leaf's value is its reward."""

    parents: tuple[int, ...]
    values: np.ndarray
    stds: np.ndarray


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: grow trees, value them bottom-up, train on segments that differ from their parent's value."""
    credit = world.settings.credit
    nodes = grow(world, problems)
    found = rate(world, problems, nodes)
    advantages = tree_advantages(found.parents, found.values, found.stds, credit.divide_by_std)

    chosen = [n for n, node in enumerate(nodes) if node.sample.response_ids and node.parent >= 0]
    if not credit.keep_zero_advantage:
        chosen = [n for n in chosen if advantages[n] != 0]
    logprobs = world.score([(nodes[n].prefix_ids, nodes[n].sample.response_ids) for n in chosen])
    fresh = tuple(
        Episode(
            problem_id=problems[nodes[n].problem].id,
            prompt_ids=nodes[n].prefix_ids,
            response_ids=nodes[n].sample.response_ids,
            old_logprobs=row,
            advantages=(float(advantages[n]),) * len(row),
        )
        for n, row in zip(chosen, logprobs, strict=True)
    )
    episodes, kept = draw(
        memory + tuple((world.iteration, episode) for episode in fresh),
        credit,
        world.iteration,
        seeds.generator(world.settings.seed, "replay", world.iteration),
    )
    inner = set(found.parents)
    leaves = [[n for n, node in enumerate(nodes) if node.problem == p and n not in inner] for p in range(len(problems))]
    gap = mismatch([nodes[n].sample for n in chosen], logprobs)
    return Collected(episodes, _metrics(nodes, leaves, found.values, gap) | {"replay_episodes": len(kept)}, kept)


def rate(world: World, problems: Sequence[Problem], nodes: Sequence[Node]) -> Rated:
    """Value trees that `grow` made, from the rewards of their leaves."""
    parents = tuple(node.parent for node in nodes)
    inner = set(parents)
    leaves = [n for n in range(len(nodes)) if n not in inner]
    rewards = np.full(len(nodes), np.nan)
    rewards[leaves] = world.rewards(
        [(problems[nodes[n].problem], _graded(world, nodes[n]), nodes[n].sample.finished) for n in leaves]
    )
    return Rated(parents, *tree_values(parents, rewards.tolist()))


def _graded(world: World, node: Node) -> tuple[int, ...]:
    """Return the part of a leaf that is graded (spec §3.1).

    Deviation: the official code grades finished leaves with their prompt. In MATH the prompt's box is then one more
    answer, so that a response without box is wrong even where its last number is right; here it is graded alone.
    """
    own = not node.sample.finished and world.settings.credit.grade_truncated == "own"
    return node.sample.response_ids if own else node.response_ids


def _metrics(nodes: list[Node], leaves: list[list[int]], values: np.ndarray, gap: float) -> dict[str, float]:
    """Leaves are the responses; each inner node is a state whose value was estimated by its children."""
    groups = [[(nodes[n].response_ids, nodes[n].sample.finished) for n in group] for group in leaves]
    flat = [n for group in leaves for n in group]
    return summary(groups, [[float(values[n]) for n in group] for group in leaves], gap) | {
        "segments": float(np.mean([len(nodes[n].path) for n in flat])),
        "mc_points": len(nodes) - len(flat),
        "sampled_tokens": sum(len(node.sample.response_ids) for node in nodes),
    }
