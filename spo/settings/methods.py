"""Methods: how Episodes are made."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import Discriminator

from spo.settings.base import Above, AtLeast0, Positive, Share, settings


@settings
class Partition:
    """Where a response is cut into segments."""

    name: str = "cutpoint_interval"
    """Name in `spo.credit.partition.PARTITIONS`."""
    interval: Positive = 5
    """`cutpoint_interval`: cutpoints a segment."""
    segments: Positive = 4
    """`cutpoint_count` and `fixed_count`: segments a response."""
    tokens: Positive = 30
    """`fixed_tokens`: tokens a segment."""
    threshold: Share = 0.9
    """A token is a cutpoint if its probability is below this (spec §0 item 5: strictly)."""


@settings
class Chain:
    """SPO-chain (spec §2): Monte-Carlo values at segment boundaries of sampled responses."""

    kind: Literal["chain"] = "chain"
    """Names the settings that belong here."""
    samples_per_problem: Positive = 8
    """Responses to a problem in an iteration."""
    partition: Partition = Partition()
    """Where responses are cut."""
    rollouts_per_cut: Positive = 9
    """Monte-Carlo continuations N that estimate the value of one cut."""
    first_segment: Literal["estimate", "zero"] = "estimate"
    """`estimate`: the paper, V(start of response) is estimated too; `zero`: the official code, the first segment gets
    advantage 0, unless the partition cuts at cutpoints and the first token is one (spec §0 item 4a, §2.3)."""
    grade_rollouts: Literal["response", "own"] = "response"
    """What of a rollout is graded: the `response` that it completes, or its `own` text (official for Qwen, spec §2.1
    item 8)."""
    max_estimated_cuts: Positive | None = None
    """Cuts after the start of a response whose value is estimated; later ones are worth what the response earned
    (VinePPO: 25, beside the start, spec §4.4). Empty: all."""
    zero_confident: bool = False
    """Official code: tokens more probable than the threshold get advantage 0 even without mask (spec §0 item 4d)."""


@settings
class Replay:
    """Spread one iteration's segments over the following ones (spec §3.3)."""

    max_age_iterations: Positive = 8
    """Iterations after which an episode is dropped."""
    max_per_problem: Positive = 32
    """Episodes of one problem that an iteration takes at most."""
    keep_surplus: bool = True
    """What an iteration offers beyond `episodes_per_iteration` returns to the buffer; false: it is lost, as in the
    official code."""


@settings
class Tree:
    """SPO-tree (spec §3): segments of fixed token count in a sampled tree."""

    kind: Literal["tree"] = "tree"
    """Names the settings that belong here."""
    branches: Annotated[tuple[Positive, ...], MinLen(1)] = (6, 6, 6)
    """Children of a node at each level."""
    segment_tokens: Positive = 30
    """Tokens a level, M; the last level runs to the end of the response."""
    divide_by_std: bool = False
    """Divide an advantage by the siblings' standard deviation (Fig. 5c)."""
    grade_truncated: Literal["response", "own"] = "response"
    """What of a truncated leaf is graded, where `unfinished_reward` is `graded`: the whole `response`, or the `own`
    text of its last segment (official, spec §3.1)."""
    replay: Replay | None = Replay()
    """How an iteration shares its segments with later ones; empty: it does not."""
    episodes_per_iteration: Positive = 512
    """Segments an iteration trains on, at most."""
    fill_by_repeating: bool = False
    """Repeat segments up to `episodes_per_iteration` when there are fewer (official code)."""
    keep_zero_advantage: bool = False
    """Train on segments whose value equals their parent's too; they move only KL and the normaliser."""


@settings
class Group:
    """GRPO and RLOO (spec §4.1-4.2): one advantage a response, relative to the responses to the same problem."""

    kind: Literal["group"] = "group"
    """Names the settings that belong here."""
    samples_per_problem: Positive = 8
    """Responses to a problem in an iteration."""
    baseline: Literal["mean", "leave_one_out"] = "mean"
    """What a reward is compared with: the mean of the group, or of the others in it (RLOO)."""
    divide_by_std: bool = True
    """Divide by the standard deviation of the group (GRPO)."""


@settings
class Critic:
    """PPO (spec §4.3): a second network says what every state is worth."""

    kind: Literal["critic"] = "critic"
    """Names the settings that belong here."""
    samples_per_problem: Positive = 8
    """Responses to a problem in an iteration."""
    gamma: Share = 1.0
    """Discount a token."""
    lam: Share = 1.0
    """Lambda of generalised advantage estimation; 1: the reward minus the critic's value."""
    lr: Above | None = None
    """Peak learning rate of the critic; empty: the policy's."""
    value_clip_range: Above | None = 0.2
    """A new value counts within this distance of the old one; empty: without bound."""


@settings
class Accepted:
    """RestEM (spec §4.6): learn correct responses by heart, beginning at the starting policy each time."""

    kind: Literal["accepted"] = "accepted"
    """Names the settings that belong here."""
    samples_per_problem: Positive = 8
    """Responses to a problem in an iteration."""
    keep_per_problem: Positive = 10
    """Correct responses to a problem that are learnt at most, drawn at random."""
    temperature: Above = 1.0
    """Temperature of the softmax whose likelihood is learnt (official: 0.6, at which responses were sampled)."""
    keep: Literal["last", "first_peak", "best"] = "last"
    """Policy that the next iteration starts from: the `last` one, or by validation accuracy (sampled, if there are
    `validation_samples`) that of the `first_peak`, where training then ends (official), or the `best` of all."""
    validate_every_steps: Positive = 500
    """`first_peak` and `best`: optimizer steps between the policies that are compared; the first and the last one of an
    iteration are compared too."""
    restart: bool = True
    """Each iteration's training begins at the starting policy; false: at the current one."""


@settings
class Pairs:
    """DPO-positive (spec §4.5): prefer correct responses to wrong ones."""

    kind: Literal["pairs"] = "pairs"
    """Names the settings that belong here."""
    samples_per_problem: Positive = 64
    """Responses to a problem in an iteration."""
    pairs_per_problem: Positive = 64
    """Pairs of a correct and a wrong response to a problem, at most, drawn at random."""
    beta: Above = 0.3
    """Weight of the log-ratios; the official value is 0.3 for GSM8K and 0.1 for MATH."""
    penalty: AtLeast0 = 50.0
    """Weight of what the correct response has lost in log-probability against the starting policy."""


Credit = Annotated[Chain | Tree | Group | Critic | Accepted | Pairs, Discriminator("kind")]
