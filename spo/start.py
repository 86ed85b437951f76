"""A program that runs a module of its own package, wherever it is called: `python -P start.py MODULE ARGUMENT ...`."""

from __future__ import annotations

import runpy
import sys
from importlib import util
from pathlib import Path


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module` of this package, and searches no module in the working folder."""
    return [sys.executable, "-P", str(Path(__file__).resolve()), module, *arguments]


def main() -> None:
    """Load the package that this file is part of, even if another one is installed, and run the module named first."""
    folder = Path(__file__).resolve().parent
    spec = util.spec_from_file_location("spo", folder / "__init__.py", submodule_search_locations=[str(folder)])
    sys.modules["spo"] = util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["spo"])
    sys.path.append(str(folder.parent))
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
