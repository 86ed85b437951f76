from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.data import stories
from spo.data.arithmetic import BUGS
from spo.errors import UserError

DEFAULT = stories.Options()
LINE = re.compile(r"(\d+) ([-+x/]) (\d+): .*, so (\d+)\.")


def story(seed: int, options: stories.Options = DEFAULT) -> stories.Story:
    return stories.draw(Random(seed), options)


@given(st.integers(0, 2**32), st.sampled_from([(2, 2), (2, 4), (3, 5), (6, 6)]), st.integers(2, 4))
def test_a_story_has_the_steps_asked_for_and_its_solution_reaches_its_answer(seed, steps, digits):
    options = stories.Options(steps=steps, digits=digits)
    item = story(seed, options)
    lines = stories.solve(item).splitlines()
    assert steps[0] <= len(lines) - 1 <= steps[1]
    assert lines[-1] == f"#### {item.answer}"
    assert 0 < int(item.answer) < 8 * 10**digits
    for line in lines[:-1]:
        left, sign, right, result = LINE.fullmatch(line).groups()
        exact = {"+": int(left) + int(right), "-": int(left) - int(right), "x": int(left) * int(right)}
        assert exact.get(sign, int(left) / int(right)) == int(result)
    assert LINE.fullmatch(lines[-2])[4] == item.answer


@given(st.integers(0, 2**32))
def test_the_answer_follows_from_the_text_alone(seed):
    item = story(seed)
    assert solve_text(item.question) == int(item.answer), item.question


@given(st.integers(0, 2**32))
def test_a_story_of_one_owner_compares_nobody_and_each_step_goes_on_from_the_last(seed):
    item = story(seed, stories.Options(owners=1, steps=(3, 6)))
    assert not re.search(r" than | as many |together", item.question)
    assert [left for _, left, _ in item.steps[1:]] == [stories.Result(step) for step in range(len(item.steps) - 1)]
    assert all(isinstance(right, int) for _, _, right in item.steps)


@given(st.integers(0, 2**32), st.sets(st.sampled_from(sorted(BUGS))))
def test_a_buggy_solution_goes_on_from_its_own_results(seed, bugs):
    item = story(seed)
    *lines, last = stories.solve(item, frozenset(bugs)).splitlines()
    results = [int(LINE.fullmatch(line)[4]) for line in lines]
    assert last == f"#### {results[-1]}"
    for step, line in zip(item.steps, lines, strict=True):
        operands = {results[x.step] if isinstance(x, stories.Result) else x for x in step[1:]}
        left, _, right, _ = LINE.fullmatch(line).groups()
        assert {int(left), int(right)} == operands


def test_the_same_seed_tells_the_same_story_and_few_seeds_share_one():
    assert story(5) == story(5)
    assert len({story(seed).question for seed in range(2000)}) > 1990


def test_pupils_have_bugs_as_often_as_the_options_say():
    def wrong_share(**options):
        options = stories.Options(**options)
        outcomes = []
        for seed in range(1500):
            rng = Random(seed)
            item = stories.draw(rng, options)
            outcomes.append(not stories.demonstrate(item, rng, options).endswith(f"#### {item.answer}"))
        return sum(outcomes) / len(outcomes)

    assert wrong_share(bug_probability=0, bugs={}) == 0
    few, half, all_bugs = (wrong_share(bug_probability=p, bugs={}) for p in (0.1, 0.5, 1.0))
    assert 0.15 < few < half < all_bugs
    assert all_bugs > 0.95
    assert 0.4 < wrong_share(bug_probability=0, bugs={"forgets_carry": 0.6}) < 0.6


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": (4, 3)}, "steps"),
        ({"steps": (1, 3)}, "steps"),
        ({"digits": 1}, "digits"),
        ({"owners": 3}, "owners"),
        ({"bugs": {"forgets": 0.5}}, "forgets"),
        ({"bug_probability": 1.5}, "shares"),
    ],
)
def test_wrong_options_are_named(options, word):
    with pytest.raises(UserError, match=word):
        stories.Options(**options)


def solve_text(question: str) -> int:
    """Answer a story by reading its sentences, without the steps that the generator recorded."""
    *sentences, ask = re.findall(r"[^.?]+[.?]", question)
    has: dict[str, int] = {}
    owner = ""
    for sentence in sentences:
        names = [word for word in re.findall(r"[A-Z][a-z]+", sentence) if word in stories.NAMES]
        numbers = [int(number) for number in re.findall(r"\d+", sentence)]
        if not has:
            owner, has = names[0], {names[0]: numbers[0] * (numbers[1] if len(numbers) > 1 else 1)}
        elif " than " in sentence or " as many " in sentence:
            owner, before = names[0], has[names[1]]
            if " times " in sentence or " twice " in sentence:
                has[owner] = before * (numbers[0] if numbers else 2)
            elif "half" in sentence:
                has[owner] = before // 2
            else:
                has[owner] = before + numbers[0] * (1 if " more " in sentence else -1)
        elif "wizard" in sentence:
            has[owner] *= numbers[0]
        elif "alf of " in sentence:
            assert has[owner] % 2 == 0
            has[owner] //= 2
        else:
            has[owner] += numbers[0] if re.search(r"\bmore\b", sentence) else -numbers[0]
    asked = [has[name] for name in re.findall(r"[A-Z][a-z]+", ask) if name in has]
    if "together" in ask:
        return sum(asked)
    return asked[0] - asked[1] if len(asked) > 1 else asked[0]
