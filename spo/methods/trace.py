"""Trajectories with all that SPO computes about them, written down to be looked at: nothing is learnt from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spo.credit.chain import segment_advantages
from spo.credit.tree import tree_advantages
from spo.methods import chain, tree
from spo.methods.audit import stream
from spo.methods.grow import Node, grow
from spo.methods.world import World
from spo.settings import Trace
from spo.types import Problem

#: Token ids -> text
Decode = Callable[[Sequence[int]], str]


def trace(world: World, problems: Sequence[Problem], plan: Trace, decode: Decode) -> list[dict[str, Any]]:
    """For each problem its question and answer, a trajectory as SPO-chain sees it, and a tree; plain JSON values.

    `world.settings` say how the policy samples, and its seed.
    """
    chains = trace_chains(stream(world, "traced chain", plan.chain), problems, decode)
    trees = trace_trees(stream(world, "traced tree", plan.tree), problems, decode)
    return [
        {"id": problem.id, "question": problem.question, "answer": problem.answer, "chain": chains[p], "tree": trees[p]}
        for p, problem in enumerate(problems)
    ]


def trace_chains(world: World, problems: Sequence[Problem], decode: Decode) -> list[dict[str, Any]]:
    """One trajectory a problem: T `tokens` and `probabilities`, `cutpoints`, K+1 `cuts` and `values`, K `advantages`.

    The value at the last cut is the reward; a value is None where the settings do not estimate it.
    """
    groups, rewards, _ = world.trajectories(problems, 1)
    rated, _, _ = chain.rate(world, problems, [(p, t, rewards[p][0]) for p, (t,) in enumerate(groups)])
    return [
        {
            "tokens": pieces(decode, row.trajectory.response_ids),
            "probabilities": np.exp(row.trajectory.logprobs).round(6).tolist(),
            "cutpoints": list(row.cutpoints),
            "cuts": list(row.cuts),
            "values": list(row.values),
            "advantages": segment_advantages(row.values).tolist(),
            "finished": row.trajectory.finished,
            "reward": rewards[p][0],
        }
        for p, row in enumerate(rated)
    ]


def trace_trees(world: World, problems: Sequence[Problem], decode: Decode) -> list[list[dict[str, Any]]]:
    """One tree a problem: its nodes, parents before children, each with the number of its `parent` in that list.

    The root, before the first token, has parent -1. A leaf's value is its reward.
    """
    nodes = grow(world, problems)
    found = tree.rate(world, problems, nodes)
    advantages = tree_advantages(*found, world.settings.credit.divide_by_std)
    inner = set(found.parents)
    trees: list[list[dict[str, Any]]] = [[] for _ in problems]
    number: list[int] = []
    for n, node in enumerate(nodes):
        own = trees[node.problem]
        number.append(len(own))
        own.append(
            {
                "parent": number[node.parent] if node.parent >= 0 else -1,
                "text": written(decode, node),
                "tokens": len(node.sample.response_ids),
                "value": float(found.values[n]),
                "advantage": float(advantages[n]),
                "leaf": n not in inner,
                "finished": node.sample.finished,
            }
        )
    return trees


def pieces(decode: Decode, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; together they are the text of all. Special tokens add nothing.

    A character of several tokens belongs to the last of them.

    >>> pieces(lambda ids: " ".join("ab"[i] for i in ids), (0, 1, 0))
    ['a', ' b', ' a']
    """
    out, before = [], ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end])
        if end < len(ids):
            text = text.rstrip("\ufffd")  # what stands for the beginning of a character
        out.append(text[len(before) :])
        before = text if len(text) > len(before) else before
    return out


def written(decode: Decode, node: Node) -> str:
    """The text that a node adds to what stands before it."""
    return decode(node.response_ids)[len(decode(node.before)) :]
