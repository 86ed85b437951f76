"""One RL run: draw problems, collect Episodes with a method, take optimizer steps, validate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from spo import seeds
from spo.batching import shuffled_batches
from spo.errors import UserError, short_of_memory
from spo.methods import METHODS, most_episodes, objective, share
from spo.methods.score import score
from spo.methods.world import Clock, Memory, World
from spo.policy import Policy, ValueModel
from spo.settings import Pairs, Train
from spo.training import loop
from spo.training.descent import Descent
from spo.training.loop import Iterated, Midway
from spo.training.optimize import OBJECTIVES, policy_step, value_step
from spo.training.pending import Pending
from spo.training.sampled import Sampled
from spo.types import Episode, Problem, Request, Sample, Sampling

#: Begins the names of the critic's tensors in a checkpoint; the policy's have no such beginning.
CRITIC = "critic/"


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
    pieces: Callable[[Sequence[int]], Sequence[str]],
    state: Path,
    critic: ValueModel | None = None,
) -> None:
    """Train `policy`, and `critic` where there is one, in place up to `settings.last_iteration`, resuming from the
    folder `state` (see `loop.run`).

    `reference` is the starting policy, None where `opens_reference` is False. `reward`, `encode` and `pieces` as in
    `World`.
    """
    fitting = fitting_problems(train, settings, encode)
    steps = total_steps(settings, len(fitting))
    where = settings.memory.optimizer_device
    descents = {"": Descent(policy.weights(), settings.optimizer, steps, where)}
    if critic is not None:
        lr = settings.credit.lr or settings.optimizer.lr
        descents[CRITIC] = Descent(critic.weights(), replace(settings.optimizer, lr=lr, muon_lr=None), steps, where)

    def check() -> dict[str, float]:
        return validate(policy, validation[: settings.validation_problems], settings, encode, reward)

    def collect(iteration: int, memory: Memory, clock: Clock, draw: Callable) -> Pending:
        world = World(policy, settings, iteration, encode, reward, pieces, clock, critic, draw)
        collected = METHODS[settings.credit.kind](world, draw_problems(fitting, settings, iteration), memory)
        began = {prefix: descent.steps for prefix, descent in descents.items()}
        return Pending(iteration, collected, compared(reference, collected.episodes, settings, clock), began)

    def iterate(iteration: int, memory: Memory, clock: Clock, midway: Midway) -> Iterated:
        metrics: dict[str, float] = {}
        if iteration > 0:
            with short_of_memory(_remedy(settings)):
                pending = midway.found
                if pending is None:
                    keeps = settings.checkpoint_every_steps is not None
                    kept = Sampled(state / f"sampled-{iteration:06d}", midway.collecting)
                    pending = collect(iteration, memory, clock, kept.sample if keeps else share.sample)
                    midway.reached(pending)
                    kept.clear()
                memory, metrics = pending.collected.memory, dict(pending.collected.metrics)
                metrics |= learn(policy, reference, descents[""], pending, settings, clock, midway, check)
                if critic is not None:
                    metrics |= learn_values(critic, descents[CRITIC], pending, settings, clock, midway)
        if iteration % settings.validate_every == 0 or iteration == settings.last_iteration:
            with clock.phase("validate"):
                metrics |= check()
        return Iterated(metrics, memory)

    loop.run(
        name=name,
        total=settings.last_iteration,
        iterate=iterate,
        descents=descents,
        state=state,
        fingerprint=fingerprint,
        checkpoint_every=settings.checkpoint_every,
        checkpoint_every_steps=settings.checkpoint_every_steps,
        describe=_describe,
    )


def fitting_problems(
    problems: Sequence[Problem], settings: Train, encode: Callable[[Problem], tuple[int, ...]]
) -> list[Problem]:
    """Problems whose prompt leaves room for a response and is no longer than asked; UserError where none is."""
    longest = min(settings.context_tokens - 1, settings.max_prompt_tokens or settings.context_tokens)
    fitting = [problem for problem in problems if len(encode(problem)) <= longest]
    if not fitting:
        shortest = min((len(encode(problem)) for problem in problems), default=0)
        raise UserError(
            f"no training problem has a prompt of at most {longest} tokens, the shortest has {shortest}; raise "
            "max_prompt_tokens or context_tokens"
        )
    return fitting


def draw_problems(problems: Sequence[Problem], settings: Train, iteration: int) -> list[Problem]:
    """Return an iteration's problems, drawn without replacement within it, independent of others (spec §2.1 item 1).

    Deviation: a run that continues another one draws other problems; the official code begins its draws again.
    """
    stage = ("stage", settings.stage) if settings.stage else ()
    generator = seeds.generator(settings.seed, "problems", *stage, iteration)
    count = min(settings.problems_per_iteration, len(problems))
    return [problems[i] for i in generator.choice(len(problems), count, replace=False)]


def compared(
    reference: Policy | None, episodes: Sequence[Episode], settings: Train, clock: Clock
) -> list[tuple[float, ...]] | None:
    """Return log-probabilities (T) of each Episode under the starting policy; None where the objective needs none."""
    if not episodes or not compares(settings):
        return None
    with clock.phase("score"), getattr(reference, "present", nullcontext)():
        sequences = [(episode.prompt_ids, episode.response_ids) for episode in episodes]
        return score(reference, sequences, settings.sampling.temperature, settings.optimizer.micro_batch_tokens)


def learn(
    policy: Policy,
    reference: Policy | None,
    descent: Descent,
    pending: Pending,
    settings: Train,
    clock: Clock,
    midway: Midway,
    check: Callable[[], dict[str, float]],
) -> dict[str, float]:
    """Take the optimizer steps on the policy that are left of an iteration; return means over all of its tokens.

    Where training restarts, the schedule counts the steps of this iteration, otherwise those of the whole run. `check`
    validates the policy, where `Accepted.keep` says so.
    """
    episodes, ref = pending.collected.episodes, pending.reference
    if not episodes:
        return {"episodes": 0, "trained_tokens": 0, "steps": 0}
    name, batches = objective(settings), iteration_batches(settings, len(episodes), pending.iteration)
    steps = pending.steps.setdefault("", [])
    if pending.collected.restart and not steps:
        descent.restart(reference.weights(), len(batches))
    descent.total_steps = schedule_steps(settings, descent.total_steps, pending, len(batches))
    choice = Choice(settings, pending, descent, check, clock)
    choice.look(len(batches))
    for rows in batches[len(steps) :]:
        if choice.made:
            break
        with clock.phase("train"):
            steps.append(policy_step(policy, descent, _rows(episodes, rows), ref and _rows(ref, rows), settings, name))
        choice.look(len(batches))
        midway.reached(pending)
    return {"episodes": len(episodes), "steps": len(steps)} | _means(steps) | choice.keep()


def schedule_steps(settings: Train, total: int, pending: Pending, steps: int) -> int:
    """Return the optimizer steps that the schedule of the policy is made for, `total` until here.

    Those of an iteration that restarts are its own `steps`. Pairs are known when they have been drawn: later
    iterations are taken to have as many. Other methods train on as much as is possible, so that `total` stays.
    """
    if pending.collected.restart:
        return steps
    if isinstance(settings.credit, Pairs):
        return pending.began[""] + steps * (settings.iterations - pending.iteration + 1)
    return total


class Choice:
    """Which policy of an iteration is kept: `Accepted.keep` (RestEM, spec §4.6).

    Deviation: the official code compares policies whenever the steps of the whole run are a multiple of 500; here those
    of the iteration are. It trains to the end of an iteration before it looks for the first peak; here training ends
    there, with the same policy.
    """

    def __init__(
        self, settings: Train, pending: Pending, descent: Descent, check: Callable[[], dict[str, float]], clock: Clock
    ) -> None:
        self.rule = getattr(settings.credit, "keep", "last")
        self.every = getattr(settings.credit, "validate_every_steps", 1)
        self.pending, self.descent, self.check, self.clock = pending, descent, check, clock

    @property
    def made(self) -> bool:
        """Return whether later policies cannot be chosen: accuracy has not risen from one to the next."""
        scores = [accuracy for _, accuracy in self.pending.scores]
        return self.rule == "first_peak" and len(scores) > 1 and scores[-1] <= scores[-2]

    def look(self, total: int) -> None:
        """Validate the policy after the steps so far if it is one to be compared, and keep it if it is better."""
        scores, done = self.pending.scores, len(self.pending.steps[""])
        due = done % self.every == 0 or done == total
        if self.rule == "last" or not due or (scores and scores[-1][0] == done):
            return
        with self.clock.phase("choose"):
            found = self.check()
        accuracy = found.get("validation_sampled_accuracy", found["validation_accuracy"])
        if accuracy > max((score for _, score in scores), default=-1.0):
            self.pending.best = self.descent.kept()
        scores.append((done, accuracy))

    def keep(self) -> dict[str, float]:
        """Go back to the chosen policy; metrics: its step and its accuracy on validation problems."""
        scores = self.pending.scores
        if not scores:
            return {}
        self.descent.adopt(self.pending.best)
        step, accuracy = max(scores, key=lambda score: score[1])
        return {"kept_step": step, "kept_accuracy": accuracy}


def learn_values(
    critic: ValueModel, descent: Descent, pending: Pending, settings: Train, clock: Clock, midway: Midway
) -> dict[str, float]:
    """Take the optimizer steps on the critic that are left of an iteration, in the batches of the policy's."""
    episodes, targets = pending.collected.episodes, pending.collected.value_targets
    steps = pending.steps.setdefault(CRITIC, [])
    for rows in iteration_batches(settings, len(episodes), pending.iteration)[len(steps) :]:
        with clock.phase("critic"):
            clip_range = settings.credit.value_clip_range
            steps.append(value_step(critic, descent, _rows(episodes, rows), _rows(targets, rows), clip_range))
        midway.reached(pending)
    return {"value_loss": float(np.mean([step["loss"] for step in steps]))}


