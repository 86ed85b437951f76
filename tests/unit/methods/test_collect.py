"""How Episodes are made, on a real tiny model: what each method promises of its harvest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spo.credit.chain import value_cuts
from spo.credit.groups import group_advantages
from spo.credit.partition import PARTITIONS, cutpoints
from spo.methods import METHODS, chain
from spo.methods.grow import grow
from spo.methods.world import Clock, World
from spo.policy import BACKENDS
from spo.policy import tokenizer as tokenizers
from spo.settings import Partition
from tests import tiny

PROBLEMS = tiny.problems()[:5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def world(folder):
    tokenizer = tokenizers.load(folder)

    def make(settings, iteration=1):
        return World(
            policy=BACKENDS["engine"](folder, tokenizer.eos_id),
            settings=settings,
            iteration=iteration,
            encode=tiny.encoder(folder),
            reward=lambda problem, ids, finished: float(problem.answer in tokenizer.decode(ids)),
            line_ends=lambda ids: tuple(i for i, token in enumerate(ids) if token % 3 == 0),
            clock=Clock(),
        )

    return make


def test_every_advantage_of_a_group_is_its_rewards(world):
    here = world(tiny.METHODS["group"])
    groups, rewards, _ = here.trajectories(PROBLEMS, 4)
    episodes = METHODS["group"](here, PROBLEMS, ()).episodes
    assert [e.response_ids for e in episodes] == [t.response_ids for group in groups for t in group]
    for i, episode in enumerate(episodes):
        expected = group_advantages(rewards[i // 4], "mean", True)[i % 4]
        assert episode.advantages == (expected,) * len(episode.response_ids)
        assert episode.problem_id == PROBLEMS[i // 4].id


@pytest.mark.parametrize("first_segment", ["estimate", "zero"])
@pytest.mark.parametrize("name", PARTITIONS)
def test_chain_advantages_are_differences_of_fresh_estimates(world, name, first_segment):
    """Recomputed here from the values of each state, asked for one at a time."""
    credit = replace(tiny.CHAIN, partition=Partition(name=name, interval=2, tokens=4), first_segment=first_segment)
    here = world(replace(tiny.METHODS["chain"], credit=credit))
    groups, rewards, _ = here.trajectories(PROBLEMS, 2)
    collected = METHODS["chain"](here, PROBLEMS, ())
    points = set()
    for i, episode in enumerate(collected.episodes):
        trajectory = groups[i // 2][i % 2]
        assert episode.response_ids == trajectory.response_ids and episode.old_logprobs == trajectory.logprobs
        cuts = PARTITIONS[name](trajectory.logprobs, here.line_ends(trajectory.response_ids), credit.partition)
        first = cutpoints(trajectory.logprobs, credit.partition.threshold)[:1] == (0,)
        known = value_cuts(cuts, first_segment, first)
        values = {cuts[-1]: rewards[i // 2][i % 2]}
        for cut in known:
            state = (i // 2, trajectory.prompt_ids + trajectory.response_ids[:cut])
            values |= {cut: chain.monte_carlo_values(here, PROBLEMS, [state], 3)[0][state]}
            points.add(state)
        for start, end in zip(cuts[:-1], cuts[1:], strict=True):
            expected = values[end] - values[start] if start in values else 0.0
            assert episode.advantages[start:end] == pytest.approx((expected,) * (end - start))
    assert collected.metrics["mc_points"] == len(points)


def test_official_zeroing_of_confident_tokens(world):
    settings = tiny.METHODS["chain"]
    plain = METHODS["chain"](world(settings), PROBLEMS, ()).episodes
    zeroed = METHODS["chain"](world(replace(settings, credit=replace(tiny.CHAIN, zero_confident=True))), PROBLEMS, ())
    for before, after in zip(plain, zeroed.episodes, strict=True):
        sure = np.exp(before.old_logprobs) > 0.9
        assert after.advantages == tuple(np.where(sure, 0.0, before.advantages).tolist())


def test_a_state_without_room_is_worth_what_its_text_earns(world):
    here = world(replace(tiny.METHODS["chain"], context_tokens=8))
    prompt = here.encode(PROBLEMS[0])
    full = (0, (*prompt, *range(5, 5 + 8 - len(prompt))))
    values, tokens = chain.monte_carlo_values(here, PROBLEMS, [full], 3)
    assert tokens == 0 and values == {full: here.reward(PROBLEMS[0], full[1][len(prompt) :], False)}


def test_trees_have_the_shape_that_the_settings_say(world):
    here = world(replace(tiny.METHODS["tree"], credit=replace(tiny.TREE, branches=(3, 2, 2), segment_tokens=3)))
    nodes = grow(here, PROBLEMS)
    children = {n: [m for m, node in enumerate(nodes) if node.parent == n] for n in range(len(nodes))}
    for n, node in enumerate(nodes):
        assert node.parent < n
        if node.parent < 0:
            assert node.prefix_ids == here.encode(PROBLEMS[node.problem]) and node.sample.response_ids == ()
            continue
        above = nodes[node.parent]
        assert node.problem == above.problem and node.before == above.response_ids
        level, ended = len(node.path), node.sample.finished
        assert len(node.sample.response_ids) <= (3 if level < 3 else 10)
        full = len(node.prefix_ids) + len(node.sample.response_ids) >= here.settings.context_tokens
        assert len(children[n]) == (0 if ended or full or level == 3 else 2)
        assert level == 3 or ended or full or len(node.sample.response_ids) == 3
    assert all(len(children[p]) == 3 for p in range(len(PROBLEMS)))


def test_tree_episodes_are_segments_with_sibling_advantages(world):
    settings = replace(tiny.METHODS["tree"], credit=replace(tiny.TREE, replay=None, episodes_per_iteration=1000))
    here = world(settings)
    nodes = {(n.prefix_ids, n.sample.response_ids): n for n in grow(here, PROBLEMS)}
    episodes = METHODS["tree"](here, PROBLEMS, ()).episodes
    assert episodes
    for episode in episodes:
        assert (episode.prompt_ids, episode.response_ids) in nodes
        assert len(set(episode.advantages)) == 1 and episode.advantages[0] != 0
        assert episode.old_logprobs == pytest.approx(
            here.score([(episode.prompt_ids, episode.response_ids)])[0], abs=1e-5
        )


@pytest.mark.parametrize("kind", METHODS)
def test_an_iteration_is_a_function_of_its_counters(world, kind):
    harvests = [METHODS[kind](world(tiny.METHODS[kind], i), PROBLEMS, ()) for i in (1, 1, 2)]
    assert harvests[0] == harvests[1] and harvests[0].episodes != harvests[2].episodes


@pytest.mark.parametrize("kind", METHODS)
def test_sampled_tokens_count_everything_that_was_generated(world, kind):
    here = world(tiny.METHODS[kind])
    tokens = []
    sample = here.policy.sample

    def counting(*arguments):
        out = sample(*arguments)
        tokens.extend(len(s.response_ids) for row in out for s in row)
        return out

    here.policy.sample = counting
    assert METHODS[kind](here, PROBLEMS, ()).metrics["sampled_tokens"] == sum(tokens)
