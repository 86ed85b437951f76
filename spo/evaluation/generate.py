"""Predictions of one model on one problem set, resumable by problem."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spo import seeds, store
from spo.policy import Policy
from spo.settings import Protocol
from spo.stopping import stopped, stopped_politely
from spo.types import Problem, Request


def run(
    *,
    policy: Policy,
    problems: Sequence[Problem],
    encode: Callable[[Problem], tuple[int, ...]],
    protocol: Protocol,
    context_tokens: int,
    fingerprint: Mapping[str, object],
    state: Path,
    output: Path,
) -> None:
    """Write `output`, one row per sample: problem_id, sample, prompt_tokens, response_ids, finished.

    Prompt and response share `context_tokens`, and `protocol.max_response_tokens` limits the response. A prompt that
    fills the context gets an empty, unfinished response. Rows that a stop text ended also have its `stop_ids`.
    Finished parts wait in the folder `state` under `fingerprint`, so a killed job resumes where it was. SIGTERM and
    Ctrl-C finish a part and raise RunFailure.
    """
    size = max(1, protocol.batch_rows // protocol.samples_per_problem)
    parts = [problems[i : i + size] for i in range(0, len(problems), size)]
    folder = state / f"{seeds.key(repr(sorted(fingerprint.items()))):016x}"
    rows: list[dict] = []
    with store.locked(state), stopped_politely("part") as asked:
        for number, part in enumerate(parts):
            path = folder / f"part-{number:05d}.jsonl"
            if not path.exists():
                store.write_jsonl(path, _predict(policy, part, encode, protocol, context_tokens))
            rows += store.read_jsonl(path)
            done = min(len(problems), (number + 1) * size)
            print(f"{output}: {done}/{len(problems)} problems", flush=True)
            if any(asked.flags()) and number + 1 < len(parts):
                raise stopped(asked.flags(), f"{output}: {{by}} after {done} of {len(problems)} problems")
        store.write_jsonl(output, rows)
        if parts:  # without problems there is no such folder
            shutil.rmtree(folder)


def _predict(
    policy: Policy,
    problems: Sequence[Problem],
    encode: Callable[[Problem], tuple[int, ...]],
    protocol: Protocol,
    context_tokens: int,
) -> list[dict]:
    prompts = [encode(problem) for problem in problems]
    requests = [
        Request(
            prompt,
            tuple(seeds.key(protocol.seed, "predict", problem.id, s) for s in range(protocol.samples_per_problem)),
            min(room, protocol.max_response_tokens or room),
        )
        for problem, prompt in zip(problems, prompts, strict=True)
        if (room := context_tokens - len(prompt)) > 0
    ]
    answered = iter(policy.sample(requests, protocol.sampling, protocol.batch_rows))
    rows = []
    for problem, prompt in zip(problems, prompts, strict=True):
        samples = next(answered) if len(prompt) < context_tokens else [None] * protocol.samples_per_problem
        for s, sample in enumerate(samples):
            ids, finished = (list(sample.response_ids), sample.finished) if sample else ([], False)
            rows.append(
                {
                    "problem_id": problem.id,
                    "sample": s,
                    "prompt_tokens": len(prompt),
                    "response_ids": ids,
                    "finished": finished,
                }
                | ({"stop_ids": list(sample.stop_ids)} if sample and sample.stop_ids else {})
            )
    return rows
