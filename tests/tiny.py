"""A tiny mobile generator whose images depend on its latents, for tests without weights."""

import math

import torch

from sdic.generators.mobile import MobileStyleGAN


@torch.no_grad()
def tiny_generator(seed=0, channels=(8, 8, 8, 8, 8)):
    """Filled from a seed; five blocks make 256x256 images within about [-1,1], 17 rows."""
    random = torch.Generator().manual_seed(seed)
    network = MobileStyleGAN(channels, feature_block=len(channels) // 2)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and name != "constant":
            fan_in = parameter[0].numel()
            torch.nn.init.normal_(parameter, 0, 1 / math.sqrt(fan_in), generator=random)
        elif "modulation.bias" in name or ".up.bias" in name:
            parameter.fill_(1)
    torch.nn.init.normal_(network.constant, generator=random)
    network.mean_latent.copy_(network.mapping(torch.randn(200, 512, generator=random)).mean(0))
    images = network(network.broadcast(network.sample(8, seed=0)))
    network.to_image.weight.mul_(0.3 / images.std())
    network.to_image.bias.zero_()
    return network
