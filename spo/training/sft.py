"""Supervised training of a base model from scratch on demonstrations, in the same loop as RL (spec §6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from spo import seeds
from spo.errors import short_of_memory
from spo.methods.world import Clock, Memory
from spo.policy import Policy
from spo.settings import Sft
from spo.training import loop
from spo.training.descent import Descent
from spo.training.loop import Iterated, Midway
from spo.training.optimize import nll_step
from spo.types import Episode

#: (prompt ids, response ids with the end-of-sequence token)
Example = tuple[tuple[int, ...], tuple[int, ...]]


def run(
    *,
    name: str,
    settings: Sft,
    fingerprint: Mapping[str, object],
    examples: Sequence[Example],
    policy: Policy,
    state: Path,
) -> None:
    """Train `policy` in place for `settings.steps` optimizer steps, resuming from the folder `state` (see `loop.run`).

    One loop iteration is `log_every_steps` steps. Examples are taken in a new random order each epoch.
    """
    steps = settings.log_every_steps
    total = -(-settings.steps // steps)
    descent = Descent(policy.weights(), settings.optimizer, total * steps)
    remedy = f"lower sft.optimizer.micro_batch_tokens (now {settings.optimizer.micro_batch_tokens})"

    def iterate(iteration: int, memory: Memory, clock: Clock, midway: Midway) -> Iterated:
        if iteration == 0:
            return Iterated({})
        with clock.phase("train"), short_of_memory(remedy):
            out = [nll_step(policy, descent, _batch(examples, settings, descent.steps)) for _ in range(steps)]
        tokens = sum(step["tokens"] for step in out)
        metrics = {
            "steps": descent.steps,
            "examples": descent.steps * settings.batch_examples,
            "trained_tokens": int(tokens),
            "nll": sum(step["nll"] for step in out) / tokens,
            "grad_norm": sum(step["grad_norm"] for step in out) / steps,
            "lr": out[-1]["lr"],
        }
        return Iterated(metrics)

    loop.run(
        name=name,
        total=total,
        iterate=iterate,
        descents={"": descent},
        state=state,
        fingerprint=fingerprint,
        checkpoint_every=max(1, settings.checkpoint_every_steps // steps),
        describe=lambda metrics: f"nll {metrics['nll']:.4f}  lr {metrics['lr']:.2g}" if "nll" in metrics else "start",
    )


def _batch(examples: Sequence[Example], settings: Sft, step: int) -> list[Episode]:
    """The examples of one step, whole epochs without repetition."""
    size = settings.batch_examples
    positions = range(step * size, (step + 1) * size)
    order: dict[int, list[int]] = {}
    rows = []
    for position in positions:
        epoch, place = divmod(position, len(examples))
        if epoch not in order:
            order[epoch] = seeds.generator(settings.seed, "epoch", epoch).permutation(len(examples)).tolist()
        prompt, response = examples[order[epoch][place]]
        n = len(response)
        rows.append(Episode(str(position), prompt, response, (0.0,) * n, (1.0,) * n))
    return rows
