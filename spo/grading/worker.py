"""The process in which expressions are evaluated: one JSON question per line in, one answer per line out.

Started by `pool`, killed by it when an answer takes too long.
"""

from __future__ import annotations

import json
import resource
import signal
import sys

#: whatever sympy and the LaTeX parser raise on text that they do not expect
_LIBRARY_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, SyntaxError)
_LIBRARY_ERRORS += (TypeError, ValueError)


def main() -> None:
    """Answer until the questions end; `most_bytes` and `timeout_s` are the arguments of the process."""
    most_bytes, timeout_s = int(sys.argv[1]), float(sys.argv[2])
    from spo.grading import evaluate  # noqa: F401 - before the limits

    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Both may come to a whole group of processes, and are for the one that started this one: it finishes what it does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        # If the parent dies, nobody is there to kill this process; the default action of SIGALRM does.
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1)
        kind, first, second = json.loads(line)
        try:
            print(_answer(kind, first, second), flush=True)
        except MemoryError:
            print("memory", flush=True)
            return
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(kind: str, first: object, second: object) -> str:
    from spo.grading import evaluate

    if kind == "load":
        import math_verify  # noqa: F401 - takes seconds, which the first question must not pay for

        return "loaded"
    if kind == "math_verify":
        return _verified(first, second)
    try:
        if kind == "rounds to":
            right = evaluate.rounds_to(_tree(first), second)
        elif kind == "close":
            right = evaluate.close(_tree(first), _tree(second))
        else:
            right = evaluate.same(_tree(first), _tree(second), kind == "ratio", kind == "identity")
    except (ValueError, ArithmeticError, TypeError, RecursionError):
        return "different"
    return "equal" if right else "different"


def _verified(reference: str, response: str) -> str:
    """The verdict of math-verify, and after a tab what it extracted, as JSON.

    Its own time limits are off: they need the alarm signal that ends this process if its parent dies.
    """
    import math_verify

    try:
        gold = math_verify.parse(rf"\boxed{{{reference}}}", parsing_timeout=None)
        found = math_verify.parse(response, parsing_timeout=None)
        if not found:
            return "no answer"
        right = math_verify.verify(gold, found, timeout_seconds=None)
    except _LIBRARY_ERRORS as error:
        return f"error\t{json.dumps(type(error).__name__)}"
    return f"{'equal' if right else 'different'}\t{json.dumps(str(found[-1]))}"


def _tree(item: object) -> object:
    return tuple(map(_tree, item)) if isinstance(item, list) else item


if __name__ == "__main__":
    main()
