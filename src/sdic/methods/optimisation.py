"""Inversion without training: gradient descent on latents, then on features.

Latents in W or W+ as in StyleGAN2's projector (Karras et al. 2020, appendix D), then the features F
together with w+, the space of HFGI and SDIC. No network is trained and no noise is optimised; the
result depends on the settings only.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.losses import perceptual as perceptual_losses
from sdic.losses.identity import IdentityLoss
from sdic.losses.joint import Compensation, JointLoss, LossWeights, Target
from sdic.losses.perceptual import PerceptualLoss
from sdic.losses.regularisers import noise_autocorrelation, renormalise_noise
from sdic.methods.base import (
    INVERSION_SIZE,
    Inversion,
    Inverter,
    Progress,
    check_generator,
    check_images,
)
from sdic.methods.declaration import Method
from sdic.methods.descent import Group, descend
from sdic.runtime.backends import accelerate, differentiable
from sdic.runtime.delegating import original

SPACES = ("w", "w+", "f")
SPREAD_SAMPLES = 600  # samples of w that measure its spread
EXPLORATION_END = 0.75  # part of the first phase after which exploration has faded out
NOISE_WEIGHT = 1e5  # of the noise regulariser (Karras 2020, appendix D)

# The paper's weights for the image; its pull of F towards F(w) would cost several dB here.
WEIGHTS = LossWeights(edit_latents=0.01, edit_features=0.01)


@dataclass(frozen=True)
class OptimisationSettings:
    """Settings of `Optimisation`.

    Attributes:
        space: "w", one code for all rows; "w+", a code for each row; "f", one code for all rows,
            then F and a code for each row.
        latent_steps: steps on latents, from the mean latent.
        feature_steps: steps on F and w+, where the space is "f".
        latent_rate: learning rate of latents in the first phase.
        feature_rate: learning rate of F, in units of its root mean square.
        refined_latent_rate: learning rate of w+ beside F.
        weights: of the terms of the loss. The editing terms act in the second phase and pull F and
            w+ back to F(w) and w; the larger, the more editable and the less exact.
        exploration: scale of the noise on latents, in units of the spread of w, falling to zero
            within three quarters of the first phase.
        seed: of that noise.
        stop_psnr: an image stops at this PSNR in dB; None is never.
        plateau: an image stops a phase after so many steps without a falling loss; None is never.
    """

    space: Literal["w", "w+", "f"] = "f"
    latent_steps: int = 100
    feature_steps: int = 100
    latent_rate: float = 0.05
    feature_rate: float = 0.05
    refined_latent_rate: float = 0.01
    weights: LossWeights = WEIGHTS
    exploration: float = 0.0
    seed: int = 0
    stop_psnr: float | None = None
    plateau: int | None = 20

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise InputError(f"There is no space '{self.space}'; known are: {', '.join(SPACES)}.")
        if min(self.latent_steps, self.feature_steps) < 0:
            raise InputError("The number of steps is negative; give 0 or more.")


PRESETS = {
    "optimisation-w": OptimisationSettings(space="w"),
    "optimisation-w+": OptimisationSettings(space="w+"),
    "optimisation-f": OptimisationSettings(space="f"),
}


class Optimisation(Inverter):
    """Inversion by gradient descent, and refinement of any other method's inversion.

    Args:
        generator: frozen; stays as it is.
        settings: see there; `PRESETS` has one for each space.
        perceptual: network of the perceptual term; None leaves the term out.
        identity: network of the identity term; None leaves the term out.

    Attributes:
        guide: whose gradients are followed, where an inversion has no weights of its own; the
            generator itself, unless it is replaced by a faster one (`runtime.differentiable`).
    """

    name = "optimisation-f"
    iterates = True

    def __init__(
        self,
        generator: Generator,
        settings: OptimisationSettings = PRESETS["optimisation-f"],
        perceptual: PerceptualLoss | None = None,
        identity: IdentityLoss | None = None,
    ) -> None:
        super().__init__(generator)
        self.name = f"optimisation-{settings.space}"
        self.guide = generator
        self.settings = settings
        self.loss = JointLoss(settings.weights, perceptual, identity)

    def _invert(self, images: Tensor, progress: Progress | None) -> Inversion:
        """From the mean latent."""
        settings = self.settings
        target = self.loss.target(images)
        steps = _Steps(settings.latent_steps, progress)
        if settings.space == "f":
            steps.total += settings.feature_steps
        latents = project(self.guide, self.loss, target, settings, report=steps.report)
        inversion = self.made(latents)
        if settings.space != "f":
            return inversion
        steps.done = settings.latent_steps
        return self._descend_features(inversion, target, settings.feature_steps, steps)

    def on_backend(self, backend: str, device: str) -> Optimisation:
        """A copy that follows the gradients of the backend's precision; see `Inverter`."""
        there = copy.copy(self)
        there.guide = differentiable(accelerate(self.generator, backend, device))
        return there

    def refine(
        self, inversion: Inversion, images: Tensor, steps: int, progress: Progress | None = None
    ) -> Inversion:
        """Continue from an inversion of any method: F and w+ move, changed weights stay.

        The codes before compensation, from which edits are computed, stay too.

        Args:
            inversion: of these images, with this generator.
            images: [N,3,256,256] in [-1,1].
            steps: of descent; 0 only takes F over.
            progress: called after each step.

        Raises:
            InputError: the images have another shape, range or number, the inversion belongs to
                another generator, or its edits start from the photo and would lose the steps.
        """
        check_images(images)
        if len(images) != len(inversion):
            raise InputError(
                f"Got {len(images)} images to refine an inversion of {len(inversion)}; "
                "give the images that were inverted."
            )
        check_generator(inversion, self.generator)
        if "photo" in inversion.extras:
            raise InputError(
                f"Inversions of '{inversion.method}' cannot be refined, since their edits start "
                "from the photo again; refine those of another method."
            )
        if steps < 0:
            raise InputError(f"{steps} steps of refinement were asked for; give 0 or more.")
        target = self.loss.target(images)
        refined = self._descend_features(inversion, target, steps, _Steps(steps, progress))
        before = inversion.metadata.get("refined_steps", "")
        counted = int(before) if re.fullmatch("[0-9]{1,9}", before) else 0
        refined.metadata["refined_steps"] = str(counted + steps)
        refined.reconstruction = self.synthesize(refined, size=INVERSION_SIZE)
        refined.render = None
        return refined

    def _descend_features(
        self, start: Inversion, target: Target, num_steps: int, steps: _Steps
    ) -> Inversion:
        """Second phase: F and w+ from those of `start`; returns it with both moved."""
        settings, weights = self.settings, start.weights
        with torch.no_grad():
            base = self.to_features(start.base_latents, weights)
            own = start.features
            own = self.to_features(start.latents, weights) if own is None else own
        features = own.detach().clone().requires_grad_()
        latents = start.latents.detach().clone().requires_grad_()

        def evaluate(t: float) -> tuple[Tensor, Tensor]:
            if weights:
                results = self.from_features(features, latents, weights, INVERSION_SIZE)
            else:
                results = self.guide.from_features(features, latents, INVERSION_SIZE)
            pair = Compensation(start.base_latents, latents, base, features)
            terms = self.loss.reconstruction(results, target)
            good = terms["l2"].detach() < _limit(settings.stop_psnr)
            return self.loss.weigh(terms | self.loss.editing(pair)), good

        unit = base.square().mean().sqrt().item()
        groups = [
            Group([features], settings.feature_rate * unit),
            Group([latents], settings.refined_latent_rate),
        ]
        descend(groups, evaluate, num_steps, settings.plateau, steps.report)
        return replace(
            start,
            latents=latents.detach(),
            features=features.detach(),
            metadata=dict(start.metadata),
        )


