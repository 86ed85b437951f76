from __future__ import annotations

import itertools
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.data import knights
from spo.errors import UserError
from spo.grading import GRADERS

DEFAULT = knights.Options(slip=0.0)


def puzzle(seed: int, people: int = 3) -> knights.Puzzle:
    return knights.draw(Random(seed), knights.Options(people=people))


@given(st.integers(0, 2**32), st.integers(2, 4))
def test_the_text_has_exactly_one_solution_and_it_is_the_answer(seed, people):
    item = puzzle(seed, people)
    found = brute_force(item.question)
    assert found == [item.answer]
    assert item.answer.count(",") == people - 1


@given(st.integers(0, 2**32), st.tuples(*[st.booleans()] * 4), st.integers(2, 4))
def test_every_habit_finds_the_solution_by_true_evaluations(seed, habits, people):
    item = puzzle(seed, people)
    response = knights.search(item, *habits)
    assert response.endswith(f"\n#### {item.answer}")
    for line, case in evaluations(response):
        name, kind, filled, truth, outcome = re.fullmatch(r"(\w+) (\w+): (.*), (\w+) (\w+)", line).groups()
        said = dict(statements(item.question))[name]
        assert case[name] == kind
        assert (truth == "true") == holds(said, name, case)
        assert (outcome == "ok") == ((truth == "true") == (kind == "knight"))
        assert filled_is_right(filled, said, name, case)


@given(st.integers(0, 2**32))
def test_thrift_is_shorter(seed):
    item = puzzle(seed)
    plain = knights.search(item, clever=False)
    for habits in ({"thorough": True}, {"goes_on": True}, {"twice": True}):
        assert len(knights.search(item, clever=False, **habits)) >= len(plain)
    assert len(knights.search(item, clever=True)) <= len(plain)


def test_habits_show_in_the_text():
    item = puzzle(3)
    assert knights.search(item, goes_on=True, clever=False).count("?") == 8
    assert knights.search(item, clever=True, goes_on=True).count("?") < 8
    assert "\nAgain\n" in knights.search(item, twice=True)
    lines = knights.search(item, thorough=True, goes_on=True, clever=False).splitlines()
    assert len(lines) == 8 * 4 + 1


def test_slips_make_some_searches_wrong():
    def right_share(slip):
        options = knights.Options(slip=slip)
        outcomes = []
        for seed in range(600):
            rng = Random(seed)
            item = knights.draw(rng, options)
            outcomes.append(knights.demonstrate(item, rng, options).endswith(f"#### {item.answer}"))
        return sum(outcomes) / len(outcomes)

    assert right_share(0.0) == 1.0
    assert 0.8 < right_share(0.02) < 0.99
    assert right_share(0.2) < 0.7


def test_only_the_forms_asked_for_are_said():
    for seed in range(50):
        item = knights.draw(Random(seed), knights.Options(forms=("one", "alike")))
        for _, said in statements(item.question):
            assert re.search(r" is a kn\w+$| (alike|different)$", said)


@pytest.mark.parametrize(
    ("options", "word"), [({"people": 1}, "people"), ({"slip": 2.0}, "slip"), ({"forms": ("none",)}, "forms")]
)
def test_wrong_options_are_named(options, word):
    with pytest.raises(UserError, match=word):
        knights.Options(**options)


# ---- an independent reader of the puzzles ----------------------------------------------------------------------------


def statements(question: str) -> list[tuple[str, str]]:
    """(speaker, statement) pairs."""
    return re.findall(r"(\w+) says: ([^.]+)\.", question)


def holds(said: str, speaker: str, case: dict[str, str]) -> bool:
    if match := re.fullmatch(r"Exactly (\d+) of us (?:is a|are) knights?", said):
        return list(case.values()).count("knight") == int(match[1])
    if match := re.fullmatch(r"(\w+) and (\w+) are both (\w+)s", said):
        return {case[match[1]], case[match[2]]} == {match[3]}
    if match := re.fullmatch(r"(\w+) and (\w+) are (alike|different)", said):
        first, second = (case[speaker if name == "I" else name] for name in match.groups()[:2])
        return (first == second) == (match[3] == "alike")
    parts = [re.fullmatch(r"(\w+) (?:is|am) a (\w+)", part) for part in said.split(" or ")]
    return any(case[speaker if part[1] == "I" else part[1]] == part[2] for part in parts)


def brute_force(question: str) -> list[str]:
    said = statements(question)
    names = [speaker for speaker, _ in said]
    found = []
    for kinds in itertools.product(("knight", "knave"), repeat=len(names)):
        case = dict(zip(names, kinds, strict=True))
        if all(holds(text, speaker, case) == (case[speaker] == "knight") for speaker, text in said):
            found.append(", ".join(f"{name} {kind}" for name, kind in case.items()))
    return found


def evaluations(response: str):
    """(line, case under trial) for each evaluation."""
    case: dict[str, str] = {}
    for line in response.splitlines()[:-1]:
        if line.endswith("?"):
            case = dict(part.split() for part in line[:-1].split(", "))
        elif line != "Again":
            yield line, case


def filled_is_right(filled: str, said: str, speaker: str, case: dict[str, str]) -> bool:
    """Putting the kinds of a case for the names of a statement gives what the search wrote."""
    if match := re.match(r"Exactly (\d+)", said):
        return filled == f"{list(case.values()).count('knight')} of us is {match[1]}"
    text = re.sub(r"\b(is|am) a\b", "is", said).replace(" are both ", " both ").replace(" are ", " ")
    return filled == " ".join(case.get(speaker if word == "I" else word, word) for word in text.split())


@given(st.integers(0, 2**32))
def test_the_published_form_is_what_the_grader_of_the_published_puzzles_reads(seed):
    options = knights.Options(published=True, slip=0.0)
    rng = Random(seed)
    item = knights.draw(rng, options)
    plain = knights.draw(Random(seed), DEFAULT)
    assert item.question == plain.question
    lines = [f"({i}) {who.replace(' ', ' is a ')}" for i, who in enumerate(plain.answer.split(", "), start=1)]
    assert item.answer == "\n".join(lines)
    response = knights.demonstrate(item, rng, options)
    assert response.endswith(f"\nCONCLUSION:\n{item.answer}")
    assert GRADERS["knights"].grade(item.answer, response).correct
    wrong = response.replace("knave", "KNIGHT").replace("knight", "knave").replace("KNIGHT", "knight")
    assert not GRADERS["knights"].grade(item.answer, wrong).correct
