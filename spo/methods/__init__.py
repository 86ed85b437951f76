"""Methods: each makes Episodes from problems, and differs in nothing else. `METHODS` names them by `credit.kind`.

To add one: a dataclass in `spo.settings` (with a new `kind`), a file here with a `collect` function, a line below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spo.methods import chain, group, tree
from spo.methods.world import Collected, Memory, World
from spo.types import Problem

#: kind -> collect(world, problems, memory): one iteration's Episodes; memory is what the method carries to the next one
METHODS: dict[str, Callable[[World, Sequence[Problem], Memory], Collected]] = {
    "group": group.collect,
    "chain": chain.collect,
    "tree": tree.collect,
}