@dataclass
class _Steps:
    """Steps of all phases as one count for the caller's progress bar."""

    total: int
    progress: Progress | None
    done: int = 0

    def report(self, step: int, loss: float) -> None:
        if self.progress is not None:
            self.progress(self.done + step, self.total, loss)


def project(
    generator: Generator,
    loss: JointLoss,
    target: Target,
    settings: OptimisationSettings,
    noises: Mapping[str, Tensor] | None = None,
    report: Callable[[int, float], None] | None = None,
) -> Tensor:
    """First phase: latents whose images resemble the target, from the mean latent.

    Args:
        generator: stays as it is.
        loss: its reconstruction terms count.
        target: N images.
        settings: of the first phase.
        noises: noise buffers of the generator by name, leaf tensors, to be optimised too; in place.
        report: gets the number of steps done and the loss.

    Returns:
        Latents w+ [N,S,512]; all rows are equal unless the space is "w+".
    """
    rows = generator.num_styles if settings.space == "w+" else 1
    latents = generator.mean_latent.expand(len(target.images), rows, -1).clone().requires_grad_()
    maps = dict(noises or {})
    searched = generator.with_tensors(maps) if maps else generator
    spread = latent_spread(generator, settings.seed) if settings.exploration else 0.0
    random = torch.Generator("cpu").manual_seed(settings.seed)

    def evaluate(t: float) -> tuple[Tensor, Tensor]:
        scale = settings.exploration * spread * max(0.0, 1 - t / EXPLORATION_END) ** 2
        moved = latents
        if scale:
            # One draw for all images: the result does not depend on the rest of the batch.
            draw = torch.randn(latents.shape[1:], generator=random)
            moved = latents + scale * draw.to(latents)
        moved = moved.expand(-1, generator.num_styles, -1)
        terms = loss.reconstruction(searched(moved, INVERSION_SIZE), target)
        total = loss.weigh(terms)
        if maps:
            total = total + NOISE_WEIGHT * noise_autocorrelation(list(maps.values()))
        return total, terms["l2"].detach() < _limit(settings.stop_psnr)

    descend(
        [Group([latents, *maps.values()], settings.latent_rate)],
        evaluate,
        settings.latent_steps,
        settings.plateau,
        report,
        after_step=lambda: renormalise_noise(list(maps.values())),
    )
    return latents.detach().expand(-1, generator.num_styles, -1).clone()


