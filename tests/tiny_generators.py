"""Every generator, small, with weights from a fixed rule that keep its maps at unit scale."""

import math
from functools import cache

import torch

import parity
from sdic.generators.mobile import MobileStyleGAN, Modulation
from sdic.generators.stylegan2 import StyleGAN2


@torch.no_grad()
def tiny_mobile():
    """Five blocks: 256x256, 17 rows, F of 8x32x32."""
    random = torch.Generator().manual_seed(0)
    network = MobileStyleGAN((8, 8, 8, 8, 8), feature_block=2)
    for module in network.modules():
        if isinstance(module, Modulation):
            module.weight.normal_(0, 0.2 / math.sqrt(512) / module.gain, generator=random)
            module.bias.fill_(1 / module.gain)
        elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, 1 / math.sqrt(fan_in), generator=random)
    network.constant.normal_(generator=random)
    z = torch.randn(500, 512, generator=random)
    network.mean_latent.copy_(network.mapping(z).mean(dim=0))
    return network


@cache
def _stylegan2_state(resolution, width):
    network = StyleGAN2(resolution, 1, width * resolution, 2 * width)
    return parity.fill(network.state_dict(), "decoder.")


def tiny_stylegan2(resolution=128, feature_layer=7, width=8):
    """`width` channels at the last side, twice as many below; filled by the rule of `parity`."""
    network = StyleGAN2(resolution, feature_layer, width * resolution, 2 * width)
    network.load_state_dict(_stylegan2_state(resolution, width))
    network.mean_latent.copy_(network.compute_mean_latent(500))
    return network


TINY = {"mobile": tiny_mobile, "stylegan2": tiny_stylegan2}
