"""Problem sets, and the policies that training starts from."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from spo.settings.base import Above, AtLeast0, Count, Decay, Positive, Seed, Share, settings


@settings
class Dataset:
    """One problem set: where it comes from, how many problems each split gets, who grades it."""

    source: str
    """Name in `spo.data.DATASETS`."""
    grader: str
    """Name in `spo.grading.GRADERS`."""
    prompt: str = "{question}\n"
    """Template of the prompt; `{question}` is replaced, nothing else is added."""
    message: str = "{question}"
    """Template of the user's message to models that are asked in a chat, in place of `prompt`."""
    chat: bool = False
    """Ask every model in its own chat template, with `message`; `models.{name}.chat` asks one model so."""
    path: str | None = None
    """Local folder with the files of this dataset; environment variables are expanded. Empty: the hub."""
    revision: str | None = None
    """Hub revision (commit) to pin."""
    seed: Seed = 0
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


@settings
class Architecture:
    """Geometry of a decoder trained from scratch."""

    family: Literal["qwen2", "llama"] = "qwen2"
    """`qwen2`: biases on queries, keys and values, and the embeddings as head (Qwen2.5, R1-Distill); `llama`: no biases
    and a head of its own (Rho, DeepSeekMath)."""
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
    special_tokens: tuple[Annotated[str, MinLen(1)], ...] = ()
    """`bpe`: texts beside its own `<pad>` and `</s>` that are one token each where a prompt writes them out, such as
    `<s>`, and that no response shows."""


@settings
class Optimizer:
    """AdamW and its schedule (spec §5.1)."""

    lr: Above = 1e-6
    """Peak learning rate a step."""
    muon_lr: Above | None = None
    """Peak learning rate of Muon for the matrices inside the layers, AdamW doing the rest; empty: AdamW for all. Small
    models learn from scratch in a third of the steps."""
    beta1: Decay = 0.9
    """Decay of the mean of gradients."""
    beta2: Decay = 0.999
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
    seed: Seed = 0
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
    chat: bool = False
    """Ask this model, and what is trained from it, in its own chat template, with `datasets.{name}.message`."""
    parameters: Above | None = None
    """Size of `path`, for `plan` alone, such as 1.1e9."""
