"""A 256x256 image head for the mobile generator: a preview without its last, largest stage.

Only the last image head of MobileStyleGAN was published. This one reads the 128x256x256 map one
block earlier, in the form of StyleGAN's own heads: scale the channels by the style, then a 1x1
convolution. The scales depend on w through a few directions only; with more, a fit on thousands of
samples learns the samples. `sdic train head` fits it; docs/results/head.md has its error.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdic.generators.base import LATENT_DIM
from sdic.generators.mobile import MobileStyleGAN

PREVIEW_SIZE = 256
CHANNELS = 128
RANK = 16
WEIGHTS = "head-mobile"


class PreviewHead(nn.Module):
    """The map of the 256x256 block [N,128,H,W] and w [N,512] to images [N,3,H,W]."""

    def __init__(self) -> None:
        super().__init__()
        self.mean_latent = nn.Buffer(torch.zeros(LATENT_DIM))
        self.reduce = nn.Linear(LATENT_DIM, RANK, bias=False)
        self.scale = nn.Linear(RANK, CHANNELS)
        self.to_image = nn.Conv2d(CHANNELS, 3, 1)
        nn.init.normal_(self.reduce.weight, std=0.1)
        nn.init.normal_(self.scale.weight, std=0.05)
        nn.init.zeros_(self.scale.bias)

    def forward(self, maps: Tensor, w: Tensor) -> Tensor:
        """Images in about [-1,1], not clamped."""
        scales = 1 + self.scale(self.reduce(w - self.mean_latent))
        return self.to_image(maps * scales[:, :, None, None])  # type: ignore[no-any-return]


def load_head() -> PreviewHead:
    """The head that ships with the package, frozen.

    Raises:
        WeightsError: its file is damaged.
    """
    from sdic import weights

    head = PreviewHead()
    head.load_state_dict({key: value.float() for key, value in weights.load(WEIGHTS).items()})
    return head.eval().requires_grad_(False)


def preview(
    generator: MobileStyleGAN, head: PreviewHead, features: Tensor, w_plus: Tensor
) -> Tensor:
    """About `generator.from_features(features, w_plus, 256)`, without the work at 512x512.

    Args:
        generator: the full-size mobile generator, on the head's device.
        head: see `load_head`.
        features: F [N,512,64,64].
        w_plus: latents [N,S,512].

    Returns:
        Images [N,3,256,256].
    """
    return head(generator.preview_maps(features, w_plus), w_plus.mean(dim=1))  # type: ignore[no-any-return]
