"""Whether weights have changed."""

from __future__ import annotations

import torch
from torch import Tensor


def checksum(weight: Tensor) -> int:
    """Sum of a tensor's bit patterns as integers of their width, modulo 2**64: it tells whether weights have changed.

    `Tensor._version` does not: writes through `Tensor.data`, as on resumption, leave it as it was.

    >>> checksum(torch.zeros(3)), checksum(torch.tensor([0.0, 1.0]))
    (0, 1065353216)
    """
    width = {2: torch.int16, 4: torch.int32}[weight.element_size()]
    return int(weight.detach().contiguous().view(width).sum(dtype=torch.int64))
