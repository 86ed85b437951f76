"""The grader math_verify: the library itself, in the worker that can be killed."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from spo.grading import GRADERS, library, pool
from spo.types import Verdict

GRADE = GRADERS["math_verify"].grade


@pytest.fixture
def fresh():
    """A worker of its own, before and after."""
    pool.stop()
    yield
    pool.stop()


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        (r"\frac{1}{2}", r"Thus $\boxed{0.5}$.", True),
        (r"\frac{1}{2}", r"Thus $\boxed{\frac{2}{4}}$.", True),
        (r"\frac{1}{2}", r"Thus $\boxed{\frac{1}{3}}$.", False),
        ("5", "The answer is 5.", True),
        ("5", "The final answer is $5$. I hope it is correct.", True),
        (r"\{1,3\} \cup \{2,4\}", r"$\boxed{\{1,2,3,4\}}$", True),
        ("(1,2)", r"$\boxed{(2,1)}$", False),
        (r"2\sqrt{2}", r"$\boxed{\sqrt{8}}$", True),
    ],
)
def test_math_verify_gives_the_verdict_of_the_library(answer, response, correct):
    """The verdicts that the library documents: values, fractions, sets without order, tuples with one."""
    verdict = GRADE(answer, response)
    assert verdict.correct == correct and verdict.reason == ("equal" if correct else "different")


def test_math_verify_says_what_it_extracted_and_what_is_no_answer():
    assert GRADE("5", r"$\boxed{\frac{2}{4}}$") == Verdict(False, r"\frac{2}{4}", "different")
    assert GRADE("5", "I give up") == Verdict(False, None, "no answer")


def test_math_verify_that_hangs_is_killed_and_the_next_answer_is_graded(fresh, monkeypatch):
    assert GRADE("5", "5").correct
    first = pool._worker[1]
    monkeypatch.setattr(pool, "TIMEOUT_S", 0.5)
    assert GRADE("6", r"$\boxed{9^{9^{9^{9}}}}$") == Verdict(False, None, "timeout")
    assert first.poll() is not None
    monkeypatch.undo()
    assert GRADE("5", "5").correct
    assert pool._worker[1].pid != first.pid


def test_math_verify_that_raises_is_wrong_with_a_reason(monkeypatch):
    monkeypatch.setattr(library.pool, "verify", lambda *_: ("error", "RecursionError"))
    assert GRADE("5", "5") == Verdict(False, "RecursionError", "error")


def test_worker_reports_an_error_of_the_library(monkeypatch):
    import math_verify

    from spo.grading import worker

    def fails(*_, **__):
        raise RecursionError

    monkeypatch.setattr(math_verify, "verify", fails)
    assert worker._answer("math_verify", "5", "5") == 'error\t"RecursionError"'


def test_math_verify_works_in_threads():
    """The library's own time limit raises in a thread; the worker grades in its main thread."""
    found = []
    threads = [
        threading.Thread(target=lambda i=i: found.append(GRADE(str(i), rf"$\boxed{{{i}}}$").correct)) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_the_library_is_imported_in_the_worker_alone():
    code = (
        "import sys\nfrom spo.grading import GRADERS\nassert GRADERS['math_verify'].grade('5', '5').correct\n"
        "assert not {'sympy', 'math_verify', 'latex2sympy2_extended'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
