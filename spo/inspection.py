"""The verbs that look at what training does: audits of advantages, traces of trajectories, and a page that shows them.

Like `spo.verbs` it knows all rooms and imports them inside the functions, since torch costs seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict


def audit(options: argparse.Namespace) -> None:
    """How wrong each method's advantages are, a row for each token measured."""
    from spo import store
    from spo.methods import audit as auditing

    world = _world(options)
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
    from spo.policy.stops import stopping
    from spo.verbs import encoder, line_ends, rewarder

    train, tokenizer = options.train, tokenizers.load(options.model)
    folder = getattr(options, "critic", None)
    policy = BACKENDS[train.backend](options.model, tokenizer.eos_id, train.dtype, train.memory)
    return World(
        policy=stopping(policy, tokenizer.decode, train.stop_texts),
        settings=train,
        iteration=0,
        encode=encoder(tokenizer, options.dataset),
        reward=rewarder(tokenizer, options.dataset, train),
        line_ends=line_ends(tokenizer),
        clock=Clock(),
        critic=CRITICS[train.backend](folder, train.seed, train.dtype, train.memory) if folder else None,
    )


def _problems(options: argparse.Namespace, world) -> list:
    """The first validation problems whose prompts leave room for a response."""
    from spo import data

    problems = data.load_problems(options.data / "validation.jsonl")
    fitting = (problem for problem in problems if world.room(len(world.encode(problem))) > 0)
    return [problem for problem, _ in zip(fitting, range(options.settings.problems), strict=False)]


def _say(name: str, what: str, world) -> None:
    seconds = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in world.clock.seconds.items())
    print(f"{name}: {what}; {seconds}", flush=True)
