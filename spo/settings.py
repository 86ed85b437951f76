"""Every setting of every stage, as frozen dataclasses: the one place where a key, its unit and its default are written.

`spo.config` validates YAML into these; other rooms receive them ready-made. `config/README.md` and the JSON schema are
generated from this file (a string under a field is its description).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, dataclass_transform

from annotated_types import Ge, Gt, Le, MinLen

from spo.types import Sampling

Positive = Annotated[int, Ge(1)]
Count = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Above = Annotated[float, Gt(0)]
AtLeast0 = Annotated[float, Ge(0)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type) -> type:
    """A frozen keyword-only dataclass whose unknown keys pydantic refuses and whose field docstrings it reads."""
    cls.__pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True, "allow_inf_nan": False}
    return dataclass(frozen=True, kw_only=True)(cls)


# ---- data ------------------------------------------------------------------------------------------------------------


@settings
class Dataset:
    """One problem set: where it comes from, how many problems each split gets, who grades it."""

    source: str
    """Name in `spo.data.DATASETS`."""
    grader: str
    """Name in `spo.grading.GRADERS`."""
    prompt: str = "{question}\n"
    """Template of the prompt; `{question}` is replaced, nothing else is added."""
    path: str | None = None
    """Local folder with the files of this dataset; environment variables are expanded. Empty: the hub."""
    revision: str | None = None
    """Hub revision (commit) to pin."""
    seed: int = 0
    """Seed of generated problems, or of the train/validation split of given ones."""
    train: Positive | None = None
    """Problems for RL; empty: all there are."""
    validation: Positive = 300
    """Problems for tuning and learning curves, carved out of the training part."""
    test: Positive | None = None
    """Problems for the reported accuracy; empty: all there are."""
    demonstrations: Count = 0
    """Worked solutions for SFT, about problems of no other split (given data: the training split's own)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the source, such as the difficulty of generated problems."""


# ---- models ----------------------------------------------------------------------------------------------------------


@settings
class Architecture:
    """Geometry of a Qwen2-architecture decoder trained from scratch."""

    hidden_size: Positive = 128
    """Width of the residual stream."""
    layers: Positive = 4
    """Decoder blocks."""
    heads: Positive = 4
    """Query heads; divides `hidden_size`."""
    kv_heads: Positive = 1
    """Key and value heads; divides `heads`. Fewer make sampling faster."""
    intermediate_size: Positive = 384
    """Width inside the feed-forward block."""
    max_position_tokens: Positive = 2048
    """Longest context, prompt and response together."""
    rope_theta: Above = 10000.0
    """Base of the rotary position frequencies."""


@settings
class Tokenizer:
    """How text becomes ids for a model trained from scratch."""

    kind: Literal["words", "bpe"] = "words"
    """`words`: whole words and single digits; `bpe`: byte-level pairs trained on the demonstrations."""
    vocabulary_size: Positive = 2048
    """Upper bound for `bpe`; `words` takes every word of the demonstrations and problems."""


@settings
class Optimizer:
    """AdamW and its schedule (spec §5.1)."""

    lr: Above = 1e-6
    """Peak learning rate a step."""
    muon_lr: Above | None = None
    """Peak learning rate of Muon for the matrices inside the layers, AdamW doing the rest; empty: AdamW for all. Small
    models learn from scratch in a third of the steps."""
    beta1: Share = 0.9
    """Decay of the mean of gradients."""
    beta2: Share = 0.999
    """Decay of the mean of squared gradients."""
    eps: Above = 1e-8
    """Added to the root of the mean square."""
    weight_decay: AtLeast0 = 0.0
    """Decoupled decay a step, times the learning rate."""
    max_grad_norm: Above = 1.0
    """Gradients longer than this are scaled down to it."""
    schedule: Literal["constant", "linear", "cosine", "log_warmup_linear"] = "constant"
    """Shape after warm-up; `log_warmup_linear` is the official logarithmic warm-up and linear decay to 0."""
    warmup_share: Share = 0.03
    """Part of all steps spent warming up."""
    micro_batch_tokens: Positive = 16384
    """Distinct tokens of one forward pass: those of several sequences with the same history are computed once, and
    count once. Memory grows with it, results do not depend on it beyond rounding (except where `loss.scope` is
    `micro_batch`: there, as with pairs, it is the number of sequences times the longest, and their order is kept)."""


@settings
class Sft:
    """Supervised training of a base model from scratch on demonstrations."""

    dataset: str
    """Dataset whose demonstrations are learnt."""
    steps: Positive = 1000
    """Optimizer steps."""
    batch_examples: Positive = 64
    """Demonstrations an optimizer step."""
    optimizer: Optimizer = Optimizer(lr=2e-3, beta2=0.98, schedule="cosine")
    """Its defaults here differ from those of RL."""
    seed: int = 0
    """Seed of the initial weights and of the order of demonstrations."""
    log_every_steps: Positive = 50
    """Steps of one row of metrics."""
    checkpoint_every_steps: Positive = 200
    """Steps between checkpoints."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of activations; parameters and optimizer stay float32. `bfloat16` needs a processor that has it, and is
    float32 elsewhere."""


@settings
class Model:
    """A starting policy: trained here (`sft`), or a folder or hub id (`path`)."""

    architecture: Architecture = Architecture()
    """Geometry, if the model is trained here."""
    tokenizer: Tokenizer = Tokenizer()
    """Tokenizer, if the model is trained here."""
    sft: Sft | None = None
    """How the model is trained here; needed unless `path` is given."""
    path: str | None = None
    """Local folder or hub id of a finished model."""
    revision: str | None = None
    """Hub revision (commit) of `path` to pin."""
    parameters: Above | None = None
    """Size of `path`, for `plan` alone, such as 1.1e9."""


# ---- methods: how Episodes are made ----------------------------------------------------------------------------------


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
    """`estimate`: the paper, V(start of response) is estimated too; `zero`: the official code, tokens before the first
    cutpoint get advantage 0 (spec §0 item 4a)."""
    grade_rollouts: Literal["response", "own"] = "response"
    """What of a rollout is graded: the `response` that it completes, or its `own` text (official for Qwen, spec §2.1
    item 8)."""
    max_estimated_cuts: Positive | None = None
    """Cuts of a response whose value is estimated, from its start; later ones are worth what the response earned
    (VinePPO: 25, spec §4.4). Empty: all."""
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


Credit = Chain | Tree | Group | Critic | Accepted | Pairs


@settings
class Loss:
    """Clipped policy loss (spec §5.3); each key that separates paper from official code has both behaviours."""

    objective: Literal["clipped", "policy_iteration"] = "clipped"
    """`clipped`: the clipped policy gradient; `policy_iteration`: the squared objective of Appendix B (spec §1.5)."""
    beta: Above = 0.1
    """`policy_iteration`: weight of the log-ratio to the starting policy."""
    clip_range: Above = 0.2
    """Probability ratios count between 1 minus and 1 plus this."""
    probability_mask: Share | None = None
    """Only tokens whose old probability is below this enter the loss; empty: all response tokens."""
    kl_coefficient: AtLeast0 = 1e-4
    """Weight of the KL divergence from the starting policy."""
    kl_over: Literal["all", "mask"] = "all"
    """Tokens that pay KL: `all` response tokens (paper) or the masked ones (official, spec §0 item 4c)."""
    kl_reduction: Literal["token_mean", "sequence_sum"] = "token_mean"
    """`token_mean`: divided by Z like the policy term (paper); `sequence_sum`: summed a sequence, averaged over
    sequences (official)."""
    whiten: bool = False
    """Whiten advantages over the tokens in the loss (official, spec §0 item 4b; not in the paper)."""
    scope: Literal["batch", "micro_batch"] = "batch"
    """Over what Z and whitening are taken: the optimizer batch, or each micro-batch (official)."""
    micro_batch_episodes: Positive | None = None
    """Episodes of one micro-batch; empty: as many as `optimizer.micro_batch_tokens` allows."""
    max_mean_ratio: Above = 10.0
    """A (micro-)batch whose mean ratio exceeds this contributes nothing."""


@settings
class Train:
    """One RL run."""

    credit: Credit = field(metadata={"discriminator": "kind"})
    """The method, by its `kind`."""
    problems_per_iteration: Positive = 64
    """Problems drawn in an iteration."""
    iterations: Positive = 1000
    """Rounds of collecting and updating."""
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.9)
    """How responses are drawn in training."""
    context_tokens: Positive = 2047
    """Prompt and response together."""
    max_response_tokens: Positive = 1024
    """Longest response in training."""
    max_prompt_tokens: Positive | None = None
    """Problems with longer prompts are left out of training (spec §1.8: 1512 for Rho and DeepSeekMath, 200 or 512 for
    Qwen); empty: those that leave the context no token for a response."""
    stop_texts: tuple[Annotated[str, MinLen(1)], ...] = ()
    """Texts at which a response ends, finished, with the token that completes one (spec §2.1 item 2). They say how
    training samples; evaluations have their own."""
    unfinished_reward: Literal["zero", "graded"] = "zero"
    """Reward of a response cut by the limit: 0, or what its text earns (official GRPO, spec §4.1)."""
    batch_episodes: Positive = 64
    """Episodes an optimizer step."""
    epochs: Positive = 1
    """Passes over an iteration's episodes."""
    loss: Loss = Loss()
    """The policy loss."""
    optimizer: Optimizer = Optimizer()
    """AdamW and its schedule."""
    validate_every: Positive = 10
    """Iterations between greedy validations (the first at 0, before training)."""
    validation_problems: Positive = 200
    """Problems of each validation, the first ones of the split."""
    validation_samples: Count = 0
    """Responses sampled to each of these problems beside the greedy one (spec §7.2: 16); 0: none."""
    validation_sampling: Sampling = Sampling(temperature=0.35)
    """How they are drawn, with the same random numbers each time."""
    checkpoint_every: Positive = 10
    """Iterations between checkpoints."""
    backend: str = "engine"
    """Name in `spo.policy.BACKENDS`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of activations in training and scoring; parameters and optimizer stay float32. `bfloat16` needs a
    processor that has it, and is float32 elsewhere."""
    seed: int = 1
    """Set by `experiments.{name}.seeds`, and nowhere else."""


