"""Fit the 256x256 image head of the mobile generator to its full output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdic.generators.mobile import MobileStyleGAN
from sdic.generators.mobile_head import PREVIEW_SIZE, PreviewHead
from sdic.runtime.allocator import release_memory

PIXELS = 128  # of each sample; many samples with few pixels teach the dependence on w
BATCH = 64
STEPS = 1500
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class Pixels:
    """Some pixels of N generated images.

    Attributes:
        latents: w [N,512].
        maps: [N,P,128], the generator's map at these pixels.
        images: [N,P,3], the area-averaged full image there.
    """

    latents: Tensor
    maps: Tensor
    images: Tensor

    def part(self, first: int, last: int) -> Pixels:
        """The images from number `first` up to `last`, which is not among them."""
        return Pixels(self.latents[first:last], self.maps[first:last], self.images[first:last])


@torch.no_grad()
def collect(generator: MobileStyleGAN, samples: int, seed: int) -> Pixels:
    """Random pixels of generated images."""
    random = torch.Generator().manual_seed(seed)
    latents = generator.sample(samples, seed)
    maps, images = [], []
    for i in range(samples):
        w_plus = generator.broadcast(latents[i : i + 1])
        features = generator.to_features(w_plus)
        chosen = torch.randperm(PREVIEW_SIZE**2, generator=random)[:PIXELS]
        whole = generator.from_features(features, w_plus, PREVIEW_SIZE)
        maps.append(generator.preview_maps(features, w_plus)[0].flatten(1)[:, chosen].T)
        images.append(whole[0].flatten(1)[:, chosen].T)
        release_memory()
    return Pixels(latents, torch.stack(maps), torch.stack(images))


def fit(pixels: Pixels, mean_latent: Tensor, seed: int = 0) -> PreviewHead:
    """A head that minimises the mean absolute error on these pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = PreviewHead()
    head.mean_latent.copy_(mean_latent)
    random = torch.Generator().manual_seed(seed)
    scales = [*head.reduce.parameters(), *head.scale.parameters()]
    optimiser = torch.optim.AdamW(
        [
            {"params": scales, "weight_decay": WEIGHT_DECAY},
            {"params": list(head.to_image.parameters()), "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
    )
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 2 * (1 - step / STEPS))
        chosen = torch.randint(len(pixels.latents), (BATCH,), generator=random)
        loss = _difference(head, pixels, chosen).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return head.eval().requires_grad_(False)


@torch.no_grad()
def mean_absolute_error(head: PreviewHead, pixels: Pixels) -> float:
    """Mean absolute difference of images in [-1,1] over these pixels."""
    return _difference(head, pixels, torch.arange(len(pixels.latents))).mean().item()


def _difference(head: PreviewHead, pixels: Pixels, chosen: Tensor) -> Tensor:
    maps = pixels.maps[chosen].transpose(1, 2)[..., None]
    images = pixels.images[chosen].transpose(1, 2)[..., None]
    difference: Tensor = head(maps, pixels.latents[chosen]) - images
    return difference.abs()
