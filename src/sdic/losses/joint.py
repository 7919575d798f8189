"""The losses of SDIC: reconstruction (eq. 7), editing (eq. 8) and joint (eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sdic.errors import InputError
from sdic.losses.identity import IdentityLoss
from sdic.losses.perceptual import PerceptualLoss


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; a term of weight 0 is not computed.

    Attributes:
        l2: mean squared error of images in [-1,1].
        perceptual: LPIPS or ST-LPIPS.
        identity: 1 - cosine of embeddings.
        edit_latents: distance of w and w*.
        edit_features: distance of F and F*.
        edit_norm: "l1", mean absolute difference, or "l2", mean squared difference, of both.
        discrepancy: mean absolute difference of D and x - R0.
    """

    l2: float = 1.0
    perceptual: float = 0.8
    identity: float = 0.2
    edit_latents: float = 0.5
    edit_features: float = 0.5
    edit_norm: Literal["l1", "l2"] = "l1"
    discrepancy: float = 0.0


# `paper` is section "Implementation Details"; `published` is what the published code computes:
# identity 0.1, and 0.5 * (0.8 * MSE(F,F*) + 0.2 * MSE(w,w*)). `e4e` are the image losses of e4e,
# HyperStyle and HFGI for faces, `e4e-other` those for other domains, with MoCo as the recogniser.
PRESETS: dict[str, LossWeights] = {
    "paper": LossWeights(),
    "published": LossWeights(
        identity=0.1, edit_latents=0.1, edit_features=0.4, edit_norm="l2", discrepancy=0.0
    ),
    "e4e": LossWeights(identity=0.1, edit_latents=0.0, edit_features=0.0),
    "e4e-other": LossWeights(identity=0.5, edit_latents=0.0, edit_features=0.0),
}


@dataclass(frozen=True)
class Target:
    """A target [N,3,H,W] in [-1,1] with what the losses need of it, computed once."""

    images: Tensor
    perceptual: list[Tensor] | None
    embeddings: Tensor | None


@dataclass(frozen=True)
class Compensation:
    """Codes and features of N photos before and after compensation, and what lies between.

    Attributes:
        latents: w [N,S,512].
        new_latents: w* [N,S,512].
        features: F [N,C,H,W], the generator's own features of w.
        new_features: F* [N,C,H,W].
        initial: R_o [N,3,H,W] in [-1,1], where there is one.
        discrepancy: D, as DIPN gives it, where there is one.
    """

    latents: Tensor
    new_latents: Tensor
    features: Tensor
    new_features: Tensor
    initial: Tensor | None = None
    discrepancy: Tensor | None = None


class JointLoss(nn.Module):
    """L_joint = L_rec + weighted editing terms (eq. 9), with each term by name.

    Args:
        weights: of the terms.
        perceptual: network of the perceptual term; None leaves the term out.
        identity: network of the identity term; None leaves the term out.
    """

    def __init__(
        self,
        weights: LossWeights = PRESETS["paper"],
        perceptual: PerceptualLoss | None = None,
        identity: IdentityLoss | None = None,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.perceptual = perceptual if weights.perceptual else None
        self.identity = identity if weights.identity else None

    @torch.no_grad()
    def target(self, images: Tensor) -> Target:
        """What the losses need of target images [N,3,H,W] in [-1,1]."""
        return Target(
            images,
            None if self.perceptual is None else self.perceptual.features(images),
            None if self.identity is None else self.identity.embed(images),
        )

    def reconstruction(self, results: Tensor, target: Target) -> dict[str, Tensor]:
        """Terms of L_rec (eq. 7), unweighted, each [N], of results [N,3,H,W]."""
        results = results.float()
        terms = {"l2": (results - target.images).square().mean(dim=(1, 2, 3))}
        if self.perceptual is not None and target.perceptual is not None:
            features = self.perceptual.features(results)
            terms["perceptual"] = self.perceptual.distance(features, target.perceptual)
        if self.identity is not None and target.embeddings is not None:
            embeddings = self.identity.embed(results)
            terms["identity"] = self.identity.distance(embeddings, target.embeddings)
        return terms

    def editing(self, pair: Compensation, images: Tensor | None = None) -> dict[str, Tensor]:
        """Terms of L_edit (eq. 8), unweighted, each [N]; the L1 norms are means over elements.

        Args:
            pair: before and after compensation.
            images: I [N,3,H,W], for the term `discrepancy`: D against I - R_o, for a D of three
                channels.
        """
        weights = self.weights
        terms = {}
        if weights.edit_latents:
            terms["edit_latents"] = _distance(pair.new_latents, pair.latents, weights.edit_norm)
        if weights.edit_features:
            terms["edit_features"] = _distance(pair.new_features, pair.features, weights.edit_norm)
        predicted, initial = pair.discrepancy, pair.initial
        if weights.discrepancy and predicted is not None and initial is not None:
            if images is None:
                raise InputError("The term 'discrepancy' needs the images; give them, too.")
            terms["discrepancy"] = _distance(predicted, images - initial, "l1")
        return terms

    def weigh(self, terms: dict[str, Tensor]) -> Tensor:
        """Weighted sum of terms, of their shape."""
        return torch.stack([getattr(self.weights, name) * terms[name] for name in terms]).sum(dim=0)

    def forward(
        self, results: Tensor, target: Target | Tensor, pair: Compensation | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            results: R [N,3,H,W], generated, in about [-1,1].
            target: images [N,3,H,W] in [-1,1], or `target` of them.
            pair: codes and features before and after compensation; None leaves L_edit out.

        Returns:
            The weighted total, a scalar to differentiate, and the unweighted terms by name,
            detached scalars.
        """
        if isinstance(target, Tensor):
            target = self.target(target)
        terms = self.reconstruction(results, target)
        if pair is not None:
            terms |= self.editing(pair, target.images)
        means = {name: term.mean() for name, term in terms.items()}
        return self.weigh(means), {name: mean.detach() for name, mean in means.items()}


def _distance(a: Tensor, b: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    difference = (a.float() - b.float()).flatten(1)
    return (difference.abs() if norm == "l1" else difference.square()).mean(dim=1)
