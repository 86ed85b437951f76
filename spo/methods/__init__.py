"""Methods: each makes Episodes from problems, and differs in nothing else. `METHODS` names them by `credit.kind`.

To add one: a dataclass in `spo.settings` (with a new `kind`), a file here with a `collect` function, a line in
`METHODS`; a case in `most_episodes` and a line in `OBJECTIVES` only where the rule there does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spo.methods import accepted, chain, critic, group, pairs, tree
from spo.methods.world import Collected, Memory, World
from spo.settings import Accepted, Credit, Pairs, Train, Tree
from spo.types import Problem

#: kind -> collect(world, problems, memory): one iteration's Episodes; memory is what the method carries to the next one
METHODS: dict[str, Callable[[World, Sequence[Problem], Memory], Collected]] = {
    "group": group.collect,
    "chain": chain.collect,
    "tree": tree.collect,
    "critic": critic.collect,
    "accepted": accepted.collect,
    "pairs": pairs.collect,
}

#: kind -> what its Episodes are learnt with, a name in `spo.training.optimize.OBJECTIVES`; the others: `loss.objective`
OBJECTIVES = {"accepted": "nll", "pairs": "preference"}


def objective(settings: Train) -> str:
    """The name in `spo.training.optimize.OBJECTIVES` of what a run minimises."""
    return OBJECTIVES.get(settings.credit.kind, settings.loss.objective)


def most_episodes(credit: Credit, problems: int) -> int:
    """Episodes that an iteration over so many problems trains on at most.

    >>> from spo.settings import Group
    >>> most_episodes(Group(samples_per_problem=8), 4), most_episodes(Pairs(samples_per_problem=5), 4)
    (32, 48)
    """
    match credit:
        case Tree():
            return credit.episodes_per_iteration
        case Accepted():
            return problems * min(credit.samples_per_problem, credit.keep_per_problem)
        case Pairs():
            half, other = credit.samples_per_problem // 2, -(-credit.samples_per_problem // 2)
            return problems * 2 * min(half * other, credit.pairs_per_problem)
    return problems * credit.samples_per_problem
