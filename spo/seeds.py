"""Random numbers as functions of counters: nothing is saved, and a resumed run draws what it would have drawn."""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15


def key(*parts: str | int) -> int:
    """Hash a path of counters, such as (run seed, stage, iteration, problem, sample), to 64 bits.

    >>> key(1, "rollout", 0, "p7", 3) == key(1, "rollout", 0, "p7", 3)
    True
    >>> key("1", 2) == key(1, "2")
    False
    """
    text = "".join(f"{type(part).__name__}{len(str(part))}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(*parts: str | int) -> np.random.Generator:
    """A numpy generator of its own for one path of counters."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def uniform(keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Uniform float64 numbers in [0, 1), one for each (key, position): SplitMix64 at counter `position`.

    keys (N) uint64, positions (N) or scalar integers. Source: Steele, Lea & Flood 2014.

    >>> uniform(np.array([1, 1, 2], np.uint64), np.array([0, 1, 0])).round(6).tolist()
    [0.566562, 0.745782, 0.59119]
    """
    with np.errstate(over="ignore"):
        state = np.asarray(keys, np.uint64) + (np.asarray(positions).astype(np.uint64) + np.uint64(1)) * np.uint64(
            _GOLDEN
        )
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
