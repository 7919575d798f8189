"""The contract that every generator keeps.

A generator is asked in two halves: from latents to the features F of one layer, and from F to the
image. SDIC (eq. 5 and 6) changes F between the two, and an edit needs only the first half twice.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sdic import domains
from sdic.domains import Domain
from sdic.errors import InputError

LATENT_DIM = 512


@dataclass(frozen=True)
class Identity:
    """Which generator something was made with, as files say it.

    Attributes:
        family: key of the architecture in the registry (`sdic.generators.create`).
        domain: key of what it shows (`sdic.domains`).
        space: which W its codes live in; directions belong to a space, see `generators.spaces`.
        fingerprint: of all its weights; inversions belong to it.
    """

    family: str
    domain: str
    space: str
    fingerprint: str


class Generator(nn.Module, ABC):
    """A pretrained StyleGAN-like generator, split at its feature layer, frozen by default.

    Attributes:
        name: key of the generator's family in the registry (`sdic.generators.create`).
        domain: what it shows.
        space: which W its codes live in; directions belong to a space, see `generators.spaces`.
        num_styles: rows of a w+ code.
        row_layers: for each row the layer of a StyleGAN2 that it acts on (0 is the first
            convolution, the last one is the image head), so that rows of two generators of one
            space can be told to be the same.
        resolution: side of the generated image in pixels.
        feature_shape: (channels, height, width) of F.
        mean_latent: [512], the mean of `mapping` over z.
    """

    name: str
    domain: Domain = domains.FACES
    space: str
    num_styles: int
    row_layers: tuple[int, ...]
    resolution: int
    feature_shape: tuple[int, int, int]
    mean_latent: Tensor

    @abstractmethod
    def mapping(self, z: Tensor) -> Tensor:
        """Map z [N,512] (standard normal) to w [N,512], without truncation."""

    @abstractmethod
    def to_features(self, w_plus: Tensor) -> Tensor:
        """First half: latents w+ [N,S,512] to features F [N,C,H,W]."""

    @abstractmethod
    def from_features(self, features: Tensor, w_plus: Tensor, size: int | None = None) -> Tensor:
        """Second half: features F [N,C,H,W] and latents w+ [N,S,512] to images.

        Args:
            features: F, as `to_features` gives it or as a method changed it.
            w_plus: the latents of the pass; rows that act before F are ignored by a generator
                without an image skip.
            size: side of the image; None is the full resolution. A smaller size is the exact
                area average of the full image, computed as cheaply as the generator can.

        Returns:
            Images [N,3,size,size], in about [-1,1], not clamped.
        """

    @abstractmethod
    def styles(self, w_plus: Tensor) -> Tensor:
        """Style space: latents w+ [N,S,512] to the scales [N,C] of all modulated channels.

        Channels lie in the order of the layers of a pass.
        """

    def forward(self, w_plus: Tensor, size: int | None = None) -> Tensor:
        """One whole pass: latents w+ [N,S,512] to images [N,3,size,size]."""
        return self.from_features(self.to_features(w_plus), w_plus, size)

    @cached_property
    def identity(self) -> Identity:
        """Which generator this is; of its weights as they are at the first look."""
        return Identity(self.name, self.domain.name, self.space, self._fingerprint())

    def _fingerprint(self) -> str:
        """Sixteen hexadecimal digits for all weights."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy())
        return digest.hexdigest()

    def check_size(self, size: int | None) -> int:
        """The side of the image asked for, in pixels; None is the full resolution.

        Raises:
            InputError: the size does not divide the resolution.
        """
        size = self.resolution if size is None else size
        if size < 1 or self.resolution % size:
            raise InputError(
                f"Image size {size} was asked for; it must divide {self.resolution}, "
                "the resolution of the generator."
            )
        return size

    def broadcast(self, w: Tensor) -> Tensor:
        """Repeat w [N,512] over all style rows: w+ [N,S,512]."""
        return w[:, None, :].expand(-1, self.num_styles, -1)

    def truncate(self, w: Tensor, truncation: float) -> Tensor:
        """Pull w [...,512] towards the mean latent: mean + truncation * (w - mean)."""
        return self.mean_latent + truncation * (w - self.mean_latent)

    def sample(self, num: int, seed: int, truncation: float = 1.0) -> Tensor:
        """Draw w [num,512] from the mapping network.

        Sample i depends on the seed and on i only, not on `num` or the device.
        """
        random = torch.Generator("cpu").manual_seed(seed)
        rows = [torch.randn(LATENT_DIM, generator=random) for _ in range(num)]
        z = torch.stack(rows) if rows else torch.empty(0, LATENT_DIM)
        return self.truncate(self.mapping(z.to(self.mean_latent)), truncation)

    def freeze(self) -> Generator:
        """Switch off gradients of all parameters and go to eval mode; returns self."""
        self.eval()
        self.requires_grad_(False)
        return self
