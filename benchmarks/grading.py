"""How fast the graders are on ordinary answers, and on answers of which one in a hundred is hostile.

`python benchmarks/grading.py` prints a table and writes benchmarks/results/grading.csv; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tables

from spo import seeds, store
from spo.grading import GRADERS, pool

ROOT = Path(__file__).parents[1]
#: What is compared with: the floor, and another project's grader.
FLOOR, PEER = "exact", "math_verify"
#: The peer has one answer for so many of ours: it takes milliseconds for each, and seconds for a hostile one.
PEER_SHARE = 20
WARM_ANSWERS = 50

#: (answer, response text) -> is it right?
Judge = Callable[[str, str], bool]


class Case(NamedTuple):
    """A response, and whether it is right."""

    right: bool
    answer: str
    response: str


@dataclass(frozen=True)
class Row:
    """One line of the table: medians over the repeats; `peer_over_this` is None where there is no peer.

    `peer_over_this` and `floor_over_this` are ratios of seconds an answer. Speeds are of processor time, the worker's
    included, ± the distance between the quartiles; the other seconds are the clock's.
    """

    set: str
    hostile_share: float
    way: str
    peer_over_this: float | None
    floor_over_this: float
    answers_per_s: float
    spread: float
    seconds_for_10000: float
    slowest_answer_s: float
    agreement: float
    answers: int


class Timing(NamedTuple):
    """Of one turn: seconds an answer, of processor time and of the clock; the slowest; the share judged as labelled."""

    cpu_s: float
    wall_s: float
    slowest_s: float
    agreement: float


# ---- what is graded -------------------------------------------------------------------------------------------------


def labelled() -> dict[str, list[Case]]:
    """The pairs that the tests of the graders have, by set."""
    sys.path.append(str(ROOT))
    from tests.unit.grading.test_pairs import PAIRS
    from tests.unit.grading.test_tables import CASES

    sets: dict[str, list[Case]] = {}
    for grader, *case in [*CASES, *(pair[:4] for pair in PAIRS)]:
        sets.setdefault(grader, []).append(Case(*case))
    sets["aime"] += [case for case in sets["math"] if case.answer.isdigit() and len(case.answer) <= 3]
    return sets


def solutions(folder: Path) -> dict[str, list[Case]]:
    """Reference solutions of MATH and GSM8K in `folder`, every second one with the answer of a problem far away."""
    math = [(row["answer"], row["solution"]) for row in store.read_jsonl(folder / "math/test.jsonl.gz")]
    gsm8k = [(row["answer"].rpartition("####")[2].strip(), row["answer"]) for row in _gsm8k(folder)]
    return {"math solutions": _half_wrong(math), "gsm8k solutions": _half_wrong(gsm8k)}


def _gsm8k(folder: Path) -> list[dict]:
    return store.read_jsonl(folder / "gsm8k/train.jsonl.gz")


def _half_wrong(pairs: Sequence[tuple[str, str]]) -> list[Case]:
    out = []
    for i, (answer, solution) in enumerate(pairs):
        other = pairs[(i + len(pairs) // 2) % len(pairs)][0] if i % 2 else answer
        out.append(Case(other == answer, other, solution))
    return out


def hostile() -> list[str]:
    """The texts that the tests call bombs."""
    sys.path.append(str(ROOT))
    from tests.unit.grading.test_pool import BOMBS

    return BOMBS


def drawn(cases: Sequence[Case], count: int, bombs: Sequence[str], share: float, seed: int) -> list[Case]:
    """`count` cases in random order, again from the first when all have been there, and hostile responses to a `share`
    of them.

    >>> case = Case(True, "5", "#### 5")
    >>> [each.response for each in drawn([case], 4, ["9" * 3], 0.25, seed=0)].count("999")
    1
    """
    rng = seeds.generator("grading", seed)
    passes = -(-count // len(cases))
    out = [cases[i] for i in np.concatenate([rng.permutation(len(cases)) for _ in range(passes)])[:count]]
    for place in rng.choice(count, round(count * share), replace=False):
        out[place] = Case(False, out[place].answer, bombs[rng.integers(len(bombs))])
    return out


# ---- who grades -----------------------------------------------------------------------------------------------------


def exact(answer: str, response: str) -> bool:
    """The floor: find the last mark, compare what follows it as text.

    >>> exact("5", r"so \\boxed{5}"), exact("5", "#### 5"), exact("5", "five")
    (True, True, False)
    """
    mark, box = response.rfind("####"), response.rfind("\\boxed{")
    stated = response[mark + 4 :] if mark > box else response[box + 7 : response.rfind("}")]
    return stated.strip() == answer


def ours(name: str) -> Judge:
    grade = GRADERS[name].grade
    return lambda answer, response: grade(answer, response).correct


def peer() -> Judge:
    """math-verify in this process, with its own time limits."""
    from math_verify import parse, verify

    logging.disable(logging.ERROR)  # it tells of every answer that it cannot read
    return lambda answer, response: verify(parse(rf"\boxed{{{answer}}}"), parse(response))


#: set -> those of our graders that are made for it
OURS = {
    "gsm8k": ("gsm8k", "gsm8k_official", "final_line"),
    "math": ("math", "math_official"),
    "aime": ("aime",),
    "knights": ("knights",),
    "gsm8k solutions": ("gsm8k", "gsm8k_official"),
    "math solutions": ("math", "math_official"),
}


def judges(name: str) -> dict[str, Judge]:
    others = {} if name == "knights" else {PEER: peer()}
    return {grader: ours(grader) for grader in OURS[name]} | {FLOOR: exact} | others


# ---- how long it takes ----------------------------------------------------------------------------------------------


def timed(judge: Judge, cases: Sequence[Case], distinct: int) -> Timing:
    """One turn. Before every `distinct` cases what was remembered is forgotten: no answer is met a second time."""
    pool.stop()
    before, start, slowest, agreed = _cpu_s(), time.perf_counter(), 0.0, 0
    for i, case in enumerate(cases):
        if i % distinct == 0:
            _forget()
        begin = time.perf_counter()
        agreed += judge(case.answer, case.response) == case.right
        slowest = max(slowest, time.perf_counter() - begin)
    wall = time.perf_counter() - start
    pool.stop()  # a process's time is known when it has ended
    return Timing((_cpu_s() - before) / len(cases), wall / len(cases), slowest, agreed / len(cases))


def _forget() -> None:
    pool.ask.cache_clear()
    if "sympy" in sys.modules:  # the peer's
        sys.modules["sympy"].core.cache.clear_cache()


def _cpu_s() -> float:
    """Of this process and those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(sets: Mapping[str, Sequence[Case]], answers: int, repeats: int, shares: Sequence[float]) -> list[Row]:
    """Ways take turns on the same answers, new ones each turn, so that whatever else the machine does meets all."""
    bombs, out = hostile(), []
    for name, cases in sets.items():
        ways = judges(name)
        for share in shares:
            counts = {way: max(1, answers // PEER_SHARE) if way == PEER else answers for way in ways}
            turns: dict[str, list[Timing]] = {way: [] for way in ways}
            for seed in range(repeats + 1):
                for way, done in turns.items():
                    # The first turn is short, and only makes everything ready.
                    count = counts[way] if seed else min(counts[way], WARM_ANSWERS)
                    turn = timed(ways[way], drawn(cases, count, bombs, share, seed), len(cases))
                    done.extend([turn] if seed else [])
            out += [_row(name, share, way, turns, counts[way]) for way in ways]
    return out


def _row(name: str, share: float, way: str, turns: Mapping[str, Sequence[Timing]], answers: int) -> Row:
    seconds = {each: np.array([turn.cpu_s for turn in done]) for each, done in turns.items()}
    own = seconds[way]
    low, middle, high = np.quantile(1 / own, [0.25, 0.5, 0.75])
    over = {each: float(np.median(seconds[each] / own)) for each in (PEER, FLOOR) if each in seconds}
    wall, slowest = np.median([turn.wall_s for turn in turns[way]]), max(turn.slowest_s for turn in turns[way])
    agreement = float(np.mean([turn.agreement for turn in turns[way]]))
    speeds = (float(middle), float(high - low), float(10_000 * wall), float(slowest))
    return Row(name, share, way, over.get(PEER), over[FLOOR], *speeds, agreement, answers)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hostile", type=float, nargs="+", default=[0.0, 0.01], metavar="SHARE", help="of the answers")
    parser.add_argument("--sets", nargs="+", choices=list(OURS), help="default: all; solutions need SPO_DATA")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "grading.csv")
    options = parser.parse_args(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # the worker's processor is this one's
    sets = labelled() | (solutions(Path(os.environ["SPO_DATA"])) if os.environ.get("SPO_DATA") else {})
    chosen = {name: cases for name, cases in sets.items() if options.sets is None or name in options.sets}
    table = measure(chosen, options.answers, options.repeats, options.hostile)
    tables.write(options.output, table)
    print(f"{'set':<15} {'hostile':>7} {'way':<14} {'peer/this':>9} {'floor/this':>10} {'agrees':>7}  answers/s")
    for row in table:
        head = f"{row.set:<15} {row.hostile_share:>7.0%} {row.way:<14}"
        over = f"{row.peer_over_this:>9.1f}" if row.peer_over_this else f"{'–':>9}"
        speed = f"{row.answers_per_s:.0f} ± {row.spread:.0f}; 10,000 in {row.seconds_for_10000:.1f} s"
        slowest = f"slowest {row.slowest_answer_s:.2f} s"
        print(f"{head} {over} {row.floor_over_this:>10.4f} {row.agreement:>7.1%}  {speed}, {slowest}")


if __name__ == "__main__":
    main()
