"""The trees of SPO-tree: responses sampled a segment at a time (paper §5, spec §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spo.methods.world import World
from spo.types import Problem, Request, Sample


@dataclass(frozen=True)
class Node:
    """A segment of a response to problem number `problem`.

    `parent` is an index into the list of nodes, -1 for a root, whose sample is empty; `path` numbers the children taken
    from the root to here; `before` are the response ids that precede the segment.
    """

    problem: int
    parent: int
    path: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    before: tuple[int, ...]
    sample: Sample

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Everything before the segment."""
        return self.prompt_ids + self.before

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The response from its beginning to the end of the segment."""
        return self.before + self.sample.response_ids


def grow(world: World, problems: Sequence[Problem]) -> list[Node]:
    """One tree a problem, all in one list, parents before children; each level is sampled in one batch.

    A node is expanded unless its text ended by itself or fills the context. Levels but the last are cut after
    `segment_tokens`; the last runs to the end of the response.
    """
    credit = world.settings.credit
    nodes = [Node(p, -1, (), world.encode(problem), (), Sample((), (), False)) for p, problem in enumerate(problems)]
    frontier = range(len(nodes))
    for level, branches in enumerate(credit.branches):
        last = level == len(credit.branches) - 1
        parents, requests = [], []
        for n in frontier:
            node = nodes[n]
            prefix = node.prompt_ids + node.response_ids
            room = world.room(len(prefix))
            if room > 0 and not node.sample.finished:
                keys = tuple(world.key("tree", problems[node.problem], *node.path, i) for i in range(branches))
                requests.append(Request(prefix, keys, room if last else min(room, credit.segment_tokens)))
                parents.append(n)
        start = len(nodes)
        for n, samples in zip(parents, world.sample(requests), strict=True):
            parent = nodes[n]
            for i, sample in enumerate(samples):
                path = (*parent.path, i)
                nodes.append(Node(parent.problem, n, path, parent.prompt_ids, parent.response_ids, sample))
        frontier = range(start, len(nodes))
    return nodes
