"""The process in which expressions are evaluated: one JSON question a line in, one answer a line out.

Started by `pool`, killed by it when an answer takes too long.
"""

from __future__ import annotations

import json
import resource
import signal
import sys


def main() -> None:
    """Answer until the questions end; `most_bytes` and `timeout_s` are the arguments of the process."""
    most_bytes, timeout_s = int(sys.argv[1]), float(sys.argv[2])
    from spo.grading import evaluate

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
            if kind == "rounds to":
                answer = evaluate.rounds_to(_tree(first), second)
            elif kind == "close":
                answer = evaluate.close(_tree(first), _tree(second))
            else:
                answer = evaluate.same(_tree(first), _tree(second), ratio=kind == "ratio")
            print("equal" if answer else "different", flush=True)
        except (ValueError, ArithmeticError, TypeError, RecursionError):
            print("different", flush=True)
        except MemoryError:
            print("memory", flush=True)
            return
        signal.setitimer(signal.ITIMER_REAL, 0)


def _tree(item: object) -> object:
    return tuple(map(_tree, item)) if isinstance(item, list) else item


if __name__ == "__main__":
    main()
