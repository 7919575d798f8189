"""e4e (Tov 2021): one pass of an encoder, no compensation. SDIC starts from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdic.generators.base import Generator
from sdic.methods.base import INVERSION_SIZE, Inversion, Inverter, Progress, check_images


class E4E(Inverter):
    """Inversion by an encoder alone: w = encoder(I).

    Args:
        generator: the generator whose latents the encoder gives.
        encoder: images [N,3,256,256] to latents w+ [N,S,512].
    """

    name = "e4e"

    def __init__(self, generator: Generator, encoder: nn.Module) -> None:
        super().__init__(generator)
        self.encoder = encoder

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The encoder by name."""
        return {"encoder": self.encoder}

    @torch.no_grad()
    def invert(self, images: Tensor, progress: Progress | None = None) -> Inversion:
        """Invert images [N,3,256,256] in [-1,1].

        Raises:
            InputError: the images have another shape or range.
        """
        check_images(images)
        latents = self.encoder(images)
        return Inversion(
            method=self.name,
            generator=self.generator.name,
            latents=latents,
            base_latents=latents,
            features=None,
            reconstruction=self.generator(latents, size=INVERSION_SIZE),
        )
