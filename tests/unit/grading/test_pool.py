"""Hostile responses and the worker process: everything is bounded, and nothing that a model writes is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from spo.grading import GRADERS, pool

PUZZLE = "(1) Zoey is a knight\n(2) Oliver is a knave"
BOMBS = [
    "9**9**9**9",
    "9**(9**(9**9))",
    r"\boxed{9^{9^{9^9}}}",
    r"\boxed{2^{2^{2^{2^{2^{2}}}}}}",
    r"\boxed{(10^8)!}",
    r"\boxed{(((9!)!)!)!}",
    r"\boxed{\binom{10^9}{5 \cdot 10^8}}",
    r"\boxed{\sum_{i=1}^{10^{10}} i}",
    r"\boxed{1.0000000001^{10^{30}}}",
    r"\boxed{\sin(10^{10^{10}})}",
    "\\boxed{" + "(" * 3000 + "1" + ")" * 3000 + "}",
    "\\boxed{" + "\\frac{1}{1+" * 400 + "1" + "}" * 400 + "}",
    "\\boxed{" + "9" * 200_000 + "}",
    "\\boxed{" + "\\log(" * 200 + "2" + ")" * 200 + "}",
    r"\boxed{\ln\ln\ln\ln\ln 5}",
    "\\boxed{" + "7+" * 499 + "7}",
    "\\boxed{" + "x+" * 149 + "x}",
    "\\boxed{5" + "!" * 298 + "}",
    "\\boxed{2" + "^2" * 149 + "}",
    "\\boxed{" + ",".join("x" * 100) + "}",
    "\\boxed{" + "=".join("x" * 100) + "}",
    "\\boxed{" + "\\pm 1" * 90 + "}",
    "\\boxed{\x00\x1b[2J\u202e5\u200f}",
    "\\boxed{\ud800}",
    "\\boxed{" * 140_000,
    "\\boxed{" + "{" * 500_000,
    "\\boxed 5 " * 100_000,
    "$" * 1_000_000,
    "\\[" * 300_000,
    "$ x" * 300_000,
    "#" * 1_000_000,
    "#### " * 200_000,
    "#### 5-" * 100_000,
    "#### " + "9" * 1_000_000,
    "#### " + "9**" * 300_000 + "9",
    "#### " + "," * 1_000_000,
    "answer is " * 100_000,
    "answer to " * 100_000,
    "final " * 150_000,
    "=5" * 300_000,
    "1," * 400_000,
    "-" * 500_000,
    "\n" * 1_000_000 + "x",
    " " * 1_000_000 + "x",
    "\\text{" * 100_000,
    "<think>" * 100_000,
    "Zoey, " * 150_000,
    "Zoey is a " * 100_000,
    "CONCLUSION" * 100_000,
    "```\n" * 250_000,
    "[asy]" * 200_000,
    "\\begin{align*}" * 70_000,
    "there are 5 " * 80_000,
    "twenty " * 150_000,
    "<|im_end|>" * 100_000,
    "\n# Problem" * 100_000,
    "$x+y=" + "\\pmod" * 900 + "$",
    "\\boxed{0." + "3" * 900 + "\\ldots}",
    "\\boxed{0." + "37" * 450 + "8\\ldots}",
    "\\boxed{" + "1,111," * 150 + "1}",
    "\\boxed{" + "\\text{" * 150 + "}" * 150 + "}",
    "\\boxed{{" + "1 \\over " * 100 + "1}}",
    "\\boxed{9e999}",
    r"\boxed{\binom{1999.5}{n}}",
]


@pytest.mark.parametrize("grader", GRADERS)
def test_bombs_are_wrong_within_seconds_and_stored_short(grader):
    for bomb in BOMBS:
        if grader == "math_verify":
            pool.verify("6", "6")  # after a kill the library is loaded again, which is no part of the grading
        started = time.process_time()
        verdict = GRADERS[grader].grade(PUZZLE if grader == "knights" else "6", bomb)
        assert not verdict.correct
        assert verdict.extracted is None or len(verdict.extracted) <= 200
        assert time.process_time() - started < 5, bomb[:50]  # the worker has a deadline of its own


def test_nothing_is_run(tmp_path):
    target = tmp_path / "made"
    for text in (
        f"__import__('os').system('touch {target}')",
        f"open('{target}','w')",
        f"eval(\"open('{target}','w')\")",
    ):
        for grader in GRADERS:
            assert not GRADERS[grader].grade("6", rf"#### \boxed{{{text}}}").correct
    assert not target.exists()


def wide(depth: int) -> tuple:
    """A sum of 2**depth sines of a variable: seconds of work for 16, bounded in every number in it."""
    leaf = ("call", "sin", ("variable", "x"))
    for _ in range(depth):
        leaf = ("+", leaf, leaf)
    return leaf


@pytest.fixture
def impatient(monkeypatch):
    """A deadline of 0.3 seconds; workers and answers of other tests are forgotten, before and after."""
    pool.stop()
    pool.ask.cache_clear()
    monkeypatch.setattr(pool, "TIMEOUT_S", 0.3)
    yield
    pool.stop()
    pool.ask.cache_clear()


def test_a_worker_beyond_its_deadline_is_killed_and_replaced(impatient):
    assert pool.ask("value", ("number", "2"), ("number", "2")) == "equal"
    first = pool._worker[1]
    assert pool.ask("value", wide(16), ("number", "2")) == "timeout"
    assert first.poll() is not None
    assert pool.ask("value", ("number", "2"), ("number", "3")) == "different"
    assert pool._worker[1].pid != first.pid


def test_a_killed_workers_answer_is_remembered_and_wrong(impatient, monkeypatch):
    long = wide(16)
    assert pool.ask("value", long, ("number", "2")) == "timeout"
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_worker", None)  # nobody is asked again
        assert pool.ask("value", long, ("number", "2")) == "timeout"
        assert pool._worker is None
    monkeypatch.setattr("spo.grading.equal.parse", lambda text: long if text == "long" else ("number", "2"))
    verdict = GRADERS["math"].grade("2", r"\boxed{long}")
    assert (verdict.correct, verdict.reason) == (False, "timeout")


def test_memory_is_bounded(impatient, monkeypatch):
    monkeypatch.setattr(pool, "TIMEOUT_S", 20.0)
    monkeypatch.setattr(pool, "MOST_BYTES", 120 * 2**20)
    assert pool.ask("value", ("number", "1" * (60 * 2**20)), ("number", "2")) == "memory"
    assert pool.ask("value", ("number", "2"), ("number", "2")) == "equal"


def test_a_worker_that_was_killed_by_others_is_replaced():
    assert pool.ask("value", ("number", "5"), ("number", "5")) == "equal"
    pool._worker[1].kill()
    pool._worker[1].wait()
    assert pool.ask("value", ("number", "5"), ("number", "6")) == "different"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_outlives_what_tells_its_process_to_finish(number):
    """Both reach it where a whole group of processes is told; the process that asks still wants its answers."""
    assert pool.ask("value", ("number", f"80{number:d}"), ("number", f"80{number:d}")) == "equal"
    worker = pool._worker[1]
    worker.send_signal(number)
    assert pool.ask("value", ("number", f"80{number:d}"), ("number", "8")) == "different"
    assert pool._worker[1] is worker and worker.poll() is None


def test_threads_get_their_own_answers():
    found = {}

    def grade(number: int) -> None:
        found[number] = (
            GRADERS["math"].grade(rf"\frac{{1}}{{\sqrt{{{number}}}}}", rf"\boxed{{\sqrt{{{number}}}/{number}}}").correct
        )

    threads = [threading.Thread(target=grade, args=(number,)) for number in range(2, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(2, 12), True)


def test_a_forked_process_has_its_own_worker():
    assert pool.ask("value", ("number", "7"), ("number", "7")) == "equal"
    worker = pool._worker[1].pid
    child = os.fork()
    if child == 0:
        answer = pool.ask("value", ("number", "7"), ("number", "8"))
        own = pool._worker[1].pid
        pool.stop()
        os._exit(0 if answer == "different" and own != worker else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.ask("value", ("number", "7"), ("number", "9")) == "different"
    assert pool._worker[1].pid == worker


def test_the_worker_ends_with_its_process():
    code = (
        "from spo.grading import GRADERS, pool\n"
        r"GRADERS['math'].grade(r'\frac{1}{\sqrt{2}}', r'\boxed{\frac{\sqrt2}{2}}')" + "\nprint(pool._worker[1].pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not os.path.exists(f"/proc/{int(done.stdout)}")


def test_easy_answers_start_no_worker():
    code = (
        "from spo.grading import GRADERS, pool\n"
        r"assert GRADERS['math'].grade(r'\frac{1}{2}', r'\boxed{0.5}').correct" + "\n"
        "assert pool._worker is None\nimport sys\nassert 'mpmath' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
