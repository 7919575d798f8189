"""A tiny generator, and a shelf of methods whose shipped weights are random numbers for it."""

import pytest
import torch
from torch import nn

from sdic.encoders.compact import CompactEncoder
from sdic.methods.sdic.compact import CompactDICN, CompactDIPN
from sdic.methods.sdic.compact_transfer import CompactTransfer
from tiny import tiny_generator


@pytest.fixture(scope="module")
def network():
    return tiny_generator(channels=(8,) * 6)  # F is 64x64, as the shipped networks want it


@pytest.fixture(scope="module")
def trained(network):
    """Files of weights as the package ships them, with random numbers in fp16."""
    torch.manual_seed(0)
    encoder = CompactEncoder(network.num_styles)
    parts = {
        "dipn": CompactDIPN(),
        "dicn": CompactDICN(network.num_styles, 8),
        "transfer": CompactTransfer(8),
    }

    def under(name, module):
        return {f"{name}.{key}": value.half() for key, value in module.state_dict().items()}

    tensors: dict[str, torch.Tensor] = {}
    for name, part in parts.items():
        tensors |= under(name, part)
    return {"encoder-mobile": under("encoder", encoder), "sdic-mobile": tensors}


@pytest.fixture
def shelf(monkeypatch, trained):
    monkeypatch.setattr("sdic.weights.load", lambda name: dict(trained[name]))
    monkeypatch.setattr("sdic.losses.perceptual.create", lambda *_: nn.Identity())
