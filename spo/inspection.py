"""Commands that look at what training does: audits of advantages, traces of trajectories, and the page of traces.

Like `spo.verbs` it knows all rooms and imports them inside the functions, since torch costs seconds.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from spo import wiring
from spo.errors import UserError, short_of_memory
from spo.verbs import Job


def audit(job: Job) -> None:
    """How wrong each method's advantages are, a row for each token measured."""
    from spo import store
    from spo.methods import audit as auditing

    key, _, seed = job.name.partition("/s")
    critic = Path(job.paths.critic(job.part.policy.name)) if job.part.critic else None
    model = job.model(job.part.policy)
    world = _world(job, model, critic)
    with short_of_memory(_remedy(job.part.train)):
        rows = auditing.audit(world, _problems(job, world, job.part.audit.problems), job.part.audit)
    store.write_jsonl(job.paths.audit(key, seed), rows)
    _say(job.name, f"{len(rows)} tokens measured", world)


def trace(job: Job) -> None:
    """Trajectories and trees with everything that is computed about them."""
    from spo import store
    from spo.methods import trace as tracing
    from spo.policy import tokenizer as tokenizers

    settings, model = job.part.trace, job.model(job.part.policy)
    world, decode = _world(job, model), tokenizers.load(model).decode
    with short_of_memory(_remedy(job.part.train)):
        rows = tracing.trace(world, _problems(job, world, settings.problems), settings, decode)
    store.write_json(job.paths.trace(job.name), {"settings": asdict(settings), "problems": rows})
    _say(job.name, f"{len(rows)} problems traced", world)


def trajectories(job: Job) -> None:
    """One page on which to step through the traces."""
    from spo.analysis import trajectories as page

    page.write(job.part, Path(job.paths.results), Path(job.paths.trajectories))


def _world(job: Job, model: Path, critic: Path | None = None):
    """Return the context of a method that sees `model` before the first iteration of training."""
    from spo.methods.world import Clock, World
    from spo.policy import BACKENDS, CRITICS
    from spo.policy import tokenizer as tokenizers
    from spo.policy.locate import check_context
    from spo.policy.stops import stopping

    train, tokenizer = job.part.train, tokenizers.load(model)
    check_context(model, train.context_tokens, "context_tokens")
    policy = BACKENDS[train.backend](model, tokenizer.end_ids, train.dtype, train.memory)
    return World(
        policy=stopping(policy, tokenizer.decode, train.stop_texts),
        settings=train,
        iteration=0,
        encode=wiring.encoder(tokenizer, job.part.asked, model),
        reward=wiring.rewarder(tokenizer, job.part.asked, train),
        pieces=wiring.pieces(tokenizer),
        clock=Clock(),
        critic=CRITICS[train.backend](critic, train.seed, train.dtype, train.memory) if critic is not None else None,
    )


def _problems(job: Job, world, count: int) -> list:
    """Return the first `count` validation problems whose prompts leave room for a response; UserError if none does."""
    from spo import data

    problems = data.load_problems(Path(job.paths.split(job.part.dataset, "validation")))
    fitting = (problem for problem in problems if world.room(len(world.encode(problem))) > 0)
    found = [problem for problem, _ in zip(fitting, range(count), strict=False)]
    if not found:
        raise UserError(
            f"{job.name}: no validation problem has a prompt that leaves room for a response in "
            f"{world.settings.context_tokens} tokens; raise context_tokens"
        )
    return found


def _remedy(train) -> str:
    """What to change where memory runs out while responses are scored; their sampling says so itself."""
    if train.backend == "engine":
        return f"lower optimizer.micro_batch_tokens (now {train.optimizer.micro_batch_tokens})"
    return f"lower memory.head_chunk_tokens (now {train.memory.head_chunk_tokens})"


def _say(name: str, what: str, world) -> None:
    seconds = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in world.clock.seconds.items())
    print(f"{name}: {what}; {seconds}", flush=True)
