"""The metrics that every method reports of what it sampled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spo.credit.partition import cutpoints
from spo.types import Sample, Trajectory

#: A response as the metrics see it: (ids, ended by itself)
Response = tuple[tuple[int, ...], bool]


def sampled(groups: Sequence[Sequence[Trajectory]], rewards: Sequence[Sequence[float]], gap: float) -> dict[str, float]:
    """What `World.trajectories` returned, as the metrics of a method that estimates no values by rollouts."""
    flat = [trajectory for group in groups for trajectory in group]
    written = [[(trajectory.response_ids, trajectory.finished) for trajectory in group] for group in groups]
    return summary(written, rewards, gap) | {
        "cutpoints": float(np.mean([len(cutpoints(trajectory.logprobs)) for trajectory in flat])),
        "segments": 1.0,
        "mc_points": 0,
        "sampled_tokens": sum(len(trajectory.response_ids) for trajectory in flat),
    }


def summary(groups: Sequence[Sequence[Response]], rewards: Sequence[Sequence[float]], gap: float) -> dict[str, float]:
    """Means over all responses, which come in one group a problem; `distinct_responses` is a share within the group."""
    flat = [response for group in groups for response in group]
    distinct = [len({ids for ids, _ in group}) / len(group) for group in groups]
    flat_rewards = [reward for group in rewards for reward in group]
    return {
        "problems": len(groups),
        "trajectories": len(flat),
        "reward": float(np.mean(flat_rewards)),
        "accuracy": float(np.mean([reward > 0.5 for reward in flat_rewards])),
        "response_tokens": float(np.mean([len(ids) for ids, _ in flat])),
        "truncated": float(np.mean([not finished for _, finished in flat])),
        "distinct_responses": float(np.mean(distinct)),
        "mismatch_kl": gap,
    }


def mismatch(samples: Sequence[Sample], scored: Sequence[Sequence[float]]) -> float:
    """Mean of k3(training - sampler) a token: about the divergence of the model trained from the one that sampled."""
    gaps = np.array(
        [
            t - s
            for sample, row in zip(samples, scored, strict=True)
            for s, t in zip(sample.sampler_logprobs, row, strict=True)
        ]
    )
    return float(np.mean(np.expm1(gaps) - gaps)) if len(gaps) else 0.0
