"""How Episodes are made, on a real tiny model: what each method promises of its harvest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spo.credit.chain import value_cuts
from spo.credit.groups import group_advantages
from spo.credit.partition import PARTITIONS, cutpoints
from spo.methods import METHODS, chain, critic, most_episodes, tree
from spo.methods.grow import grow
from spo.methods.world import Clock, ValueTarget, World
from spo.policy import BACKENDS, CRITICS
from spo.policy import tokenizer as tokenizers
from spo.settings import Chain, Critic, Pairs, Partition
from spo.types import Sample, Trajectory
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
            policy=BACKENDS["engine"](folder, tokenizer.end_ids),
            settings=settings,
            iteration=iteration,
            encode=tiny.encoder(folder),
            reward=lambda problem, ids, finished: float(problem.answer in tokenizer.decode(ids)),
            pieces=lambda ids: ["\n" if token % 3 == 0 else "x" for token in ids],
            clock=Clock(),
            critic=CRITICS["engine"](folder, settings.seed),
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
        cuts = PARTITIONS[name](trajectory.logprobs, here.pieces(trajectory.response_ids), credit.partition)
        first = name.startswith("cutpoint") and cutpoints(trajectory.logprobs, credit.partition.threshold)[:1] == (0,)
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


class Scripted:
    """A policy of whose ten continuations of a prefix so many end in token 9 as `wins` says of its length."""

    def __init__(self, wins):
        self.wins = wins

    def sample(self, requests, sampling):
        return [
            [Sample((9 if i < self.wins[len(r.prompt_ids)] else 8,), (0.0,), True) for i in range(len(r.keys))]
            for r in requests
        ]


def test_vineppo_golden(world):
    """Spec §4.4: four steps; values .2, .5, .4, no fourth (limit: two steps); reward 1 -> .3, -.1, .6, 0."""
    credit = Chain(partition=Partition(name="lines"), rollouts_per_cut=10, max_estimated_cuts=2)
    here = world(replace(tiny.BASE, credit=credit, context_tokens=64))
    prompt = here.encode(PROBLEMS[0])
    here = replace(
        here,
        policy=Scripted({len(prompt): 2, len(prompt) + 2: 5, len(prompt) + 4: 4}),
        reward=lambda problem, ids, finished: float(ids[-1] == 9),
        pieces=lambda ids: ["ab", "c", "\nd", "e", "\nf", "g", "\nh", "i"],
    )
    trajectory = Trajectory("t0", prompt, (5, 4, 6, 4, 7, 4, 5, 9), (-0.1,) * 8, True)
    (rated,), states, tokens = chain.rate(here, PROBLEMS, [(0, trajectory, 1.0)])
    assert rated.cuts == (0, 2, 4, 6, 8) and rated.values == (0.2, 0.5, 0.4, 1.0, 1.0)
    assert rated.advantages == pytest.approx((0.3, 0.3, -0.1, -0.1, 0.6, 0.6, 0.0, 0.0))
    assert (states, tokens) == (3, 30)


@pytest.mark.parametrize("first", [0.1, 0.99])
@pytest.mark.parametrize(
    ("name", "estimated"),
    [("cutpoint_interval", True), ("cutpoint_count", True), ("fixed_count", False), ("lines", False), ("whole", False)],
)
def test_rate_estimates_the_start_only_where_a_cutpoint_is_cut(world, name, estimated, first):
    """`first_segment: zero`, a response whose first token is a cutpoint or not: spec §2.2 and §2.3."""
    credit = replace(tiny.CHAIN, partition=Partition(name=name, segments=4, interval=2), first_segment="zero")
    here = replace(world(replace(tiny.METHODS["chain"], credit=credit)), pieces=lambda ids: list("a\nb\ncdef"))
    probabilities = (first, 0.2, 0.99, 0.3, 0.99, 0.4, 0.5, 0.6)
    prompt = here.encode(PROBLEMS[0])
    trajectory = Trajectory("t0", prompt, (5, 4, 6, 4, 7, 4, 5, 9), tuple(np.log(probabilities).tolist()), True)
    (rated,), _, _ = chain.rate(here, PROBLEMS, [(0, trajectory, 1.0)])
    assert (rated.values[0] is not None) == (estimated and first < 0.9)
    if rated.values[0] is None:
        assert set(rated.advantages[: rated.cuts[1]]) == {0.0}


def test_ppo_advantages_come_from_the_critic_and_the_reward(world):
    """With gamma and lambda 1, and with gamma .5 and lambda 0, where the formulas can be written down."""
    for gamma, lam in ((1.0, 1.0), (0.5, 0.0)):
        here = world(replace(tiny.BASE, credit=Critic(samples_per_problem=2, gamma=gamma, lam=lam)))
        groups, rewards, _ = here.trajectories(PROBLEMS, 2)
        collected = METHODS["critic"](here, PROBLEMS, ())
        for i, (episode, target) in enumerate(zip(collected.episodes, collected.value_targets, strict=True)):
            reward, length = rewards[i // 2][i % 2], len(episode.response_ids)
            assert episode.old_logprobs == groups[i // 2][i % 2].logprobs
            (before,) = critic.values(here.critic, [(episode.prompt_ids, episode.response_ids)], 4096)
            assert target.old_values == pytest.approx(before, abs=1e-5)
            assert target.returns == pytest.approx([gamma ** (length - 1 - t) * reward for t in range(length)])
            following = [*target.old_values[1:], reward / gamma]
            expected = reward if lam else np.multiply(gamma, following)
            assert episode.advantages == pytest.approx(np.subtract(expected, target.old_values), abs=1e-6)
        targets = collected.value_targets
        assert collected.metrics["explained_variance"] == critic.explained_variance(targets)


def test_values_are_those_of_the_states_before_the_tokens(world):
    """Cutting the response shows that the value before a token knows nothing of that token."""
    model = world(tiny.METHODS["critic"]).critic
    prompt, response = (5, 6, 7), (8, 9, 10, 11)
    (whole,) = critic.values(model, [(prompt, response)], 4096)
    for length in range(1, 5):
        changed = (*response[: length - 1], 12)
        assert critic.values(model, [(prompt, changed)], 4096)[0] == pytest.approx(whole[:length], abs=1e-5)
    together = critic.values(model, [((4,), (5,)), (prompt, response)], 4096)
    assert together[1] == pytest.approx(whole, abs=1e-5)


def test_explained_variance_of_what_cannot_be_explained_is_zero():
    assert critic.explained_variance([ValueTarget((1.0, 1.0), (0.2, 0.4))]) == 0.0
    assert critic.explained_variance([ValueTarget((1.0, 0.0), (1.0, 0.0))]) == 1.0


def test_accepted_responses_are_correct_and_few_enough(world):
    here = world(tiny.METHODS["accepted"])
    groups, rewards, _ = here.trajectories(PROBLEMS, 4)
    collected = METHODS["accepted"](here, PROBLEMS, ())
    assert collected.restart and collected.episodes
    for problem, group, row in zip(PROBLEMS, groups, rewards, strict=True):
        correct = [t.response_ids for t, reward in zip(group, row, strict=True) if reward > 0.5]
        kept = [e.response_ids for e in collected.episodes if e.problem_id == problem.id]
        assert len(kept) == min(3, len(correct)) and all(kept.count(ids) <= correct.count(ids) for ids in kept)


@pytest.mark.parametrize("limit", [2, 64])
def test_pairs_are_different_pairs_of_a_correct_and_a_wrong_response(world, limit):
    settings = replace(tiny.BASE, credit=Pairs(samples_per_problem=8, pairs_per_problem=limit))
    here = world(settings)
    groups, rewards, _ = here.trajectories(PROBLEMS, 8)
    episodes = METHODS["pairs"](here, PROBLEMS, ()).episodes
    for problem, group, row in zip(PROBLEMS, groups, rewards, strict=True):
        right = [t.response_ids for t, reward in zip(group, row, strict=True) if reward > 0.5]
        wrong = [t.response_ids for t, reward in zip(group, row, strict=True) if reward <= 0.5]
        own = [(a, b) for a, b in zip(episodes[0::2], episodes[1::2], strict=True) if a.problem_id == problem.id]
        assert len(own) == min(limit, len(right) * len(wrong))
        assert all(a.response_ids in right and b.response_ids in wrong for a, b in own)
        assert all(set(a.advantages) == {1.0} and set(b.advantages) == {-1.0} for a, b in own)
        if limit == 64:
            everything = sorted((r, w) for r in right for w in wrong)
            assert sorted((a.response_ids, b.response_ids) for a, b in own) == everything


@pytest.mark.parametrize("kind", METHODS)
def test_no_iteration_has_more_episodes_than_the_schedule_counts(world, kind):
    settings = tiny.METHODS[kind]
    assert len(METHODS[kind](world(settings), PROBLEMS, ()).episodes) <= most_episodes(settings.credit, len(PROBLEMS))


def test_a_state_without_room_is_worth_what_its_text_earns(world):
    here = world(replace(tiny.METHODS["chain"], context_tokens=8))
    prompt = here.encode(PROBLEMS[0])
    full = (0, (*prompt, *range(5, 5 + 8 - len(prompt))))
    values, tokens = chain.monte_carlo_values(here, PROBLEMS, [full], 3)
    assert tokens == 0 and values == {full: here.reward(PROBLEMS[0], full[1][len(prompt) :], False)}


def graded_texts(here: World) -> tuple[World, list]:
    """A world that writes down what it was asked to grade: (problem, ids, finished)."""
    asked = []
    return replace(here, reward=lambda *call: asked.append(call) or 0.0), asked


def test_a_rollout_is_graded_whole_or_alone(world):
    encode, found = tiny.encoder(world(tiny.BASE).policy.source), {}
    states = [(p, encode(problem) + (7, 8)) for p, problem in enumerate(PROBLEMS[:2])]
    for graded in ("response", "own"):
        here, asked = graded_texts(world(tiny.METHODS["chain"]))
        chain.monte_carlo_values(here, PROBLEMS, states, 2, graded)
        found[graded] = [ids for _, ids, _ in asked]
    assert len(found["own"]) == 4 and found["response"] == [(7, 8) + ids for ids in found["own"]]


def test_a_truncated_leaf_is_graded_whole_or_by_its_last_segment(world):
    settings = replace(tiny.METHODS["tree"], max_response_tokens=9)
    for graded in ("response", "own"):
        here, asked = graded_texts(world(replace(settings, credit=replace(settings.credit, grade_truncated=graded))))
        nodes = grow(here, PROBLEMS)
        tree.rate(here, PROBLEMS, nodes)
        inner = {node.parent for node in nodes}
        leaves = [node for n, node in enumerate(nodes) if n not in inner]
        assert any(not leaf.sample.finished for leaf in leaves) and any(leaf.before for leaf in leaves)
        for leaf, (problem, ids, finished) in zip(leaves, asked, strict=True):
            own = graded == "own" and not leaf.sample.finished
            assert (problem, finished) == (PROBLEMS[leaf.problem], leaf.sample.finished)
            assert ids == (leaf.sample.response_ids if own else leaf.response_ids)


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
