"""Networks that are made to be filled from a file."""

from __future__ import annotations

import torch
from torch import nn

from sdic.weights.checkpoints import load_strict
from sdic.weights.unfilled import Unfilled


def test_no_random_values_are_drawn() -> None:
    before = torch.get_rng_state()
    with Unfilled():
        network = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert torch.equal(torch.get_rng_state(), before)
    state = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    load_strict(network, state, "ones")
    assert torch.equal(network[0](torch.ones(1, 3)), torch.full((1, 4), 4.0))
    nn.Linear(3, 4)
    assert not torch.equal(torch.get_rng_state(), before)  # as ever outside
