"""The published grading rules: expectations traced by hand through the public code of VinePPO's tasks (spec §7.1)."""

from __future__ import annotations

import gzip
import json

import pytest

from spo.grading import GRADERS, reward
from spo.grading.official import normal
from spo.grading.sympy_text import may_be_evaluated, mixed, text_of

# answer, response, reward: 1 right, 0 wrong, -2 several conclusions
GSM8K = [
    ("42", "so\n#### 42", 1),
    ("42", "##### 42", 0),  # split at the first four: "# 42"
    ("42", "###### 42", 0),
    ("42", "####### 42", 0),  # three are left over
    ("# 42", "##### 42", 1),
    ("42", "######## 42", -2),  # eight are two
    ("42", "#### 42\n#### 42", -2),
    ("42", "## Step\n#### 42", 1),
    ("42", "### 42", 0),
    ("42", "#### 42.", 0),
    ("42", "#### 4,2", 1),
    ("42", "####42", 1),
    ("42", "#### 42 ,", 0),  # the comma goes, the blank before it stays
    ("42", "#### 42\n\n", 1),
    ("42", "#### \n42", 1),
    ("42", "#### 42 apples", 0),
    ("42", "42", 0),
    ("", "text ####", 1),
    ("1080", "#### 1,080", 1),
    ("1,080", "#### 1,080", 0),
    ("abc", "#### ABC", 1),
]
MATH = [
    # which text is the answer
    ("7", "Hence the answer is 7.", 1),
    ("7", "The answer is: 7", 1),
    ("7", "He answer is 7 or the answer is 8", 0),  # the last
    ("7", "3 and 7", 1),  # the last number, so that a text cut off can be right
    ("7", "none", 0),
    ("5", "so x = .5", 0),  # the point belongs to the number
    (".5", "so x = .5", 1),
    ("0.5", "so x = .5", 1),
    ("-.5", "so x = -.5", 1),
    ("5", "1.5", 0),
    ("1234", "It is 1,234 in all", 1),
    ("3", "The number is 3.", 1),
    ("7", "```output\n7\n```\nbut 8", 1),
    ("8", "```output\n7\n```\nbut 8", 0),
    ("42", r"\boxed{42", 0),
    ("42", r"so \boxed 42", 0),
    ("42", r"the answer is \boxed{42", 0),  # "boxed" in the text: nothing else is looked at
    ("42", r"\fbox{42}", 1),  # no box, but the last number
    ("7", r"\boxed{6} \boxed{7}", 1),
    ("7", r"\boxed{7} \boxed{8}", 0),
    ("3", r"\boxed{\boxed{3}}", 1),
    ("7", r"\boxed{7} and \boxed{8", 1),
    ("x+1", "The final answer is $1+x$. I hope it is correct.", 1),
    ("3", "The final answer is $3$. I hope it is correct. The final answer is $4$. I hope it is correct.", 1),
    ("4", "The final answer is $3$. I hope it is correct. The final answer is $4$. I hope it is correct.", 0),
    ("3", r"\boxed{4} The final answer is $3$. I hope it is correct.", 1),
    ("3", r"\boxed{3} The final answer is: $4$. I hope it is correct.", 1),  # the colon: boxes count
    ("7", "#### 7\n#### 7", -2),
    ("7", r"#### \boxed{7}", 1),
    # several answers
    (r"3 \text{ and } 4", r"\boxed{3} \boxed{4}", 1),
    (r"3 \text{ and } 4", r"\boxed{4}", 0),
    (r"5 \text{ and } 6", r"\boxed{6 \text{ and } 5}", 1),
    (r"5 \text{ and } 6", r"\boxed{5 \text{ and } 7}", 0),
    ("1,2", r"\boxed{2,1}", 1),
    ("1,2,3", r"\boxed{1,2}", 0),
    ("1,2", r"\boxed{1}, \boxed{2}", 1),
    ("12", r"\boxed{1,2}", 1),  # one answer: commas in numbers do not count
    (r"10,\!080", r"\boxed{10080}", 1),
    ("10,080", r"\boxed{10080}", 1),
    ("2", r"\boxed{2} so \boxed{3} and \boxed{2}", 0),  # of equal ones the first stays: 2, 3
    # numbers
    ("0.333", r"\boxed{\frac13}", 1),
    ("50", r"\boxed{0.5}", 1),
    ("0.5", r"\boxed{50}", 1),
    (r"50\%", r"\boxed{50}", 1),
    (r"50\%", r"\boxed{0.5}", 1),
    ("3", r"\boxed{3.0009}", 1),
    ("3", r"\boxed{3.002}", 0),
    ("3.0", r"\boxed{3}", 1),
    (r"\sqrt{2}", r"\boxed{1.414}", 1),
    (r"\sqrt{2}", r"\boxed{1.41}", 0),
    ("1.414", r"\boxed{\sqrt2}", 1),
    (r"2\sqrt{2}", r"\boxed{2.828}", 0),  # no sign between 2 and the root: not a number for sympy
    (r"\pi", r"\boxed{3.141}", 1),
    (r"\pi", r"\boxed{3.14}", 0),
    (r"\frac{22}{7}", r"\boxed{\pi}", 0),  # 3.1429 and 3.1416
    (r"\frac{1}{3}", r"\boxed{0.3333}", 1),
    # values
    (r"2\sqrt2", r"\boxed{\sqrt{8}}", 1),
    (r"\frac{1}{2}", r"\boxed{1/2}", 1),
    (r"\frac{1}{2}", r"\boxed{\dfrac12}", 1),
    (r"\frac{5}{2}", r"\boxed{2\frac{1}{2}}", 1),
    (r"x^2+2x+1", r"\boxed{(x+1)^2}", 1),
    (r"x+y+z", r"\boxed{z+y+x}", 0),  # three letters
    (r"x^{10}", r"\boxed{x^{5} x^{5}}", 0),  # a large power is not evaluated
    (r"2^{10}", r"\boxed{1024}", 0),
    (r"1+\frac{\sqrt5}{2}", r"\boxed{\frac{1+\sqrt5}{2}}", 1),  # a numerator without brackets
    ("3+4i", r"\boxed{4i+3}", 1),
    ("-1", r"\boxed{i^2}", 0),  # i is a letter
    ("x=5", r"\boxed{5}", 1),
    ("5", r"\boxed{x=5}", 1),
    ("5", r"\boxed{abc=5}", 0),
    ("y=2x+1", r"\boxed{2x+1=y}", 1),
    ("y=2x+1", r"\boxed{y=2x+2}", 0),
    (r"\frac{13}{4}", r"\boxed{3.251}", 1),  # just 0.001 apart: of doubles 3.251 - 3.25 is less, 0.401 - 0.4 more
    (r"\frac{2}{5}", r"\boxed{0.401}", 0),
    ("x", r"\boxed{\sqrt{x^2}}", 0),  # letters are complex
    ("x+3", r"\boxed{\sqrt{(x+3)^2}}", 0),
    ("3x", r"\boxed{\sqrt{9}x}", 1),
    (r"x(x+1)", r"\boxed{x^2+x}", 1),
    (r"(x+1)x", r"\boxed{x^2+x}", 1),
    ("4N+1", r"\boxed{1+4N}", 0),  # N, O, Q and S are names of sympy's own
    ("4M+1", r"\boxed{1+4M}", 1),
    ("xin+1", r"\boxed{1+nix}", 0),
    ("1413", r"\boxed{14_{13}}", 1),  # as a number of Python: 14_13 is 1413
    (r"14_{13}", r"\boxed{1413.0}", 1),
    (r"\csc 10", r"\boxed{10}", 1),  # csc is a command that is not known
    # per cent signs begin a comment of LaTeX
    (r"\frac{2}{3}", r"\boxed{\frac{2}{3}\%}", 1),
    (r"2\sqrt{5}", r"\boxed{\sqrt{20}%}", 1),
    ("2D", "The answer is 2D%.", 1),
    (r"\frac{1}{2}", r"\boxed{50\%}", 0),
    ("x", r"\boxed{x\%+1}", 1),
    # form
    (r"10\text{ cm}", r"\boxed{10}", 1),
    (r"\$10", r"\boxed{10}", 1),
    (r"90^\circ", r"\boxed{90}", 1),
    (r"\text{(C)}", r"\boxed{C}", 1),
    (r"\text{even}", r"\boxed{even}", 1),
    (r"\text{Even}", r"\boxed{even}", 0),
    ("6", r"\boxed{2 \cdot 3}", 0),  # the dot goes: 23
    ("23", r"\boxed{2 \cdot 3}", 1),
    (r"(-\infty,2)", r"\boxed{(-\infty,2]}", 1),  # brackets do not count
    ("(1,2)", r"\boxed{[1,2]}", 1),
    ("(1,2)", r"\boxed{(2,1)}", 0),
    (r"(1,\frac12)", r"\boxed{(1,0.5)}", 1),
    ("(1,2)", r"\boxed{1,2}", 0),
    (r"(1,2)\cup(3,4)", r"\boxed{(3,4)\cup(1,2)}", 1),
    (r"(1,2)\cup(3,4)", r"\boxed{(1,2)}", 0),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{\begin{bmatrix} 1 \\ 2 \end{bmatrix}}", 1),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\boxed{\begin{pmatrix}1&2\\3&5\end{pmatrix}}", 0),
    (r"\{1,2\}", r"\boxed{\{2,1\}}", 0),
    (r"2\pm\sqrt{8}", r"\boxed{2\pm2\sqrt{2}}", 0),
    (r"\mathbb{R}", r"\boxed{R}", 0),
    (r"2{,}016{,}532", r"\boxed{2016532}", 0),
    (r"\$115,000", r"\boxed{115000}", 1),
    (r"11,\! 111,\! 111", r"\boxed{11111111}", 1),
    ("45, 135, 225", r"\boxed{225,45,135}", 1),
    (r"45^\circ, 135^\circ, 225^\circ", r"\boxed{225,45,135}", 1),
    (r"\frac{12}{5,\!525}", r"\boxed{525}, \boxed{\frac{12}{5}}", 0),
]


