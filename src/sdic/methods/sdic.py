"""SDIC (Zhang 2024): predict what an initial reconstruction lost, compensate, then edit.

    w  = encoder(I)            e4e, frozen            F = generator.to_features(w)
    R_o = generator(w)         initial reconstruction
    D  = DIPN(I, R_o)          eq. 1, 2               methods/dipn.py
    F*, w* = DICN(D, F, w)     eq. 3, 4, 5            methods/dicn.py
    image = generator.from_features(F*, w*)           edits: eq. 6, `Inverter.synthesize`

The three networks may be any with these signatures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdic.editing.direction import Edit
from sdic.encoders.e4e import E4EEncoder
from sdic.encoders.layers import resize_bilinear
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.methods.base import INVERSION_SIZE, Inversion, Inverter, Progress, check_images
from sdic.methods.dicn import DICN
from sdic.methods.dipn import DIPN
from sdic.runtime.folding import channels_last, fold_batch_norm


@dataclass(frozen=True)
class SDICPreset:
    """Where the paper and the published code run SDIC differently.

    `DIPNLayout` and `DICN` name the differences inside the networks.

    Attributes:
        bilinear_initial: R_o is made at full resolution, clamped to [-1,1], then resized to 256
            bilinearly without antialiasing, which skips pixels (code); else it is the area average
            (the paper does not say).
    """

    bilinear_initial: bool


SDIC_PRESETS = {"paper": SDICPreset(False), "published": SDICPreset(True)}


@dataclass(frozen=True)
class Compensation:
    """All that SDIC computes on its way from N photos to F* and w*.

    Attributes:
        latents: w [N,S,512].
        features: F [N,C,H,W], the generator's own features of w.
        initial: R_o [N,3,256,256] in [-1,1].
        discrepancy: D, as DIPN gives it.
        enhanced_latents: w* [N,S,512].
        enhanced_features: F* [N,C,H,W].
    """

    latents: Tensor
    features: Tensor
    initial: Tensor
    discrepancy: Tensor
    enhanced_latents: Tensor
    enhanced_features: Tensor


class SDIC(Inverter):
    """Compensate, then edit.

    Args:
        generator: the frozen generator.
        encoder: images [N,3,256,256] to latents w+ [N,S,512]; frozen in the paper.
        dipn: (I, R_o) to D; I and R_o are [N,3,256,256].
        dicn: (D, F, w) to (F*, w*).
        preset: "paper" or "published", see `SDICPreset`.
        edit_enhanced: edit as the published script does: F_edited = F* - F(w) + F(w* + edit), with
            the last term of the compensated instead of the initial latents (eq. 6). Strength 0
            then does not give back the inversion.

    Raises:
        InputError: there is no such preset.
    """

    name = "sdic"

    def __init__(
        self,
        generator: Generator,
        encoder: nn.Module,
        dipn: nn.Module,
        dicn: nn.Module,
        preset: str = "paper",
        *,
        edit_enhanced: bool = False,
    ) -> None:
        super().__init__(generator)
        if preset not in SDIC_PRESETS:
            known = ", ".join(SDIC_PRESETS)
            raise InputError(f"SDIC has no preset '{preset}'; choose one of: {known}.")
        self.encoder = encoder
        self.dipn = dipn
        self.dicn = dicn
        self.preset = SDIC_PRESETS[preset]
        self.edit_enhanced = edit_enhanced

    @classmethod
    def create(
        cls,
        generator: Generator,
        preset: str = "paper",
        *,
        spatial_context: bool = True,
        dipn_attention: bool = True,
        dicn_attention: bool = True,
    ) -> SDIC:
        """SDIC with the paper's own networks, untrained, sized for a generator.

        Args:
            generator: any generator; its `feature_shape` decides at which layer F is compensated
                (ablation: StyleGAN2 with feature layer 5, 7 or 9).
            preset: "paper" or "published", of the run and of both networks.
            spatial_context: see `DIPN`.
            dipn_attention: see `DIPN`.
            dicn_attention: see `DICN`.
        """
        num_styles, shape = generator.num_styles, generator.feature_shape
        dipn = DIPN(preset, spatial_context=spatial_context, attention=dipn_attention)
        dicn = DICN(num_styles, shape, preset, attention=dicn_attention)
        return cls(generator, E4EEncoder(num_styles).eval(), dipn.eval(), dicn.eval(), preset)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The encoder, DIPN and DICN by name."""
        return {"encoder": self.encoder, "dipn": self.dipn, "dicn": self.dicn}

    def for_inference(self) -> SDIC:
        """Fold the batch norms of all networks and lay weights out for the CPU; returns self.

        Results are the same up to rounding; the networks can no longer be trained or saved.
        """
        for network in self.networks.values():
            channels_last(fold_batch_norm(network))
        return self

    @torch.no_grad()
    def invert(self, images: Tensor, progress: Progress | None = None) -> Inversion:
        """Invert images [N,3,256,256] in [-1,1].

        Raises:
            InputError: the images have another shape or range.
        """
        check_images(images)
        made = self.compensate(images, self.encoder(images))
        features, latents = made.enhanced_features, made.enhanced_latents
        return Inversion(
            method=self.name,
            generator=self.generator.name,
            latents=latents,
            base_latents=made.latents,
            features=features,
            reconstruction=self.generator.from_features(features, latents, INVERSION_SIZE),
        )

    def compensate(self, images: Tensor, latents: Tensor) -> Compensation:
        """Photos I [N,3,256,256] and latents w [N,S,512] to D, F* and w*; differentiable."""
        features = self.generator.to_features(latents)
        initial = self.initial_reconstruction(features, latents, images.shape[-1])
        discrepancy = self.dipn(images, initial)
        enhanced_features, enhanced_latents = self.dicn(discrepancy, features, latents)
        return Compensation(
            latents, features, initial, discrepancy, enhanced_latents, enhanced_features
        )

    def initial_reconstruction(
        self, features: Tensor, latents: Tensor, size: int = INVERSION_SIZE
    ) -> Tensor:
        """R_o [N,3,size,size] in [-1,1] from F and w."""
        if self.preset.bilinear_initial:
            image = self.generator.from_features(features, latents)
            return resize_bilinear(image.clamp(-1, 1), size)
        return self.generator.from_features(features, latents, size).clamp(-1, 1)

    @torch.no_grad()
    def synthesize(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Tensor:
        """Generate the inverted images [N,3,size,size], edited if asked for; see `Inverter`."""
        if edit is None or not self.edit_enhanced or inversion.features is None:
            return super().synthesize(inversion, edit, size)
        latents = edit.apply(inversion.latents)
        base = self.generator.to_features(inversion.base_latents)
        features = inversion.features - base + self.generator.to_features(latents)
        return self.generator.from_features(features, latents, size)
