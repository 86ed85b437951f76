from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.grading import GRADERS
from spo.grading.equal import compare
from spo.grading.final import boxes, final_answers
from spo.grading.parse import parse
from spo.grading.tokens import Unreadable
from spo.types import Verdict


def test_a_verdict_says_what_was_found():
    grade = GRADERS["math"].grade
    assert grade("5", r"so \boxed{x = 5}") == Verdict(True, "x = 5", "equal")
    assert grade("5", r"so \boxed{6}") == Verdict(False, "6", "different")
    assert grade("5", "I give up.") == Verdict(False, None, "no answer")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} then \boxed{2}", [(0, "1"), (15, "2")]),
        (r"\boxed{\boxed{3}}", [(0, r"\boxed{3}")]),
        (r"\boxed{\{1,2\}}", [(0, r"\{1,2\}")]),
        (r"\boxed 7 and \fbox{8}", [(0, "7"), (13, "8")]),
        (r"\boxed\frac12", [(0, r"\frac12")]),
        (r"\boxed{5$ more", [(0, "5")]),
        (r"\boxed{\frac{1}{2", []),
        (r"\boxed{} \boxed{ } \boxedtext{3}", []),
    ],
)
def test_boxes(text, found):
    assert boxes(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is $3$. I hope it is correct.", ["3"]),
        ("Answer: 3.5 cm", ["3.5 cm"]),
        ("Let $x = 3$. Then $y = 4$.", ["y = 4"]),
        ("We get 12 of them.", ["12"]),
        (r"\boxed{2} or \boxed{3}", ["3", "2, 3"]),
        (r"\boxed{2}" + "\n" + r"\boxed{3}", ["3"]),
        ("nothing", []),
    ],
)
def test_where_the_final_answer_is(text, found):
    assert final_answers(text) == found


@pytest.mark.parametrize("text", ["", "(", "1 2", r"\foo{3}", "x +", r"\frac{1}", "[1", r"\begin{cases} 1 \end{cases}"])
def test_what_is_no_answer_is_unreadable_and_equals_only_itself(text):
    with pytest.raises(Unreadable):
        parse(text)
    assert compare("7", text) == "different"


def test_unreadable_answers_are_not_equal_to_each_other():
    assert compare(r"\foo{3}", r"\foo{4}") == "different"
    assert compare(r"\foo{3}", r"\foo{3}") == "equal"


def test_a_part_of_the_answer_is_not_the_answer():
    for reference, part in (("1,2", "1"), ("(1,2)", "1"), (r"\{1,2,3\}", "1,2"), ("3", "3, 4"), ("x^2+x", "x^2")):
        assert compare(reference, part) == "different"


WHOLE = st.integers(-(10**6), 10**6)
FRACTION = st.fractions(min_value=-1000, max_value=1000, max_denominator=500)


@given(WHOLE)
def test_every_way_to_write_a_whole_number(number):
    for written in (
        f"{number}",
        f"{number:,}",
        f"{number}.0",
        f"x = {number}",
        rf"\text{{{number}}}",
        rf"{number}^\circ",
    ):
        assert compare(str(number), written) == "equal"
    assert compare(str(number), str(number + 1)) == "different"
    assert compare(str(number), f"{number}.5") == "different"


@given(FRACTION)
def test_every_way_to_write_a_fraction(number):
    sign, top, below = "-" if number < 0 else "", abs(number.numerator), number.denominator
    reference = rf"{sign}\frac{{{top}}}{{{below}}}"
    for written in (
        f"{sign}{top}/{below}",
        rf"\dfrac{{{sign}{top}}}{{{below}}}",
        rf"{sign}\frac{{{3 * top}}}{{{3 * below}}}",
    ):
        assert compare(reference, written) == "equal"
    other = number + Fraction(1, below)
    assert compare(reference, f"{other.numerator}/{other.denominator}") == "different"


@given(st.lists(WHOLE, min_size=2, max_size=5, unique=True), st.randoms())
def test_lists_have_no_order_and_tuples_have_one(numbers, random):
    shuffled = numbers[:]
    random.shuffle(shuffled)
    plain, mixed = ", ".join(map(str, numbers)), ", ".join(map(str, shuffled))
    assert compare(plain, mixed) == "equal"
    assert compare(rf"\{{{plain}\}}", mixed) == "equal"
    expected = "equal" if numbers == shuffled else "different"
    assert compare(f"({plain})", f"({mixed})") == expected


@given(st.text(alphabet="0123456789x+-*/^(){}[],.=<>\\ frac sqrt", max_size=40))
def test_equality_is_reflexive_and_symmetric_on_readable_text(text):
    try:
        parse(text)
    except Unreadable:
        return
    assert compare(text, text) == "equal"


@given(st.integers(0, 999))
def test_aime_answers_ignore_leading_zeros(number):
    grade = GRADERS["aime"].grade
    for answer in (str(number), f"{number:03d}"):
        assert grade(answer, rf"\boxed{{{number}}}").correct and grade(answer, rf"\boxed{{{number:03d}}}").correct
        assert not grade(answer, rf"\boxed{{{number + 1}}}").correct