@pytest.mark.parametrize(("answer", "response", "expected"), GSM8K)
def test_gsm8k_official_gives_the_published_reward(answer, response, expected):
    assert reward(GRADERS["gsm8k_official"].grade(answer, response)) == expected


@pytest.mark.parametrize(("answer", "response", "expected"), MATH)
def test_math_official_gives_the_published_reward(answer, response, expected):
    assert reward(GRADERS["math_official"].grade(answer, response)) == expected


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        (" 5. ", "5"),
        (r"\text{blue}", "blue"),
        (r"3\text{ miles}", "3"),
        (r"\left(1,2\right)", "(1,2)"),
        (r"\tfrac34", r"\frac{3}{4}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        ("3/4", r"\frac{3}{4}"),
        ("3/04", "3/04"),
        ("3.50", "3.50"),
        ("3.00", "3"),
        ("(.5,1)", "(.5,1)"),
        ("-.5", "-.5"),
        (".5", "0.5"),
        (r"{.5}", "{0.5}"),
        (r"\sqrt5", r"\sqrt{5}"),
        (r"x\in[1,2]", "[1,2]"),
        ("inf", r"\infty"),
        ("infinity", r"\infty"),
        ("3j", "3i"),
        ("jij", "jij"),
        (r"5\mbox{ cm}", "5"),
        ("5 t", "5"),
        (r"\mathrm{m}^2", ""),
        ("4p.m.", "4p.m"),
        (r"5,\ ", "5"),
        # As the official function has them, one change after the other.
        (r"5\\%", "5%"),
        ("5.0.0x", "5.0x"),
        ("-0/5", "-0/5"),
        ("0/5", r"\frac{0}{5}"),
        ("dtfrac12", r"frac12"),
        (r"x\\$in4", "4"),
        (r"\frac12+\frac", r"\frac12+\frac"),
        (r"\frac12\sqrt3", r"\frac{1}{2}\sqrt{3}"),
        (r"2\sqrt x", r"2\sqrt{x}"),
    ],
)
def test_normal_is_the_published_form(text, normalised):
    assert normal(text) == normalised


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\frac{1}{2}", "1/2"),
        (r"\sqrt{2}", "sqrt(2)"),
        (r"\sqrt[3]{2}", "sqrt(2)"),
        (r"x^{2}", "x^2"),
        (r"\binom{5}{2}", "52"),
        (r"2\times3", "2*3"),
        (r"\frac{\pi}{3}", "pi/3"),
        (r"2\cdot3", "2*3"),
        (r"4\%", "4%"),
        ("4%", "4"),
        (r"\sqrt{2%}", "sqrt(2)"),
        (r"\cot x+\sec{y}", "x+y"),
        (r"\arctan{x}", "arctanx"),
        (r"52\,284", "52 284"),
        (r"\Delta+\ell", "Δ+ℓ"),
        (r"5\mbox{ cm}", "5"),
        (r"\sqrt[3]{8}x", "sqrt(8)x"),
        (r"\frac\pi2", "pi/2"),
    ],
)
def test_text_of_writes_latex_as_the_published_rule_does(latex, text):
    assert text_of(latex) == text


