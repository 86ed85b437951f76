from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.data.arithmetic import BUGS, MIXED_UP, work

EXACT = {"+": lambda a, b: a + b, "-": lambda a, b: abs(a - b), "x": lambda a, b: a * b, "/": lambda a, b: a // b}


@st.composite
def operations(draw):
    sign = draw(st.sampled_from("+-x/"))
    left = draw(st.integers(0, 99_999))
    right = {"x": st.integers(2, 9), "/": st.just(2)}.get(sign, st.integers(0, 99_999))
    return sign, left, draw(right)


@given(operations())
def test_without_bugs_the_result_is_exact_and_so_is_every_column(operation):
    sign, left, right = operation
    line, result = work(sign, left, right)
    assert result == EXACT[sign](left, right)
    assert line.endswith(f"so {result}.")
    for column in line.split(": ", 1)[1].split(", ")[:-1]:
        assert column_is_right(column), line


@given(operations(), st.sets(st.sampled_from(sorted(BUGS))))
def test_any_mix_of_bugs_gives_a_natural_number_of_about_the_same_length(operation, bugs):
    sign, left, right = operation
    line, result = work(sign, left, right, bugs)
    assert result >= 0
    assert len(str(result)) <= max(len(str(left)), len(str(right))) + 1
    assert "\n" not in line


@pytest.mark.parametrize(
    ("sign", "left", "right", "bug", "result"),
    [
        ("+", 47, 38, "forgets_carry", 75),
        ("+", 95, 38, "forgets_carry", 123),  # the last column is written out in full
        ("x", 47, 3, "forgets_carry", 121),
        ("-", 85, 47, "smaller_from_larger", 42),
        ("-", 85, 47, "forgets_payback", 48),
        ("/", 76, 2, "forgets_rest", 33),
        ("x", 17, 4, "mixes_tables", 64),  # 7 x 4 taken for 24
        ("x", 47, 3, "adds_for_times", 50),
        ("-", 85, 47, "adds_for_minus", 132),
        ("-", 38, 85, None, 47),  # turned round
    ],
)
def test_results_of_single_bugs(sign, left, right, bug, result):
    assert work(sign, left, right, {bug} - {None})[1] == result


def test_mixed_up_products_are_wrong():
    assert all(first * second != product for (first, second), product in MIXED_UP.items())


def column_is_right(column: str) -> bool:
    """Evaluate `8 - 4 - 1 = 3`, `4 x 3 + 2 = 14` or `7 / 2 = 3 left 1` without the code under test."""
    term, _, outcome = column.partition(" = ")
    if "/" in term:
        part, by = map(int, term.split(" / "))
        value, _, rest = outcome.partition(" left ")
        return part == by * int(value) + int(rest or 0) and int(rest or 0) < by
    total = 0
    for sign, product in re.findall(r"(^|[+-]) ?(\d+(?: x \d+)?)", term):
        factors = [int(factor) for factor in product.split(" x ")]
        total += (-1 if sign == "-" else 1) * factors[0] * (factors[1] if len(factors) > 1 else 1)
    return total == int(outcome)