def _limit(psnr: float | None) -> float:
    """Mean squared error on [-1,1] at a PSNR in dB; 0 for none."""
    return 0.0 if psnr is None else 4 * 10 ** (-psnr / 10)


@torch.no_grad()
def latent_spread(generator: Generator, seed: int) -> float:
    """Root mean squared distance of w from the mean latent, over 600 samples."""
    distance = generator.sample(SPREAD_SAMPLES, seed) - generator.mean_latent
    return math.sqrt(distance.square().sum(dim=1).mean().item())


def perceptual_network(generator: Generator) -> PerceptualLoss:
    """The network of the perceptual term, on the generator's device.

    Raises:
        WeightsError: its weights cannot be fetched.
    """
    network = perceptual_losses.create()
    network.to(generator.mean_latent.device)
    return network


def refiner(generator: Generator) -> Optimisation:
    """Optimisation of F and w+ that goes on from any method's inversion (`Optimisation.refine`).

    Args:
        generator: of the method, on its backend.
    """
    plain = original(generator)
    inverter = Optimisation(plain, perceptual=perceptual_network(plain))
    inverter.guide = differentiable(generator)
    return inverter


def _declared(name: str, summary: str, evidence: str) -> Method:
    def build(generator: Generator) -> Optimisation:
        plain = original(generator)
        return Optimisation(plain, PRESETS[name], perceptual_network(plain))

    return Method(name, summary, build, evidence, iterates=True)


METHODS = (
    _declared("optimisation-w", "one code for all rows, by descent", ""),
    _declared("optimisation-w+", "a code for each row, by descent", ""),
    _declared(
        "optimisation-f",
        "w, then F and w+, by descent",
        "29.9 dB, dlib distance .13, 84 s; of age, smile and yaw it keeps .36, .42, .56 "
        "(docs/results/benchmark.md)",
    ),
)