def test_may_be_evaluated_refuses_words_and_large_powers():
    assert may_be_evaluated("sqrt(2)+pi+x+y") and mixed("2 1/2") == "2+1/2"
    assert not any(may_be_evaluated(text) for text in ("x+y+z", "arccos(1)", "2^10", "2^(3)", "2**3**4", "100!"))


def test_math_official_gives_no_reward_for_truncated_text(data_folder):
    """Solutions of MATH cut inside their box: nothing is stated, although the box has begun with the answer."""
    rows = [
        json.loads(line) for line in gzip.decompress((data_folder / "math/test.jsonl.gz").read_bytes()).splitlines()
    ]
    cut = [
        (row["answer"], row["solution"][: row["solution"].index(r"\boxed{") + 7] + row["answer"])
        for row in rows
        if row["solution"].count("boxed") == 1 and r"\boxed{" in row["solution"]
    ]
    assert len(cut) > 4_000
    assert {GRADERS["math_official"].grade(answer, text).reason for answer, text in cut} == {"no answer"}


def test_math_official_accepts_the_reference_solutions(data_folder):
    rows = [
        json.loads(line) for line in gzip.decompress((data_folder / "math/test.jsonl.gz").read_bytes()).splitlines()
    ]
    wrong = [
        row["answer"] for row in rows if not GRADERS["math_official"].grade(row["answer"], row["solution"]).correct
    ]
    assert wrong == []
