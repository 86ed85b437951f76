"""Training runs, what is looked at in them, and how predictions are made."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le, MinLen

from spo.settings.base import Above, AtLeast0, Count, Positive, Seed, Share, settings
from spo.settings.methods import Chain, Credit, Tree
from spo.settings.models import Model, Optimizer, Sft
from spo.types import Sampling


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
    """Only tokens whose old probability is below this enter the loss; empty: all response tokens. The loss
    `policy_iteration` is over all of them; there the mask says over which advantages are whitened."""
    kl_coefficient: AtLeast0 = 1e-4
    """Weight of the KL divergence from the starting policy."""
    kl_over: Literal["all", "mask"] = "all"
    """Tokens that pay KL: `all` response tokens (paper) or the masked ones (official, spec §0 item 4c)."""
    kl_clip: Above | None = None
    """KL of one token counts at most this much (10 in the authors' run of Fig. 3, spec §9); empty: without bound."""
    kl_reduction: Literal["token_mean", "sequence_sum"] = "token_mean"
    """`token_mean`: divided by Z like the policy term (paper); `sequence_sum`: summed a sequence, averaged over
    sequences (official)."""
    whiten: bool = False
    """Whiten advantages before the loss (official, spec §0 item 4b; not in the paper)."""
    whiten_over: Literal["mask", "response"] = "mask"
    """Tokens that mean and variance of advantages are taken over: those below `probability_mask`, or all response
    tokens (official PPO, spec §4.3)."""
    scope: Literal["batch", "micro_batch"] = "batch"
    """Over what Z and whitening are taken: the optimizer batch, or each micro-batch (official)."""
    micro_batch_episodes: Positive | None = None
    """Episodes of one micro-batch; empty: as many as `optimizer.micro_batch_tokens` allows."""
    max_mean_ratio: Above = 10.0
    """A (micro-)batch whose mean ratio exceeds this contributes nothing."""


@settings
class Memory:
    """Where a model of backend `hf` or `vllm` is, and how it fits; a checkpoint is not bound to it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model is trained and scored; `auto`: on a GPU if there is one. `engine` uses the processor."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`: what is computed with, while gradients, moments and the weights that steps are added to stay float32;
    needs `dtype: bfloat16`."""
    optimizer_device: Literal["model", "cpu"] = "model"
    """`cpu`: those float32 weights, gradients and moments are in the processor's memory, and steps are taken there."""
    gradient_checkpointing: bool = False
    """Keep only what enters each layer, and compute the layer again for its gradients: a third more time."""
    head_chunk_tokens: Positive = 1024
    """Tokens whose logits over the whole vocabulary exist at once, forward and backward."""
    sample_rows: Positive = 256
    """Responses that backend `hf` samples at once."""
    vllm_gpu_share: Annotated[float, Gt(0), Le(1)] = 0.4
    """Share of a GPU's memory for vLLM's weights, keys and values; what trains beside it needs the rest."""
    vllm_max_tokens: Positive | None = None
    """Prompt and response together, at most; fewer let vLLM start on less memory. Empty: all that the model has."""
    vllm_tensor_parallel: Positive = 1
    """GPUs that vLLM's copy of the model is spread over."""
    vllm_sleep_level: Literal[0, 1, 2] = 2
    """What vLLM gives back of a GPU while the model trains: 0 nothing; 1 keys and values, while its weights wait in the
    processor's memory; 2 its weights as well, which it is then handed anew."""


@settings
class Train:
    """One RL run."""

    credit: Credit
    """The method, by its `kind`."""
    problems_per_iteration: Positive = 64
    """Problems drawn in an iteration."""
    iterations: Positive = 1000
    """Rounds of collecting and updating, which the schedule of the learning rate is made for."""
    stop_at: Positive | None = None
    """Last iteration that is done, the schedule being the one of `iterations`: the published policies are of iterations
    690, 400 and 680 of 1,000 (spec §5.6). Empty: `iterations`."""
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
    """Texts at which a response ends, finished. They are no part of it: neither graded nor trained on (spec §2.1 item
    2). Protocols have their own."""
    unfinished_reward: Literal["zero", "minus_one", "graded"] = "zero"
    """Reward of a response cut by the limit: `zero`; `minus_one`, which a response without an answer earns too (the
    authors' run of Fig. 3, spec §9); `graded`: what its text earns (official GRPO, spec §4.1)."""
    batch_episodes: Positive = 64
    """Episodes an optimizer step; a pair of DPO-positive is two."""
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
    checkpoint_every_steps: Positive | None = None
    """Optimizer steps between checkpoints inside an iteration, the first one when its responses are collected; until
    then samples are kept as they are drawn. For iterations of hours, such as those of RestEM and DPO-positive. Empty:
    none inside."""
    backend: str = "engine"
    """Name in `spo.policy.BACKENDS`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of activations in training and scoring; parameters and optimizer stay float32. `bfloat16` needs a
    processor that has it, and is float32 elsewhere."""
    memory: Memory = Memory()
    """Where the model of backend `hf` or `vllm` is, and how it fits."""
    seed: Seed = 1
    """Set by `experiments.{name}.seeds`, and nowhere else."""
    stage: Count = 0
    """Runs that this one continues, one after the other; set by `methods.{name}.start`, and nowhere else. Each draws
    problems of its own."""

    @property
    def last_iteration(self) -> int:
        """Return the iteration after which training ends."""
        return self.stop_at or self.iterations


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


@settings
class Protocol:
    """How predictions are made; a number is comparable only with numbers of the same protocol."""

    sampling: Sampling = Sampling(temperature=0.0)
    """How responses are drawn."""
    samples_per_problem: Positive = 1
    """Responses to a problem; accuracy is their mean."""
    seed: Seed = 0
    """Seed of sampled protocols."""
    max_response_tokens: Positive | None = None
    """Longest response, whatever the context; empty: what the prompt leaves of the context. A response that this limit
    ends is truncated at every context."""
    stop_texts: tuple[Annotated[str, MinLen(1)], ...] = ()
    """Texts at which a response ends, as in training."""
    backend: str = "engine"
    """Name in `spo.policy.BACKENDS`."""
    batch_rows: Positive = 512
    """Responses generated at once."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of weights and activations of backends `hf` and `vllm` (`engine`: always float32). `bfloat16` needs a
    processor that has it, and is float32 elsewhere."""
    memory: Memory = Memory(vllm_gpu_share=0.9, vllm_sleep_level=0)
    """Where the model of backend `hf` or `vllm` is, and how it fits; nothing trains beside it."""


#: Settings that decide whether a job fits into memory, or how often it is saved.
_UNBOUND = ("memory", "checkpoint_every", "checkpoint_every_steps")


def binding(value: Any) -> Any:
    """Return settings with defaults for all that only decides whether a job fits into memory and how often it is saved.

    Checkpoints and finished results are bound to the rest: after an out-of-memory error a run resumes with smaller
    chunks.
    """
    if isinstance(value, Train | Protocol | Sft):
        value = replace(value, **{name: getattr(type(value), name) for name in _UNBOUND if hasattr(value, name)})
    if isinstance(value, Sft) or (isinstance(value, Train) and value.loss.scope == "batch"):
        passes = Optimizer.micro_batch_tokens
        value = replace(value, optimizer=replace(value.optimizer, micro_batch_tokens=passes))
    if isinstance(value, Model) and value.sft is not None:
        value = replace(value, sft=binding(value.sft))
    return value
