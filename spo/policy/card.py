"""The model card of a trained policy, as Hugging Face folders have one."""

from __future__ import annotations

import json
from collections.abc import Mapping


def model_card(
    name: str,
    made_by: str,
    base: str | None,
    dataset: str,
    settings: Mapping[str, object],
    last: Mapping[str, object],
    prompt: str,
) -> str:
    """README.md of a model folder: what it is, how it was made, how to load it, its last metrics, its settings, and
    `prompt`, the first that it was trained with, as JSON."""
    front = ["---", "library_name: transformers", "pipeline_tag: text-generation", f"tags: [spo, {made_by}]"]
    if base:
        front.append(f"base_model: {base}")
    numbers = "\n".join(f"| {key} | {_shown(value)} |" for key, value in last.items())
    origin = f"the model `{base}`" if base else "random weights"
    return "\n".join(
        [
            *front,
            "---",
            f"# {name}",
            "",
            f"Made by `{made_by}` from {origin} on the dataset `{dataset}`, in a replication of Segment Policy",
            "Optimization (arXiv 2505.23564).",
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            f'model, tokenizer = (Auto.from_pretrained("{name}") for Auto in (AutoModelForCausalLM, AutoTokenizer))',
            "```",
            "",
            "| metric at the end of training | value |",
            "|---|---|",
            numbers,
            "",
            "The first prompt, as text and as ids:",
            "",
            "```json",
            prompt,
            "```",
            "",
            "Settings:",
            "",
            "```json",
            json.dumps(settings, indent=1),
            "```",
            "",
        ]
    )


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
