"""Every generator, small, for tests without weights: the same network for the same arguments."""

import math
from functools import cache, partial

import torch

import parity
from sdic.generators.mobile import MobileStyleGAN, Modulation
from sdic.generators.stylegan2 import StyleGAN2


@torch.no_grad()
def tiny_generator(seed=0, channels=(8, 8, 8, 8, 8), feature_block=None, deep=False):
    """A mobile generator whose images depend on its latents and lie within about [-1,1].

    Five blocks make images of 256x256 from 17 rows. F is that of the middle block, 8x32x32, if no
    other is asked for. Late rows and biases make the most of an image, which a descent soon
    reaches; in a `deep` one all rows that act do so visibly.
    """
    random = torch.Generator().manual_seed(seed)
    block = len(channels) // 2 if feature_block is None else feature_block
    network = MobileStyleGAN(channels, block)
    for name, tensor in network.state_dict().items():
        if name.endswith(("modulation.bias", "up.bias")):
            tensor.fill_(1)
        elif name.endswith("noise") or tensor.ndim == 1:
            tensor.normal_(0, 0.03, generator=random)
        else:
            fan_in = 1 if name == "constant" else tensor[0].numel()
            tensor.normal_(0, 1 / math.sqrt(fan_in), generator=random)
    for module in network.modules():
        if deep and isinstance(module, Modulation):
            module.weight.mul_(0.4 / module.gain)
            module.bias.div_(module.gain)
    network.mean_latent.copy_(network.mapping(torch.randn(500, 512, generator=random)).mean(0))
    images = network(network.broadcast(network.sample(8, seed=0)))
    network.to_image.weight.mul_(0.3 / images.std())
    network.to_image.bias.zero_()
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


TINY = {"mobile": partial(tiny_generator, deep=True), "stylegan2": tiny_stylegan2}
