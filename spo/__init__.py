"""Segment Policy Optimization (arXiv 2505.23564), replicated as small functions and a Snakemake workflow."""

# Both are part of the interpreter: no file of the working folder can stand in for them.
import os
import sys

__version__ = "0.1.0"


def _close_working_folder() -> None:
    """Search no module in the working folder, where Python looks first for `-m`; nor in processes started from here."""
    if not sys.flags.safe_path:
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"
    # Last, so that a clone that is not installed is found, and none of its files before the standard library.
    clone = os.path.dirname(__path__[0])
    sys.path[:] = [*(entry for entry in sys.path if entry != clone), clone]


# Python leaves this name in place of the program's until it has found the module to run.
if sys.argv[:1] == ["-m"] and any(word.removeprefix("-m").partition(".")[0] == "spo" for word in sys.orig_argv):
    _close_working_folder()
