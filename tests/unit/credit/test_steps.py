"""Steps of solutions: golden values of the official splitting (spec §4.4), whatever the tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.partition import lines, math_steps
from spo.credit.steps import RULES, line_starts, math_starts, step_cuts
from spo.settings import Partition


def parts(text: str, starts: tuple[int, ...]) -> list[str]:
    return [text[a:b] for a, b in zip(starts, (*starts[1:], len(text)), strict=True)]


@pytest.mark.parametrize(
    "expected",
    [
        # Executed on the official function for GSM8K.
        ["1+1=2", "\n2+1=3\n#### 3"],
        ["1+1=2", "\n2+1=3\n#### 3\nThat is it.\n\nBye."],  # what follows the conclusion belongs to the last step
        ["\n\n1+1=2", "\n2+1=3\n\n \n#### 3\n"],  # empty lines at the start and before the conclusion
        ["a", "\n", "\nb", "\n"],  # elsewhere an empty line is a step
        ["a", "\n####42"],  # no conclusion: no blank follows
        ["a", "\n##### 42"],
        ["#### 42"],
        ["\n \n#### 42"],
        [""],
        ["\n"],
    ],
)
def test_line_starts_of_the_official_code(expected):
    text = "".join(expected)
    assert parts(text, line_starts(text)) == expected


def test_line_starts_takes_the_first_of_several_conclusions():
    text = "a\nb\n#### 1\nc\n#### 2"
    assert parts(text, line_starts(text)) == ["a", "\nb\n#### 1\nc\n#### 2"]


@pytest.mark.parametrize(
    "expected",
    [
        # Executed on the official function for MATH.
        [
            "Let $x$ be the number of apples.",
            " Then $2x+3=11.$",
            " Solving gives $x=4.$",
            r" The answer is $\boxed{4}$.",
        ],
        [
            "We factor the left side:",
            "\n\\begin{align*}\nx^2-5x+6&=0\\\\",
            "\n(x-2)(x-3)&=0.",
            "\n\\end{align*}",
            "\nSo the sum of the roots is $2+3=\\boxed{5}$.",
        ],
        [
            "By the theorem of A. Smith the area is half of it. See Fig.",
            " A for the picture of St. Anne.",
            r" It holds that \[a^2+b^2=c^2.\]",
            " Hence we find that $c=5.$",
        ],
        [
            "Since the first train leaves at noon and travels at sixty miles per hour,",
            " while the second train leaves one hour later and travels at eighty miles per hour,",
            " the second one needs three hours to catch up.",
        ],
        [
            "$1+2+3+4+5+6+7+8+9+10+11+12+13+14+15+16+17+18+19+20+",
            "21+22+23+24+25+26+27+28+29+30+31+32+33+34+35+36=666$",
        ],
        ["\n\nFirst line of text here", "\n\nshort\nlast line of the solution"],
    ],
)
def test_math_starts_of_the_official_code(expected):
    text = "".join(expected)
    assert parts(text, math_starts(text)) == expected


def test_math_starts_cuts_what_the_official_code_refuses():
    assert math_starts("x=4") == (0,)
    text = "We find that the value is\n\\begin{cases}\n1 & \\text{if $x>0.$ And}\\\\\n2 & 0\n\\end{cases}\nin the end."
    assert "".join(parts(text, math_starts(text))) == text
    assert parts(text, math_starts(text))[0] == "We find that the value is"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], (0,)),
        (["a", "\n", "b", "\n", "c"], (0, 1, 3, 5)),
        (["a", "\n", "b", "\n", "#### 3", ""], (0, 1, 6)),  # the end-of-sequence token has no text
        (["a", ".\n", "b", "\n#", "### 3", "\n"], (0, 2, 6)),  # a token belongs to the step in which it begins
        (["a", "", "\n", "b"], (0, 1, 4)),
        (["a\nb\nc", "d"], (0, 1, 2)),
    ],
)
def test_step_cuts_puts_a_token_into_the_step_in_which_it_begins(pieces, expected):
    assert step_cuts(line_starts, pieces) == expected
    assert lines([0.0] * len(pieces), pieces, Partition(name="lines")) == expected


def test_math_steps_cuts_before_blanks_and_formulas():
    pieces = [
        "Let $x$ be",
        " the number of apples",
        ".",
        " Then",
        " $2x+",
        "3=11.$",
        " So",
        " $x$",
        " is the number four.",
        "",
    ]
    assert math_steps([0.0] * 10, pieces, Partition(name="math_steps")) == (0, 3, 6, 10)


texts = st.lists(
    st.sampled_from(
        ["a", "\n", "####", " ", ". B", "$x$", "$", r"\[y.\]", "#### 4", r"\begin{a}", r"\end{a}", "word " * 9, ","]
    ),
    max_size=14,
)


@pytest.mark.parametrize("rule", RULES)
@given(texts)
def test_starts_begin_at_0_and_rise(rule, pieces):
    starts = RULES[rule]("".join(pieces))
    assert starts[0] == 0 and list(starts) == sorted(set(starts))
    assert starts[-1] < max(1, len("".join(pieces)))


@pytest.mark.parametrize("rule", RULES)
@given(texts)
def test_cuts_do_not_depend_on_how_text_is_cut_into_tokens(rule, pieces):
    text = "".join(pieces)
    fine = step_cuts(RULES[rule], list(text))
    starts = [len("".join(pieces[:n])) for n in range(len(pieces))]
    assert fine == tuple(sorted({*RULES[rule](text), len(text)}))
    coarse = step_cuts(RULES[rule], pieces)
    assert all(cut == len(pieces) or any(start <= starts[cut] for start in fine) for cut in coarse)
