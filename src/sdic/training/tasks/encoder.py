"""Training an encoder alone, as e4e is trained (Tov et al. 2021), for any generator.

Two differences from e4e: generated images teach their own w directly, and the latent discriminator
sees the codes of the present batch only, where e4e keeps a pool of old ones; each batch brings as
many codes as it has style rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdic import weights
from sdic.encoders.compact import CompactEncoder
from sdic.encoders.latent_discriminator import LatentDiscriminator
from sdic.generators.base import LATENT_DIM, Generator
from sdic.losses import JointLoss
from sdic.losses.regularisers import (
    adversarial_loss,
    discriminator_loss,
    offset_norm,
    r1_penalty,
)
from sdic.training.data import full_precision, seeded
from sdic.training.judges import joint_loss
from sdic.training.recipe import Losses, Progressive, Recipe
from sdic.training.task import Batch, Phase
from sdic.training.tasks import TaskKind
from sdic.training.tasks.common import check_losses, encoder_of, judge

# Of a generated image, whose w is known, instead of its pixels.
CODE_LOSSES = ("latents", "styles", "features")
LOSSES = ("l2", "perceptual", "identity", *CODE_LOSSES, "delta", "adversarial")
R1_WEIGHT, R1_EVERY = 10.0, 16
DISCRIMINATOR_RATE = 0.2  # times the encoder's learning rate, as in e4e (2e-5 to 1e-4)


@dataclass
class Space:
    """Where codes are compared, each channel in units of its spread over random w.

    Attributes:
        make: w+ [N,S,512] to the channels of that space, [N,C,...].
        samples: how many w measure the spread.
        spread: [1,C,...], once it is known.
    """

    make: Callable[[Tensor], Tensor]
    samples: int
    spread: Tensor | None = None

    def distance(self, latents: Tensor, truth: Tensor, generator: Generator) -> Tensor:
        """Mean squared distance, a scalar, of w+ [K,S,512] and w [K,512]; 0 where K is."""
        if not len(latents):
            return latents.new_zeros(())
        with torch.no_grad():
            wanted = self.make(generator.broadcast(truth)).float()
            if self.spread is None:
                made = self.make(generator.broadcast(generator.sample(self.samples, 0))).float()
                axes = [axis for axis in range(made.ndim) if axis != 1]
                self.spread = made.std(dim=axes, keepdim=True).clamp_min(1e-6)
        return ((self.make(latents).float() - wanted) / self.spread).square().mean()


class EncoderTask:
    """Encoder trained through a frozen generator; obeys `Task`.

    Args:
        generator: frozen.
        encoder: images [N,3,H,W] to w+ [N,S,512].
        weights: of the losses `LOSSES`.
        joint: the image losses of the same weights.
        size: side of the images.
        discriminator: of latents, [...,512] to logits [...,1]; needed for the adversarial loss.
        progressive: rows unlocked over time, for an encoder with `set_stage`.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: nn.Module,
        weights: Losses,
        joint: JointLoss,
        size: int = 256,
        discriminator: nn.Module | None = None,
        progressive: Progressive | None = None,
    ) -> None:
        check_losses(weights, LOSSES, "encoder")
        self.generator, self.encoder, self.discriminator = generator, encoder, discriminator
        self.weights, self.joint, self.size = weights, joint, size
        self.by_code = any(getattr(weights, name) for name in CODE_LOSSES)
        # Style space is LSAP's (Cao et al. 2023).
        self.spaces = {
            "styles": Space(self._styles, 1000),
            "features": Space(generator.to_features, 24),
        }
        self.progressive = progressive or Progressive()
        self.skips_parameters = self.progressive.every > 0
        self.networks: dict[str, nn.Module] = {"encoder": encoder}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self._set_stage(0)

    def frozen(self) -> list[nn.Module]:
        """Generator and the networks of the losses."""
        return [self.generator, self.joint]

    def phases(self) -> list[Phase]:
        """The encoder, then the discriminator if there is one."""
        phases = [Phase("encoder", ("encoder",))]
        if self.discriminator is not None:
            phases.append(Phase("discriminator", ("discriminator",), DISCRIMINATOR_RATE))
        return phases

    def step(self, phase: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of the phase; the encoder's are those of the recipe."""
        self._set_stage(step)
        if phase == "discriminator":
            return self._discriminate(batch, step)
        latents = self.networks["encoder"](batch.images).float()
        total, terms = self._image_losses(latents, batch)
        extra = self._latent_losses(latents, batch)
        for name, loss in extra.items():
            total = total + getattr(self.weights, name) * loss
        return {"total": total, **terms, **extra}

    def sample_grid(self, batch: Batch) -> Tensor:
        """Rows of photo and reconstruction."""
        return torch.stack((batch.images, self._reconstruct(batch.images)), dim=1)

    def validate(self, images: Tensor) -> dict[str, Tensor]:
        """PSNR and the image losses."""
        return judge(images, self._reconstruct(images), self.joint)

    def _reconstruct(self, images: Tensor) -> Tensor:
        latents = self.networks["encoder"](images).float()
        results: Tensor = self.generator(latents, self.size)
        return results.float()

    def _image_losses(self, latents: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """A photo is judged by its reconstruction, a generated one by `CODE_LOSSES` if any weighs.

        A batch without images to judge has losses of 0, so that all batches name the same ones.
        """
        judged = ~batch.known if self.by_code else torch.ones_like(batch.known)
        if judged.any():
            results = self.generator(latents[judged], self.size).float()
            return self.joint(results, batch.images[judged])  # type: ignore[no-any-return]
        judges = (name for name in ("perceptual", "identity") if getattr(self.weights, name))
        nothing = latents.new_zeros(())
        return nothing, dict.fromkeys(("l2", *judges), nothing)

    def _latent_losses(self, latents: Tensor, batch: Batch) -> dict[str, Tensor]:
        losses = {}
        if self.weights.latents:
            known = batch.known[:, None, None]
            squares = torch.where(known, (latents - batch.latents[:, None]).square(), 0.0)
            losses["latents"] = squares.sum() / (known.sum().clamp_min(1) * latents[0].numel())
        for name, space in self.spaces.items():
            if getattr(self.weights, name):
                codes, truth = latents[batch.known], batch.latents[batch.known]
                losses[name] = space.distance(codes, truth, self.generator)
        if self.weights.delta:
            losses["delta"] = offset_norm(latents).mean()
        if self.discriminator is not None:
            # Not the wrapped network: processes exchange its gradients in its own phase only.
            with full_precision(latents.device):
                losses["adversarial"] = adversarial_loss(self.discriminator(latents))
        return losses

    def _styles(self, latents: Tensor) -> Tensor:
        with full_precision(latents.device):
            return self.generator.styles(latents)

    def _set_stage(self, step: int) -> None:
        every = self.progressive.every
        if every and hasattr(self.encoder, "set_stage"):
            unlocked = max(0, (step - self.progressive.start) // every + 1)
            self.encoder.set_stage(  # type: ignore[operator]
                min(unlocked, self.generator.num_styles - 1)
            )

    def _discriminate(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Codes of the mapping network against rows of the encoder; R1 every 16th step."""
        device = batch.images.device
        with torch.no_grad():
            fake = self.encoder(batch.images).float().flatten(0, 1)
        z = torch.randn(len(fake), LATENT_DIM, generator=seeded(batch.seed, "real"))
        with full_precision(device):
            real = self.generator.mapping(z.to(device)).detach()
            # One call, so that several processes exchange gradients once.
            logits = self.networks["discriminator"](torch.cat((real, fake))).float()
            loss = discriminator_loss(logits[: len(real)], logits[len(real) :])
            if step % R1_EVERY or self.discriminator is None:
                return {"discriminator": loss}
            real.requires_grad_()
            r1 = r1_penalty(self.discriminator(real), real)
        return {"discriminator": loss + 0.5 * R1_WEIGHT * R1_EVERY * r1, "r1": r1}


def build(recipe: Recipe, generator: Generator) -> EncoderTask:
    """The recipe's encoder; a compact one without weights starts from a trunk of ImageNet."""
    encoder = encoder_of(recipe, generator)
    if isinstance(encoder, CompactEncoder) and not recipe.components.encoder_weights:
        wanted, trunk = encoder.trunk.state_dict(), weights.load("efficientnet-lite0")
        encoder.trunk.load_state_dict({key: trunk[key] for key in wanted})
    return EncoderTask(
        generator,
        encoder,
        recipe.losses,
        joint_loss(recipe),
        recipe.image_size,
        LatentDiscriminator() if recipe.losses.adversarial else None,
        recipe.progressive,
    )


KIND = TaskKind("encoder", build)
