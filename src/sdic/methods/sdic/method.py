"""SDIC (Zhang 2024): predict what an initial reconstruction lost, compensate, then edit.

    w  = encoder(I)            e4e, frozen            F = generator.to_features(w)
    R_o = generator(w)         initial reconstruction
    D  = DIPN(I, R_o)          eq. 1, 2               dipn.py
    F*, w* = DICN(D, F, w)     eq. 3, 4, 5            dicn.py
    image = generator.from_features(F*, w*)           edits: eq. 6, or what `carry_over` makes of it

The three networks may be any with these signatures.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sdic.editing.direction import Edit
from sdic.encoders.e4e import E4EEncoder
from sdic.encoders.layers import resize_bilinear
from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.losses.joint import Compensation
from sdic.methods.base import Inversion, Inverter, Progress
from sdic.methods.sdic.carry_over import CarryOver
from sdic.methods.sdic.dicn import DICN
from sdic.methods.sdic.dipn import DIPN
from sdic.runtime.backends import accelerate_network, resolve_backend
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


def compensate(
    generator: Generator,
    networks: Mapping[str, nn.Module],
    images: Tensor,
    latents: Tensor,
    preset: SDICPreset = SDIC_PRESETS["paper"],
) -> Compensation:
    """Photos I and latents w to D, F* and w* (eq. 1 to 5); the forward pass of use and training.

    Args:
        generator: frozen; F and R_o get no gradients.
        networks: "dipn" and "dicn".
        images: I [N,3,H,W] in [-1,1].
        latents: w [N,S,512].
        preset: of the run.
    """
    with torch.no_grad():
        features = generator.to_features(latents).float()
        initial = initial_reconstruction(generator, features, latents, images.shape[-1], preset)
    discrepancy = networks["dipn"](images, initial)
    new_features, new_latents = networks["dicn"](discrepancy, features, latents)
    return Compensation(latents, new_latents, features, new_features, initial, discrepancy)


def initial_reconstruction(
    generator: Generator, features: Tensor, latents: Tensor, size: int, preset: SDICPreset
) -> Tensor:
    """R_o [N,3,size,size] in [-1,1] from F and w."""
    if preset.bilinear_initial:
        image = generator.from_features(features, latents)
        return resize_bilinear(image.clamp(-1, 1), size)
    return generator.from_features(features, latents, size).float().clamp(-1, 1)


class SDIC(Inverter):
    """Compensate, then edit.

    Args:
        generator: the frozen generator.
        encoder: images [N,3,256,256] to latents w+ [N,S,512]; frozen in the paper.
        dipn: (I, R_o) to D; I and R_o are [N,3,256,256].
        dicn: (D, F, w) to (F*, w*).
        preset: "paper" or "published", see `SDICPreset`.
        name: key in the registry.
        carry_over: how the compensation is carried over to an edit; by default eq. 6.
        edit_enhanced: edit as the published script does: F_edited = F* - F(w) + F(w* + edit), with
            the last term of the compensated instead of the initial latents (eq. 6). Strength 0 is
            the inversion all the same, a small one not near it.

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
        name: str = "sdic",
        carry_over: CarryOver | None = None,
        edit_enhanced: bool = False,
    ) -> None:
        super().__init__(generator)
        if preset not in SDIC_PRESETS:
            known = ", ".join(SDIC_PRESETS)
            raise InputError(f"SDIC has no preset '{preset}'; choose one of: {known}.")
        self.encoder, self.dipn, self.dicn = encoder, dipn, dicn
        self.preset = preset
        self.name = name
        self.carry_over = carry_over or CarryOver()
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

    @property
    def settings(self) -> tuple[str, bool, tuple[object, ...]]:
        """What decides a result beside the weights of the networks."""
        return self.preset, self.edit_enhanced, self.carry_over.settings

    def by_rule(
        self, name: str, carry_over: CarryOver | None = None, kind: type[SDIC] | None = None
    ) -> SDIC:
        """An SDIC with the same networks and other edits.

        Args:
            name: its key in the registry.
            carry_over: see there.
            kind: SDIC, or one with an order of its own.
        """
        networks = self.encoder, self.dipn, self.dicn
        kind = kind or SDIC
        return kind(self.generator, *networks, self.preset, name=name, carry_over=carry_over)

    def releasing(self, release: float) -> SDIC:
        """A copy whose compensation gives way elsewhere; see `CarryOver.release`."""
        changed = copy.copy(self)
        changed.carry_over = replace(self.carry_over, release=release)
        return changed

    def on_backend(self, backend: str, device: str) -> SDIC:
        """See `Inverter.on_backend`; the transfer runs there, too."""
        there = super().on_backend(backend, device)
        backend = resolve_backend(self.generator, backend, device)
        there.carry_over = self.carry_over.with_transfer(
            lambda transfer: accelerate_network(transfer, backend, device)
        )
        return there

    def for_inference(self) -> SDIC:
        """Fold the batch norms of all networks and lay weights out for the CPU; returns self.

        Results are the same up to rounding; the networks can no longer be trained or saved.
        """
        for network in self.networks.values():
            channels_last(fold_batch_norm(network))
        return self

    @torch.no_grad()
    def _invert(self, images: Tensor, progress: Progress | None) -> Inversion:
        pair = self.compensate(images, self.encoder(images))
        latents, features = pair.new_latents, pair.new_features
        inversion = self.made(latents, base_latents=pair.latents, features=features)
        inversion.base_features = pair.features
        return inversion

    def compensate(self, images: Tensor, latents: Tensor) -> Compensation:
        """Photos I [N,3,256,256] and latents w [N,S,512] to D, F* and w*; see `compensate`."""
        preset = SDIC_PRESETS[self.preset]
        return compensate(self.generator, self.networks, images, latents, preset)

    def strengthened(self, edit: Edit, inversion: Inversion) -> Edit:
        """With the gains of the carry-over, where there is a compensation to make up for."""
        return edit if inversion.features is None else self.carry_over.strengthened(edit)

    def edited_features(self, inversion: Inversion, edit: Edit) -> Tensor | None:
        """F* of the edited face, as the carry-over makes it; see `Inverter`."""
        if inversion.features is None:
            return None
        base, changed = self.features_of_edit(inversion, edit)
        if self.edit_enhanced:
            enhanced = self.to_features(edit.apply(inversion.latents), inversion.weights)
            return inversion.features - base + enhanced
        focus = self.generator.domain.focus
        return self.carry_over.carried(inversion.features, base, changed, focus)