@settings
class Audit:
    """How far estimated advantages are from the truth, which many rollouts tell."""

    problems: Positive = 40
    """Validation problems, one trajectory each."""
    tokens_per_trajectory: Positive = 4
    """Uncertain tokens of a trajectory, drawn at random, whose true advantage is measured."""
    truth_rollouts: Positive = 256
    """Rollouts before and after such a token that tell its true advantage."""
    estimators: dict[str, Credit]
    """Methods by the name that readers see; each sees every trajectory as if it had sampled it."""


@settings
class Trace:
    """Trajectories with all that was computed about them, for looking at."""

    problems: Positive = 4
    """Validation problems, one trajectory and one tree each."""
    chain: Chain = Chain()
    """Where responses are cut and how values are estimated."""
    tree: Tree = Tree()
    """The shape of trees."""


# ---- evaluation ------------------------------------------------------------------------------------------------------


@settings
class Protocol:
    """How predictions are made; a number is comparable only with numbers of the same protocol."""

    sampling: Sampling = Sampling(temperature=0.0)
    """How responses are drawn."""
    samples_per_problem: Positive = 1
    """Responses to a problem; accuracy is their mean."""
    seed: int = 0
    """Seed of sampled protocols."""
    stop_texts: tuple[Annotated[str, MinLen(1)], ...] = ()
    """Texts at which a response ends, as in training."""
    backend: str = "engine"
    """Name in `spo.policy.BACKENDS`."""
    batch_rows: Positive = 512
    """Responses generated at once."""
