"""One RL run: draw problems, collect Episodes with a method, take optimizer steps, validate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from spo import seeds
from spo.batching import shuffled_batches
from spo.methods import METHODS
from spo.methods.score import score
from spo.methods.world import Clock, Memory, World
from spo.policy import Policy
from spo.settings import Train
from spo.training import loop
from spo.training.loop import Iterated
from spo.training.optimize import Descent, policy_step
from spo.types import Episode, Problem, Request, Sampling


def run(
    *,
    name: str,
    settings: Train,
    fingerprint: Mapping[str, object],
    train: Sequence[Problem],
    validation: Sequence[Problem],
    policy: Policy,
    reference: Policy | None,
    encode: Callable[[Problem], tuple[int, ...]],
    reward: Callable[[Problem, Sequence[int], bool], float],
    line_ends: Callable[[Sequence[int]], tuple[int, ...]],
    state: Path,
) -> None:
    """Train `policy` in place for `settings.iterations`, resuming from the folder `state` (see `loop.run`).

    `reference` is the starting policy for the KL term, None if its coefficient is 0. `reward`, `encode` as in `World`.
    """
    fitting = [p for p in train if len(encode(p)) < settings.context_tokens]
    descent = Descent(policy.weights(), settings.optimizer, _total_steps(settings))

    def iterate(iteration: int, memory: Memory, clock: Clock) -> Iterated:
        metrics: dict[str, float] = {}
        if iteration > 0:
            world = World(policy, settings, iteration, encode, reward, line_ends, clock)
            problems = draw_problems(fitting, settings, iteration)
            collected = METHODS[settings.credit.kind](world, problems, memory)
            memory, metrics = collected.memory, dict(collected.metrics)
            metrics |= learn(policy, reference, descent, collected.episodes, settings, iteration, clock)
        if iteration % settings.validate_every == 0 or iteration == settings.iterations:
            with clock.phase("validate"):
                metrics |= validate(policy, validation[: settings.validation_problems], settings, encode, reward)
        return Iterated(metrics, memory)

    loop.run(
        name=name,
        total=settings.iterations,
        iterate=iterate,
        descent=descent,
        state=state,
        fingerprint=fingerprint,
        checkpoint_every=settings.checkpoint_every,
        describe=_describe,
    )


def draw_problems(problems: Sequence[Problem], settings: Train, iteration: int) -> list[Problem]:
    """An iteration's problems, without replacement inside it, anew each time (spec §2.1 item 1)."""
    generator = seeds.generator(settings.seed, "problems", iteration)
    count = min(settings.problems_per_iteration, len(problems))
    return [problems[i] for i in generator.choice(len(problems), count, replace=False)]


def learn(
    policy: Policy,
    reference: Policy | None,
    descent: Descent,
    episodes: Sequence[Episode],
    settings: Train,
    iteration: int,
    clock: Clock,
) -> dict[str, float]:
    """All optimizer steps of one iteration; means over their tokens."""
    if not episodes:
        return {"episodes": 0, "trained_tokens": 0, "steps": 0}
    ref = None
    if reference is not None:
        with clock.phase("score"):
            sequences = [(episode.prompt_ids, episode.response_ids) for episode in episodes]
            ref = score(reference, sequences, settings.sampling.temperature, settings.optimizer.micro_batch_tokens)
    steps = []
    with clock.phase("train"):
        for epoch in range(settings.epochs):
            order = seeds.key(settings.seed, "order", iteration, epoch)
            for batch in shuffled_batches(len(episodes), settings.batch_episodes, order):
                rows = [episodes[i] for i in batch]
                steps.append(
                    policy_step(policy, descent, rows, None if ref is None else [ref[i] for i in batch], settings)
                )
    return {"episodes": len(episodes), "steps": len(steps)} | _means(steps)


def validate(
    policy: Policy,
    problems: Sequence[Problem],
    settings: Train,
    encode: Callable[[Problem], tuple[int, ...]],
    reward: Callable[[Problem, Sequence[int], bool], float],
) -> dict[str, float]:
    """Greedy accuracy on validation problems at the training context; a truncated response counts as wrong."""
    prompts = [encode(problem) for problem in problems]
    rooms = [min(settings.max_response_tokens, settings.context_tokens - len(prompt)) for prompt in prompts]
    asked = [i for i, room in enumerate(rooms) if room > 0]
    samples = policy.sample([Request(prompts[i], (0,), rooms[i]) for i in asked], Sampling(temperature=0.0))
    finished = [sample.finished for (sample,) in samples]
    correct = [
        sample.finished and reward(problems[i], sample.response_ids, True) > 0.5
        for i, (sample,) in zip(asked, samples, strict=True)
    ]
    return {
        "validation_accuracy": sum(correct) / len(problems),
        "validation_truncated": 1 - sum(finished) / len(problems),
        "validation_n": len(problems),
    }


def _means(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums of the steps turned into numbers a token or a step."""
    total = {name: sum(step.get(name, 0.0) for step in steps) for name in steps[0]}
    tokens = max(1.0, total["tokens"])
    return {
        "trained_tokens": int(total["tokens"]),
        "loss": total["loss"] / len(steps),
        "kl": total["kl"] / max(1.0, total["kl_tokens"]),
        "clip_fraction": total["clipped"] / tokens,
        "mean_ratio": total["ratio"] / tokens,
        "entropy": total["entropy"] / max(1.0, total["response_tokens"]),
        "grad_norm": float(np.mean([step["grad_norm"] for step in steps])),
        "lr": steps[-1]["lr"],
        "skipped_steps": int(sum(step.get("skipped", 0.0) for step in steps)),
    }


def _total_steps(settings: Train) -> int:
    """Optimizer steps of the whole run, as the schedule counts them."""
    credit = settings.credit
    if credit.kind == "tree":
        episodes = credit.episodes_per_iteration
    else:
        episodes = settings.problems_per_iteration * credit.samples_per_problem
    return settings.iterations * settings.epochs * max(1, -(-episodes // settings.batch_episodes))


def _describe(metrics: Mapping[str, float]) -> str:
    words = []
    if "reward" in metrics:
        words.append(f"reward {metrics['reward']:.3f}  length {metrics['response_tokens']:.0f}")
        words.append(f"kl {metrics.get('kl', 0):.4f}  clipped {metrics.get('clip_fraction', 0):.3f}")
    if "validation_accuracy" in metrics:
        words.append(f"validation {100 * metrics['validation_accuracy']:.1f} %")
    return "  ".join(words)
