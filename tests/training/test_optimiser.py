"""Ranger against the published one, the learning rate over time, and the moving average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sdic.training.optimiser import Ema, create, learning_rate
from sdic.training.recipe import Optimiser

GOLDEN = Path(__file__).parents[1] / "data" / "golden_ranger.npz"


@pytest.mark.parametrize("name", ["conv", "linear", "bias"])
def test_ranger_follows_the_published_one(name: str) -> None:
    """20 steps of the published Ranger at rate 0.01 on sum((p - target)^2).

    The target is read off the first step, which is a plain gradient step; where gradients are
    centralised, only the target's deviation from its mean matters. Steps 2 to 20 are compared.
    """
    with np.load(GOLDEN) as file:
        golden = torch.from_numpy(file[name])
    rate = 0.01
    first, second = golden[0].double(), golden[1].double()
    target = (first + (second - first) / (2 * rate)).float()
    parameter = nn.Parameter(golden[0].clone())
    optimiser = create(Optimiser(name="ranger", learning_rate=rate), [parameter])
    for step in range(1, len(golden)):
        optimiser.zero_grad()
        (parameter - target).square().sum().backward()
        optimiser.step()
        assert (parameter - golden[step]).abs().max() < 2e-6, f"step {step}"


@pytest.mark.parametrize("name", ["ranger", "adamw"])
def test_the_first_steps_go_down(name: str) -> None:
    parameter = nn.Parameter(torch.full((3, 4), 2.0))
    optimiser = create(Optimiser(name=name, learning_rate=1e-3), [parameter])
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = (parameter * torch.arange(4)).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_learning_rate_rises_stays_and_falls() -> None:
    settings = Optimiser(learning_rate=2.0, warmup=10, decay_start=0.5, final=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10:51] == [2.0] * 41
    assert rates[75] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rates[51:] == sorted(rates[51:], reverse=True)
    assert learning_rate(settings, 1000, 100) == pytest.approx(0.2)


def test_average_follows_its_formula_and_leaves_the_weights_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = Ema({"net": network}, decay=0.5)
    expected = network[0].weight.detach().clone()
    for step in range(1, 5):
        with torch.no_grad():
            network[0].weight.add_(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
        ema.update(step)
    assert torch.allclose(ema.average["net.0.weight"], expected)
    assert "net.1.running_mean" in ema.average
    assert "net.1.num_batches_tracked" not in ema.average
    before = network[0].weight.detach().clone()
    with ema.applied():
        assert torch.equal(network[0].weight, ema.average["net.0.weight"])
    assert torch.equal(network[0].weight, before)
