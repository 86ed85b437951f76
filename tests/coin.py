"""A world in which every value is known: a policy that tosses three coins, and a reward for two heads or more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from spo import seeds
from spo.methods.world import Clock, World
from spo.settings import Train
from spo.types import Problem, Sample
from tests import tiny

TAILS, HEADS, EOS, PROMPT = range(4)
CHANCE_OF_HEADS = 0.6
COINS = 3
#: Chance of two heads or more, by what lies on the table: 0.6^3 + 3 * 0.6^2 * 0.4; 1 - 0.4^2; 0.6^2; ...
VALUES = {(): 0.648, (1,): 0.84, (0,): 0.36, (1, 1): 1.0, (1, 0): 0.6, (0, 1): 0.6, (0, 0): 0.0}
VALUES |= {(a, b, c): float(a + b + c >= 2) for a in (0, 1) for b in (0, 1) for c in (0, 1)}


class Tosser:
    """A policy and a critic: three coins and the end, and the exact value of every state."""

    def sample(self, requests, sampling, batch_rows: int = 0) -> list[list[Sample]]:
        return [[self._one(request, key) for key in request.keys] for request in requests]

    def _one(self, request, key: int) -> Sample:
        ids = list(request.prompt_ids[1:])
        start = len(ids)
        while len(ids) - start < request.max_response_tokens and EOS not in ids:
            draw = seeds.uniform(np.array([key], np.uint64), len(ids) - start)[0]
            ids.append(EOS if len(ids) == COINS else int(draw < CHANCE_OF_HEADS))
        return Sample(tuple(ids[start:]), tuple(map(logprob, ids[start:])), EOS in ids)

    def token_logprobs(self, input_ids, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs = torch.tensor([[logprob(i) for i in row[1:]] for row in input_ids.tolist()])
        return logprobs, torch.zeros_like(logprobs)

    def values(self, input_ids) -> torch.Tensor:
        rows = [[VALUES.get(tuple(row[1 : j + 1]), 0.0) for j in range(len(row))] for row in input_ids.tolist()]
        return torch.tensor(rows, dtype=torch.float64)


def logprob(token: int) -> float:
    return math.log({TAILS: 1 - CHANCE_OF_HEADS, HEADS: CHANCE_OF_HEADS}.get(token, 1.0))


def reward(problem: Problem, ids: Sequence[int], finished: bool) -> float:
    return float(finished and sum(i == HEADS for i in ids) >= 2)


def world(settings: Train = tiny.BASE) -> World:
    tosser = Tosser()
    return World(
        policy=tosser,
        settings=settings,
        iteration=0,
        encode=lambda problem: (PROMPT,),
        reward=reward,
        pieces=lambda ids: [""] * len(ids),
        clock=Clock(),
        critic=tosser,
    )
