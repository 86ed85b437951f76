"""Where a response is cut into segments.

Cuts are positions 0 = c_0 < c_1 < ... < c_K = T; segment k is the half-open range of tokens [c_k, c_{k+1}), so a cut at
t lies before token t. An empty response (T = 0) has no segment and the single cut (0,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from spo.credit.steps import RULES, step_cuts
from spo.settings import Partition

Cuts = tuple[int, ...]


def log_threshold(threshold: float) -> float:
    """The float32 log-probability that stands for probability `threshold`.

    Partition and loss mask compare float32 log-probabilities with this one number, so a token near the threshold is
    always on the same side of it.
    """
    return float(np.float32(math.log(threshold))) if threshold > 0 else -math.inf


def cutpoints(logprobs: Sequence[float], threshold: float = 0.9) -> Cuts:
    """Positions of tokens whose probability is strictly below `threshold` (§4 of arXiv 2505.23564; spec §2.1).

    logprobs (T): of the sampled tokens, natural logarithm.

    >>> cutpoints([math.log(p) for p in (0.95, 0.2, 0.9, 0.89)])
    (1, 3)
    """
    below = np.asarray(logprobs, np.float32) < np.float32(log_threshold(threshold))
    return tuple(np.flatnonzero(below).tolist())


def cutpoint_interval(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """A cut before the first cutpoint and before every `interval`-th one after it (spec §2.1-2.2).

    The tokens before the first cutpoint are a segment of their own; `Chain.first_segment` says what they earn.
    Deviation: the paper divides all cutpoints evenly; that is `cutpoint_count` (key `partition.name`).

    >>> p = [0.99, 0.2, 0.99, 0.3, 0.4, 0.5, 0.6, 0.99, 0.7, 0.8]
    >>> cutpoint_interval([math.log(x) for x in p], [], Partition(interval=5))
    (0, 1, 8, 10)
    """
    return _cuts(cutpoints(logprobs, partition.threshold)[:: partition.interval], len(logprobs))


def cutpoint_count(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """At most `segments` segments whose numbers of cutpoints differ by one at most, longer ones first (paper §4).

    The first segment begins at 0. With fewer cutpoints than segments, each segment has one.

    >>> cutpoint_count([math.log(0.5)] * 7, [], Partition(segments=3))
    (0, 3, 5, 7)
    """
    positions = cutpoints(logprobs, partition.threshold)
    starts = _even(len(positions), partition.segments)[1:-1]
    return _cuts((positions[start] for start in starts), len(logprobs))


def fixed_tokens(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """A cut every `tokens` tokens; the last segment may be shorter.

    >>> fixed_tokens([0.0] * 10, [], Partition(tokens=4))
    (0, 4, 8, 10)
    """
    return _cuts(range(0, len(logprobs), partition.tokens), len(logprobs))


def fixed_count(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """At most `segments` segments of nearly equal length, longer ones first (spec §2.3).

    Official boundaries are these cuts less 1, without the first and, unless T < `segments`, the last. The official run
    of this partition leaves the first segment without advantage (key `Chain.first_segment`).
    Deviation: where T < `segments` the official code has a boundary at the end of the response, so that rollouts rate
    its last token; here, as everywhere, the last cut carries the reward.

    >>> fixed_count([0.0] * 10, [], Partition(segments=4))
    (0, 3, 6, 8, 10)
    """
    return _cuts(_even(len(logprobs), partition.segments), len(logprobs))


def lines(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """A cut before every line, that is before its new-line (VinePPO, arXiv 2410.01679; spec §4.4).

    pieces (T): the text that each token adds. Source: the official splitting of GSM8K solutions, see
    `spo.credit.steps.line_starts`.

    >>> lines([0.0] * 4, ["1+1=2", "\\n", "2+1=3", "\\n#### 3"], Partition())
    (0, 1, 4)
    """
    return step_cuts(RULES["lines"], pieces)


def math_steps(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """A cut before every step of a MATH solution (VinePPO; spec §4.4): see `spo.credit.steps.math_starts`.

    pieces (T): the text that each token adds.

    >>> math_steps([0.0] * 3, ["We add the two numbers.", " Then we get", " their sum, which is 3."], Partition())
    (0, 1, 3)
    """
    return step_cuts(RULES["math_steps"], pieces)


def whole(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """One segment: the advantage of the whole response.

    >>> whole([0.0] * 8, [], Partition())
    (0, 8)
    """
    return _cuts((), len(logprobs))


def every_token(logprobs: Sequence[float], pieces: Sequence[str], partition: Partition) -> Cuts:
    """A segment for each token.

    >>> every_token([0.0] * 3, [], Partition())
    (0, 1, 2, 3)
    """
    return _cuts(range(len(logprobs)), len(logprobs))


def _cuts(inner: Iterable[int], tokens: int) -> Cuts:
    return tuple(sorted({0, tokens, *inner}))


def _even(count: int, parts: int) -> list[int]:
    """Edges of `parts` runs over `count` things, the first `count % parts` runs one longer; empty runs left out."""
    size, extra = divmod(count, parts)
    edges = [0]
    for part in range(min(parts, count)):
        edges.append(edges[-1] + size + (part < extra))
    return edges


#: (logprobs (T), text that each token adds (T) for partitions named in `spo.credit.steps.RULES`, settings) -> cuts
PARTITIONS: dict[str, Callable[[Sequence[float], Sequence[int], Partition], Cuts]] = {
    "cutpoint_interval": cutpoint_interval,
    "cutpoint_count": cutpoint_count,
    "fixed_tokens": fixed_tokens,
    "fixed_count": fixed_count,
    "lines": lines,
    "math_steps": math_steps,
    "whole": whole,
    "every_token": every_token,
}

#: Partitions whose cuts are cutpoints
AT_CUTPOINTS = frozenset({"cutpoint_interval", "cutpoint_count"})
