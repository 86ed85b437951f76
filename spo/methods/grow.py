"""The trees of SPO-tree: responses sampled a segment at a time (paper §5, spec §3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spo.methods.world import World
from spo.types import Problem, Request, Sample, Trajectory

#: No trajectory is planted.
NOTHING: Mapping[int, Trajectory] = {}


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


def grow(world: World, problems: Sequence[Problem], planted: Mapping[int, Trajectory] = NOTHING) -> list[Node]:
    """One tree a problem, all in one list, parents before children; each level is sampled in one batch.

    A node is expanded unless its text ended by itself or fills the context. Levels but the last are cut after
    `segment_tokens`; the last runs to the end of the response.

    `planted` holds a sampled trajectory by problem number: its segments are the first child at each level, everything
    else is sampled. Siblings are independent, so this is a tree drawn on condition that it contains the trajectory.
    """
    credit = world.settings.credit
    nodes = [Node(p, -1, (), world.encode(problem), (), Sample((), (), False)) for p, problem in enumerate(problems)]
    frontier = range(len(nodes))
    for level, branches in enumerate(credit.branches):
        last = level == len(credit.branches) - 1
        parents, grafts, requests = [], [], []
        for n in frontier:
            node = nodes[n]
            prefix = node.prompt_ids + node.response_ids
            room = world.room(len(prefix))
            if room > 0 and not node.sample.finished:
                limit = room if last else min(room, credit.segment_tokens)
                graft = _next_segment(planted.get(node.problem), node, limit)
                keys = (world.key("tree", problems[node.problem], *node.path, i) for i in range(len(graft), branches))
                requests.append(Request(prefix, tuple(keys), limit))
                grafts.append(graft)
                parents.append(n)
        start = len(nodes)
        for n, graft, samples in zip(parents, grafts, world.sample(requests), strict=True):
            parent = nodes[n]
            for i, sample in enumerate([*graft, *samples]):
                path = (*parent.path, i)
                nodes.append(Node(parent.problem, n, path, parent.prompt_ids, parent.response_ids, sample))
        frontier = range(start, len(nodes))
    return nodes


def _next_segment(trajectory: Trajectory | None, node: Node, tokens: int) -> list[Sample]:
    """At most `tokens` tokens of a planted trajectory that follow `node`; nothing where the node is not part of it."""
    before = len(node.response_ids)
    if trajectory is None or any(node.path) or before >= len(trajectory.response_ids):
        return []
    end = min(before + tokens, len(trajectory.response_ids))
    finished = trajectory.finished and end == len(trajectory.response_ids)
    return [Sample(trajectory.response_ids[before:end], trajectory.logprobs[before:end], finished)]
