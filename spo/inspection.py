"""The verbs that look at what training does: audits of advantages, traces of trajectories, and a page that shows them.

Like `spo.verbs` it knows all rooms and imports them inside the functions, since torch costs seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from spo import wiring
from spo.errors import UserError, short_of_memory


def audit(options: argparse.Namespace) -> None:
    """How wrong each method's advantages are, a row for each token measured."""
    from spo import store
    from spo.methods import audit as auditing

    world = _world(options)
    with short_of_memory(_remedy(options.train)):
        rows = auditing.audit(world, _problems(options, world), options.settings)
    store.write_jsonl(options.output, rows)
    _say(options.name, f"{len(rows)} tokens measured", world)


def trace(options: argparse.Namespace) -> None:
    """Trajectories and trees with everything that is computed about them."""
    from spo import store
    from spo.methods import trace as tracing
    from spo.policy import tokenizer as tokenizers

    world = _world(options)
    decode = tokenizers.load(options.model).decode
    with short_of_memory(_remedy(options.train)):
        rows = tracing.trace(world, _problems(options, world), options.settings, decode)
    store.write_json(options.output, {"settings": asdict(options.settings), "problems": rows})
    _say(options.name, f"{len(rows)} problems traced", world)


def trajectories(options: argparse.Namespace) -> None:
    """One page on which to step through the traces."""
    from spo.analysis import trajectories as page

    page.write(options.settings, options.results, options.output)


def _world(options: argparse.Namespace):
    """What a method sees of `options.model`, before the first iteration of training with `options.train`."""
    from spo.methods.world import Clock, World
    from spo.policy import BACKENDS, CRITICS
    from spo.policy import tokenizer as tokenizers
    from spo.policy.locate import check_context
    from spo.policy.stops import stopping

    train, tokenizer = options.train, tokenizers.load(options.model)
    check_context(options.model, train.context_tokens, "context_tokens")
    folder = getattr(options, "critic", None)
    policy = BACKENDS[train.backend](options.model, tokenizer.end_ids, train.dtype, train.memory)
    return World(
        policy=stopping(policy, tokenizer.decode, train.stop_texts),
        settings=train,
        iteration=0,
        encode=wiring.encoder(tokenizer, options.dataset, options.model),
        reward=wiring.rewarder(tokenizer, options.dataset, train),
        pieces=wiring.pieces(tokenizer),
        clock=Clock(),
        critic=CRITICS[train.backend](folder, train.seed, train.dtype, train.memory) if folder else None,
    )


def _problems(options: argparse.Namespace, world) -> list:
    """The first validation problems whose prompts leave room for a response; UserError where none does."""
    from spo import data

    problems = data.load_problems(options.data / "validation.jsonl")
    fitting = (problem for problem in problems if world.room(len(world.encode(problem))) > 0)
    found = [problem for problem, _ in zip(fitting, range(options.settings.problems), strict=False)]
    if not found:
        raise UserError(
            f"{options.name}: no validation problem has a prompt that leaves room for a response in "
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
