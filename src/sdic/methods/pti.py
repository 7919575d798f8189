"""Pivotal tuning inversion (Roich et al. 2022, arXiv 2106.05744).

First a pivot: a code in W, where edits work, whose image resembles the photo. Then the generator's
parameters are tuned so that the pivot generates the photo. One photo has one tuned generator.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.losses.identity import IdentityLoss
from sdic.losses.joint import JointLoss, LossWeights, Target
from sdic.losses.perceptual import PerceptualLoss
from sdic.losses.regularisers import SMALLEST_NOISE
from sdic.methods.base import INVERSION_SIZE, Inversion, Inverter, Progress, check_images
from sdic.methods.declaration import Method
from sdic.methods.descent import Group, descend
from sdic.methods.optimisation import OptimisationSettings, perceptual_network, project
from sdic.runtime.backends import accelerate, differentiable
from sdic.runtime.delegating import original

LOCALITY_TRUNCATION = 0.5
# Noise buffers whose root mean square lies between these count as white noise of unit variance.
UNIT_NOISE = (0.5, 2.0)
WEIGHTS = LossWeights(perceptual=1.0, identity=0.0)


@dataclass(frozen=True)
class PTISettings:
    """Settings of `PTI`.

    Attributes:
        pivot_space: "w" or "w+", where the pivot is searched.
        pivot_steps: steps of the search.
        pivot_rate: its learning rate.
        exploration: scale of the noise on the pivot, in units of the spread of w.
        noise: search the generator's noise maps along with the pivot. For generators with white
            noise of unit variance; the maps of the mobile one are part of its weights.
        tuning_steps: steps of tuning.
        tuning_rate: its learning rate.
        weights: of L2, perceptual and identity term in both stages.
        stop_perceptual: tuning stops at this perceptual distance; None is never. Its scale is that
            of the perceptual network: 0.06 of plain LPIPS is not 0.06 of ST-LPIPS.
        locality: weight of the terms (L2 and perceptual) that keep the images of other codes near
            the pivot as they were; 0 is off.
        locality_distance: L2 distance of those codes from the pivot.
        seed: of the noise on the pivot and of the codes near it.
    """

    pivot_space: Literal["w", "w+"] = "w"
    pivot_steps: int = 100
    pivot_rate: float = 0.05
    exploration: float = 0.0
    noise: bool = False
    tuning_steps: int = 100
    tuning_rate: float = 1e-3
    weights: LossWeights = WEIGHTS
    stop_perceptual: float | None = None
    locality: float = 0.0
    locality_distance: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pivot_space not in ("w", "w+"):
            raise InputError(f"There is no pivot space '{self.pivot_space}'; known are: w, w+.")
        if min(self.pivot_steps, self.tuning_steps) < 0:
            raise InputError("The number of steps is negative; give 0 or more.")


# `pti` is made to be bearable on a CPU; `pti-published` has the numbers of the published system,
# which sees 1024x1024 where this one compares at 256x256, and stops by plain LPIPS. Locality is off
# in the published system unless it is asked for, then of this weight.
PRESETS = {
    "pti": PTISettings(),
    "pti-locality": PTISettings(locality=0.1),
    "pti-published": PTISettings(
        pivot_steps=450,
        pivot_rate=0.01,
        exploration=0.05,
        tuning_steps=350,
        tuning_rate=3e-4,
        stop_perceptual=0.06,
        seed=123,
    ),
}


class PTI(Inverter):
    """Pivotal tuning, one image at a time, of any generator.

    The tuned parameters are kept in `Inversion.weights`; the generator itself stays as it is.

    Args:
        generator: frozen.
        settings: see there.
        perceptual: network of the perceptual term; None leaves the term out.
        identity: network of the identity term; None leaves the term out.
        name: key in the registry.

    Attributes:
        guide: whose gradients the search for the pivot follows, see `Optimisation`; tuning needs
            those of the generator itself.
    """

    iterates = True

    def __init__(
        self,
        generator: Generator,
        settings: PTISettings = PRESETS["pti"],
        perceptual: PerceptualLoss | None = None,
        identity: IdentityLoss | None = None,
        name: str = "pti",
    ) -> None:
        super().__init__(generator)
        self.name = name
        self.guide = generator
        self.settings = settings
        self.loss = JointLoss(settings.weights, perceptual, identity)

    def _invert(self, images: Tensor, progress: Progress | None) -> Inversion:
        """One image at a time.

        Raises:
            InputError: there are several.
        """
        _check_single(images)
        settings = self.settings
        noises = self._noises() if settings.noise else {}
        total = settings.pivot_steps + settings.tuning_steps
        search = OptimisationSettings(
            space=settings.pivot_space,
            latent_steps=settings.pivot_steps,
            latent_rate=settings.pivot_rate,
            exploration=settings.exploration,
            seed=settings.seed,
            plateau=None,
        )

        def report(step: int, loss: float) -> None:
            if progress is not None:
                progress(step, total, loss)

        target = self.loss.target(images)
        guide = self.generator if noises else self.guide
        pivot = project(guide, self.loss, target, search, noises, report)
        return self._tune(pivot, target, noises, settings.pivot_steps, progress)

    def on_backend(self, backend: str, device: str) -> PTI:
        """A copy whose pivot follows the gradients of the backend's precision; see `Inverter`."""
        there = copy.copy(self)
        there.guide = differentiable(accelerate(self.generator, backend, device))
        return there

    def tune(self, pivot: Tensor, images: Tensor, progress: Progress | None = None) -> Inversion:
        """Second stage alone, around a given pivot, such as e4e's w+.

        Args:
            pivot: latents w+ [1,S,512].
            images: [1,3,256,256] in [-1,1].
            progress: called after each step.

        Raises:
            InputError: pivot or image has another shape or range, or there are several.
        """
        _check_single(images)
        expected = (1, self.generator.num_styles, self.generator.mean_latent.shape[-1])
        if pivot.shape != expected:
            raise InputError(
                f"Got a pivot of shape {list(pivot.shape)}; expected {list(expected)}."
            )
        tuned = self._tune(pivot.detach(), self.loss.target(images), {}, 0, progress)
        tuned.reconstruction = self.synthesize(tuned, size=INVERSION_SIZE)
        return tuned

    def _tune(
        self,
        pivot: Tensor,
        target: Target,
        noises: dict[str, Tensor],
        steps_before: int,
        progress: Progress | None,
    ) -> Inversion:
        settings, generator = self.settings, self.generator
        original = dict(generator.named_parameters())
        tuned = {name: value.detach().clone().requires_grad_() for name, value in original.items()}
        noises = {name: value.detach() for name, value in noises.items()}
        total = steps_before + settings.tuning_steps
        step_seed = settings.seed
        tuning = generator.with_tensors(tuned | noises)
        local = generator.with_tensors(tuned)

        def evaluate(t: float) -> tuple[Tensor, Tensor]:
            nonlocal step_seed
            images = tuning(pivot, INVERSION_SIZE)
            terms = self.loss.reconstruction(images, target)
            losses = self.loss.weigh(terms)
            if settings.locality:
                step_seed += 1
                losses = losses + settings.locality * self._locality(pivot, local, step_seed)
            limit = settings.stop_perceptual
            if limit is None or "perceptual" not in terms:
                return losses, torch.zeros_like(losses, dtype=torch.bool)
            return losses, terms["perceptual"].detach() <= limit

        def report(step: int, loss: float) -> None:
            if progress is not None:
                progress(steps_before + step, total, loss)

        groups = [Group(list(tuned.values()), settings.tuning_rate)]
        descend(groups, evaluate, settings.tuning_steps, report=report, factor=lambda t: 1.0)
        weights = {
            name: value.detach()
            for name, value in tuned.items()
            if not torch.equal(value, original[name])
        }
        return self.made(pivot, weights=weights | noises)

    def _locality(self, pivot: Tensor, tuned: Generator, seed: int) -> Tensor:
        """L2 plus perceptual distance [1] between both generators at a code near the pivot."""
        generator = self.generator
        with torch.no_grad():
            other = generator.broadcast(generator.sample(1, seed, LOCALITY_TRUNCATION))
            away = other - pivot
            away = away / torch.linalg.vector_norm(away, dim=2, keepdim=True)
            code = pivot + self.settings.locality_distance * away
            before = self.loss.target(generator(code, INVERSION_SIZE))
        terms = self.loss.reconstruction(tuned(code, INVERSION_SIZE), before)
        return sum(
            (terms[name] for name in ("l2", "perceptual") if name in terms), pivot.new_zeros(1)
        )

    def _noises(self) -> dict[str, Tensor]:
        """Leaf copies of the generator's white-noise maps, redrawn by the seed."""
        random = torch.Generator("cpu").manual_seed(self.settings.seed)
        noises = {}
        for name, value in self.generator.named_buffers():
            is_map = value.ndim == 4 and value.shape[:2] == (1, 1) and "noise" in name
            if not is_map or value.shape[-1] < SMALLEST_NOISE:
                continue
            if not UNIT_NOISE[0] < value.square().mean().sqrt() < UNIT_NOISE[1]:
                raise InputError(
                    f"The noise maps of generator '{self.generator.name}' are part of its weights "
                    "and cannot be searched; set `noise` to False."
                )
            noises[name] = torch.randn(value.shape, generator=random).to(value).requires_grad_()
        return noises


def _check_single(images: Tensor) -> None:
    check_images(images)
    if len(images) != 1:
        raise InputError(
            f"PTI got {len(images)} images at once; it tunes one generator for each image, and an "
            "inversion holds one. Invert them one by one."
        )


def _declared(name: str, summary: str, evidence: str) -> Method:
    def build(generator: Generator) -> PTI:
        plain = original(generator)
        return PTI(plain, PRESETS[name], perceptual_network(plain), name=name)

    return Method(name, summary, build, evidence, iterates=True)


METHODS = (
    _declared(
        "pti",
        "w, then the generator itself, by descent",
        "27.3 dB, dlib distance .25, 131 s; of age, smile and yaw it keeps .33, .43, .65 "
        "(docs/results/benchmark.md)",
    ),
    _declared(
        "pti-locality", "as pti, and faces near the photo's stay as the generator makes them", ""
    ),
    _declared("pti-published", "as pti, with the published steps and rates", ""),
)