def iteration_batches(settings: Train, episodes: int, iteration: int) -> list[tuple[int, ...]]:
    """Indices of the Episodes of each optimizer step of an iteration: every epoch in an order of its own.

    Episodes that belong together stay so; a batch has `batch_episodes` Episodes, or fewer where that is no multiple of
    their number.
    """
    together = OBJECTIVES[objective(settings)].together
    size = max(1, settings.batch_episodes // together)
    return [
        tuple(together * unit + i for unit in units for i in range(together))
        for epoch in range(settings.epochs)
        for units in shuffled_batches(episodes // together, size, seeds.key(settings.seed, "order", iteration, epoch))
    ]


def compares(settings: Train) -> bool:
    """Whether the objective needs log-probabilities under the starting policy."""
    return OBJECTIVES[objective(settings)].compares(settings.loss)


def opens_reference(settings: Train) -> bool:
    """Whether a run needs the starting policy beside the one it trains: to compare with, or to begin anew from."""
    return compares(settings) or getattr(settings.credit, "restart", False)


def validate(
    policy: Policy,
    problems: Sequence[Problem],
    settings: Train,
    encode: Callable[[Problem], tuple[int, ...]],
    reward: Callable[[Problem, Sequence[int], bool], float],
) -> dict[str, float]:
    """Greedy accuracy on validation problems at the training context, and that of samples where they are asked for; a
    truncated response counts as wrong."""
    prompts = [encode(problem) for problem in problems]
    rooms = [min(settings.max_response_tokens, settings.context_tokens - len(prompt)) for prompt in prompts]
    asked = [i for i, room in enumerate(rooms) if room > 0]

    def correct(samples: Sequence[Sequence[Sample]]) -> int:
        answers = [
            (problems[i], sample.response_ids, True)
            for i, group in zip(asked, samples, strict=True)
            for sample in group
            if sample.finished
        ]
        return sum(paid > 0.5 for paid in share.rewards(reward, answers))

    requests = [Request(prompts[i], (0,), rooms[i]) for i in asked]
    greedy = share.sample(policy, requests, Sampling(temperature=0.0))
    finished = sum(sample.finished for (sample,) in greedy)
    found = {
        "validation_accuracy": correct(greedy) / len(problems),
        "validation_truncated": 1 - finished / len(problems),
        "validation_n": len(problems),
    }
    if settings.validation_samples:
        keys = [_validation_keys(settings, problem) for problem in problems]
        requests = [Request(prompts[i], keys[i], rooms[i]) for i in asked]
        sampled = share.sample(policy, requests, settings.validation_sampling)
        found["validation_sampled_accuracy"] = correct(sampled) / (len(problems) * settings.validation_samples)
    return found


def _validation_keys(settings: Train, problem: Problem) -> tuple[int, ...]:
    return tuple(seeds.key(settings.seed, "validation", problem.id, i) for i in range(settings.validation_samples))


def _remedy(settings: Train) -> str:
    """What to change where memory runs out: not the size of micro-batches where the loss is taken over each of them."""
    tokens = settings.optimizer.micro_batch_tokens
    lower = f"lower optimizer.micro_batch_tokens (now {tokens})"
    if settings.loss.scope == "micro_batch":
        lower = f"lower memory.head_chunk_tokens (now {settings.memory.head_chunk_tokens})"
    if settings.memory.gradient_checkpointing or settings.backend == "engine":
        return lower
    return f"set memory.gradient_checkpointing: true, or {lower}"


def _rows(items: Sequence, rows: Sequence[int]) -> list:
    return [items[i] for i in rows]


#: metric -> (sum over the steps of an iteration, sum that it is divided by); left out where an objective lacks the sum
MEANS = {
    "kl": ("kl", "kl_tokens"),
    "clip_fraction": ("clipped", "tokens"),
    "mean_ratio": ("ratio", "tokens"),
    "entropy": ("entropy", "response_tokens"),
    "nll": ("nll", "tokens"),
    "mean_weight": ("weight", "sequences"),
    "preferred": ("preferred", "pairs"),
    "margin": ("margin", "pairs"),
    "accepted_gain": ("gain", "pairs"),
}


def _means(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums of the steps turned into numbers a token, sequence, pair or step."""
    total = {name: sum(step.get(name, 0.0) for step in steps) for name in steps[0]}
    means = {name: total[part] / max(1.0, total[whole]) for name, (part, whole) in MEANS.items() if part in total}
    return {
        "trained_tokens": int(total["tokens"]),
        "loss": total["loss"] / len(steps),
        **means,
        "grad_norm": float(np.mean([step["grad_norm"] for step in steps])),
        "lr": steps[-1]["lr"],
        "skipped_steps": int(sum(step.get("skipped", 0.0) for step in steps)),
    }


def total_steps(settings: Train, problems: int) -> int:
    """Return the optimizer steps of a whole run on so many problems, as the schedule counts them until
    `schedule_steps` knows better: no iteration can have more."""
    episodes = most_episodes(settings.credit, min(settings.problems_per_iteration, problems))
    return settings.iterations * len(iteration_batches(settings, max(1, episodes), 0))


def _describe(metrics: Mapping[str, float]) -> str:
    words = []
    if "reward" in metrics:
        words.append(f"reward {metrics['reward']:.3f}  length {metrics['response_tokens']:.0f}")
    for name in ("kl", "clip_fraction", "value_loss", "nll", "preferred"):
        if name in metrics:
            words.append(f"{name} {metrics[name]:.4f}")
    if "validation_accuracy" in metrics:
        words.append(f"validation {100 * metrics['validation_accuracy']:.1f} %")
    return "  ".join(words)
