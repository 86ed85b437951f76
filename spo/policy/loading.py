"""Loading a causal language model of transformers, with every tensor of it from the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from spo.errors import Foreign, UserError, short_of_memory
from spo.policy.architecture import FAMILIES
from spo.policy.tensor_files import few
from spo.policy.weights import check_pickled, untied

#: Share of a logit by which equal inputs may differ: rows of a batch are computed alike.
_ROUNDING = 1e-5


def load_causal(folder: Path, dtype: torch.dtype, head: bool = True) -> nn.Module:
    """Return the model of a folder on the CPU, in `dtype` and evaluation mode.

    Raises UserError for whatever keeps transformers from loading it, for tensors that it would draw at random or leave
    out, and for models that see later tokens, as encoders do. `head`: without it, that of the model may be drawn.
    """
    check_pickled(folder, head)
    from transformers import AutoModelForCausalLM  # seconds, which a wrong key need not cost
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # output goes to logs, and errors are one line
    with short_of_memory("the model does not fit there"), _quiet(), Foreign(folder, "Use another model, or mend it."):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        model.eval()
    _check_loaded(folder, model, info, head)
    if model.config.model_type not in FAMILIES:
        _check_causal(folder, model)
    return model


def _check_loaded(folder: Path, model: nn.Module, info: dict, head: bool) -> None:
    kind = type(model).__name__
    own_head = {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}
    spared = set() if head else {*own_head, "value_head.weight", "value_head.bias"}
    missing = sorted(set(info["missing_keys"]) - spared)
    if missing:
        raise UserError(
            f"{folder}: the weights lack {few(missing)}, which {kind} has: they would be drawn at random. Download the "
            "model again, or use a causal language model."
        )
    wrong = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    if wrong:
        raise UserError(
            f"{folder}: {few(wrong)}: another shape than config.json describes. Use the model's own config."
        )
    unknown = sorted(set(info["unexpected_keys"]) - spared)
    if unknown:
        raise UserError(
            f"{folder}: the weights have {few(unknown)}, which {kind} has no place for: they would be ignored. Use "
            "weights of this architecture."
        )
    into, out = model.get_input_embeddings(), model.get_output_embeddings()
    if (
        head
        and out is not None
        and model.config.get_text_config().tie_word_embeddings
        and into.weight is not out.weight
    ):
        raise UserError(untied(folder))


def _check_causal(folder: Path, model: nn.Module) -> None:
    """Raise UserError if the logits of the first of three tokens depend on the last."""
    rows = torch.tensor([[0, 1, 2], [0, 1, 3]]).clamp(max=model.get_input_embeddings().weight.shape[0] - 1)
    with torch.no_grad(), Foreign(folder, "Use a causal language model of text."):
        first, second = model(input_ids=rows, use_cache=False).logits[:, 0]
    if (first - second).abs().max() > _ROUNDING * first.abs().max():
        raise UserError(
            f"{folder}: {type(model).__name__}: its tokens see those after them, as an encoder's do. Use a causal "
            "language model."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep reports of the library that end in an error of ours anyway."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
