"""Every setting of every stage, as frozen dataclasses: the one place where a key, its unit and its default are written.

`spo.config` validates YAML into these; other rooms receive them ready-made. `config/README.md` and the JSON schema are
generated from these files (a string under a field is its description).
"""

from spo.settings.base import Above, AtLeast0, Count, Positive, Share, changed, settings
from spo.settings.methods import Accepted, Chain, Credit, Critic, Group, Pairs, Partition, Replay, Tree
from spo.settings.models import Architecture, Dataset, Model, Optimizer, Sft, Tokenizer
from spo.settings.training import Audit, Loss, Memory, Protocol, Trace, Train, binding

__all__ = [
    "Above",
    "Accepted",
    "Architecture",
    "AtLeast0",
    "Audit",
    "Chain",
    "Count",
    "Credit",
    "Critic",
    "Dataset",
    "Group",
    "Loss",
    "Memory",
    "Model",
    "Optimizer",
    "Pairs",
    "Partition",
    "Positive",
    "Protocol",
    "Replay",
    "Sft",
    "Share",
    "Tokenizer",
    "Trace",
    "Train",
    "Tree",
    "binding",
    "changed",
    "settings",
]