class EditFirstSDIC(SDIC):
    """Edit, then compensate: the order that SDIC's paper argues against (figure 4c, "EC").

    Inversions are the same. The edited image of the generator takes the place of R_o, so the
    networks see the edit as an error and take part of it back. They compare it with the photo,
    which the inversion keeps.
    """

    def _invert(self, images: Tensor, progress: Progress | None) -> Inversion:
        inversion = super()._invert(images, progress)
        inversion.extras["photo"] = images
        return inversion

    @torch.no_grad()
    def synthesize(
        self, inversion: Inversion, edit: Edit | None = None, size: int | None = None
    ) -> Tensor:
        """Generate the inverted images [N,3,size,size], edited if asked for.

        Raises:
            InputError: the inversion does not keep its photo, or see `Inverter.synthesize`.
        """
        edited = None if edit is None else edit.apply(inversion.base_latents)
        if edited is None or torch.equal(edited, inversion.base_latents):
            return super().synthesize(inversion, None, size)
        self.check(inversion)
        if "photo" not in inversion.extras:
            raise InputError(
                "The inversion does not keep the photo that an edit before the compensation needs; "
                "invert the photo again with this method."
            )
        pair = self.compensate(inversion.extras["photo"], edited)
        return self.generator.from_features(pair.new_features, pair.new_latents, size)
