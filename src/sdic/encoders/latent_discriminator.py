"""The latent discriminator of e4e: does a code come from the mapping network?"""

from __future__ import annotations

from torch import Tensor, nn

from sdic.generators.base import LATENT_DIM


class LatentDiscriminator(nn.Sequential):
    """Latents [...,512] to logits [...,1]: positive for codes of W (Tov 2021, section 4.1).

    A perceptron of four layers; leaky ReLU (slope 0.2) between them.
    """

    def __init__(self, width: int = LATENT_DIM, num_layers: int = 4) -> None:
        layers: list[nn.Module] = []
        in_chs = LATENT_DIM
        for _ in range(num_layers - 1):
            layers += [nn.Linear(in_chs, width), nn.LeakyReLU(0.2)]
            in_chs = width
        super().__init__(*layers, nn.Linear(in_chs, 1))

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [...,512] to logits [...,1]."""
        return super().forward(latents)  # type: ignore[no-any-return, no-untyped-call]
