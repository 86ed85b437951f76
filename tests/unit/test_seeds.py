from __future__ import annotations

import subprocess
import sys

import numpy as np

from spo import seeds


def test_uniform_is_splitmix64():
    """First outputs of SplitMix64 with seed 0, as published with xoshiro."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    drawn = seeds.uniform(np.zeros(3, np.uint64), np.arange(3))
    assert drawn.tolist() == [(value >> 11) * 2.0**-53 for value in expected]


def test_uniform_numbers_are_uniform_along_keys_and_positions():
    keys = np.array([seeds.key("x", i) for i in range(200)], np.uint64)
    grid = np.stack([seeds.uniform(keys, np.full(200, t)) for t in range(100)])
    assert grid.min() >= 0 and grid.max() < 1
    counts = np.histogram(grid, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # 99.9 % quantile of chi-square with 19 degrees of freedom: 43.8
    assert abs(np.corrcoef(grid[:-1].ravel(), grid[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(grid[:, :-1].ravel(), grid[:, 1:].ravel())[0, 1]) < 0.03


def test_keys_do_not_depend_on_the_process():
    code = "from spo import seeds; print(seeds.key(1, 'rollout', 'p7'))"
    drawn = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": h, "PYTHONPATH": "."}, capture_output=True
        ).stdout
        for h in ("0", "1")
    }
    assert drawn == {f"{seeds.key(1, 'rollout', 'p7')}\n".encode()}


def test_keys_tell_paths_apart():
    paths = [(1, 23), (12, 3), ("1", 23), (1, "23"), (1, 2, 3), ("a", "b"), ("ab",), ("a\x1fstr:b",)]
    assert len({seeds.key(*path) for path in paths}) == len(paths)
