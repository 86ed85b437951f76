from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spo.policy.sampling import choose, nucleus
from spo.types import Sampling

#: Probabilities 0.2, 0.5, 0.3
LOGITS = torch.tensor([[math.log(2), math.log(5), math.log(3)]])


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.199, 0), (0.201, 1), (0.699, 1), (0.701, 2), (0.999, 2)])
def test_the_draw_inverts_the_cumulative_distribution(uniform, token):
    ids, logprobs = choose(LOGITS, Sampling(), np.array([uniform]))
    assert ids.tolist() == [token]
    assert logprobs.tolist() == pytest.approx([math.log([0.2, 0.5, 0.3][token])], abs=1e-6)


def test_temperature_sharpens_the_distribution():
    # At temperature 0.5 probabilities are 4, 25, 9 in 38: cumulative 0.105, 0.763.
    ids, logprobs = choose(LOGITS.repeat(3, 1), Sampling(temperature=0.5), np.array([0.10, 0.76, 0.77]))
    assert ids.tolist() == [0, 1, 2]
    assert logprobs.tolist() == pytest.approx([math.log(x / 38) for x in (4, 25, 9)], abs=1e-6)


def test_a_nucleus_is_drawn_from_but_not_scored():
    # Top-p 0.6 keeps 0.5 and 0.3; of their 0.8, the first 0.625 goes to token 1.
    ids, logprobs = choose(LOGITS.repeat(3, 1), Sampling(top_p=0.6), np.array([0.0, 0.62, 0.63]))
    assert ids.tolist() == [1, 1, 2]
    assert logprobs.tolist() == pytest.approx([math.log(x) for x in (0.5, 0.5, 0.3)], abs=1e-6)


def test_a_nucleus_reaches_its_mass_with_the_token_that_fills_it():
    assert nucleus(torch.tensor([[0.25, 0.5, 0.25]]), 0.5).tolist() == [[0.0, 0.5, 0.0]]
    assert nucleus(torch.tensor([[0.25, 0.5, 0.25]]), 0.51).tolist() == [[0.25, 0.5, 0.0]]


def test_temperature_zero_takes_the_lowest_of_equals():
    ids, logprobs = choose(torch.tensor([[0.0, 1.0, 1.0]]), Sampling(temperature=0.0), np.array([0.9]))
    assert ids.tolist() == [1]
    assert logprobs.tolist() == pytest.approx([1 - math.log(1 + 2 * math.e)], abs=1e-6)


def test_a_token_without_probability_is_never_drawn():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf]])
    ids, logprobs = choose(logits.repeat(2, 1), Sampling(), np.array([0.0, 1 - 2**-53]))
    assert ids.tolist() == [1, 1] and logprobs.tolist() == [0.0, 0.0]
