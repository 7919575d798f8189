"""Training an encoder alone, as e4e is trained (Tov et al. 2021), for any generator.

Two differences from e4e: generated images teach their own w directly, and the latent discriminator
sees the codes of the present batch only, where e4e keeps a pool of old ones; each batch brings as
many codes as it has style rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.generators.base import LATENT_DIM, Generator
from sdic.training.data import full_precision, seeded
from sdic.training.recipe import Losses, Progressive
from sdic.training.task import Batch, Phase
from sdic.training.tasks.common import Judges, check_losses, image_losses, judge, total

LOSSES = ("mse", "perceptual", "identity", "latents", "delta", "adversarial")
R1_WEIGHT, R1_EVERY = 10.0, 16
DISCRIMINATOR_RATE = 0.2  # times the encoder's learning rate, as in e4e (2e-5 to 1e-4)


class EncoderTask:
    """Encoder trained through a frozen generator; obeys `Task`.

    Args:
        generator: frozen.
        encoder: images [N,3,H,W] to w+ [N,S,512].
        weights: of the losses `LOSSES`.
        judges: networks of the perceptual and identity losses.
        size: side of the images.
        discriminator: of latents, [...,512] to logits [...,1]; needed for the adversarial loss.
        progressive: rows unlocked over time, for an encoder with `set_stage`.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: nn.Module,
        weights: Losses,
        judges: Judges,
        size: int = 256,
        discriminator: nn.Module | None = None,
        progressive: Progressive | None = None,
    ) -> None:
        check_losses(weights, LOSSES, "encoder")
        self.generator, self.encoder, self.discriminator = generator, encoder, discriminator
        self.weights, self.judges, self.size = weights, judges, size
        self.progressive = progressive or Progressive()
        self.skips_parameters = self.progressive.every > 0
        self.networks: dict[str, nn.Module] = {"encoder": encoder}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator

    def frozen(self) -> list[nn.Module]:
        """Generator and judges."""
        return [self.generator, *self.judges.networks()]

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
        results = self.generator(latents, self.size)
        losses = image_losses(batch.images, results, self.judges)
        if self.weights.latents:
            known = batch.known[:, None, None]
            wanted = batch.latents[:, None]
            squares = torch.where(known, (latents - wanted).square(), 0.0)
            losses["latents"] = squares.sum() / (known.sum().clamp_min(1) * latents[0].numel())
        if self.weights.delta:
            # e4e's sum over the rows of the norm of their offset from the first row.
            losses["delta"] = (latents[:, 1:] - latents[:, :1]).norm(dim=2).sum(dim=1).mean()
        if self.discriminator is not None:
            with full_precision(latents.device):
                losses["adversarial"] = nnf.softplus(-self.discriminator(latents)).mean()
        return total(losses, self.weights)

    def sample_grid(self, batch: Batch) -> Tensor:
        """Rows of photo and reconstruction."""
        results = self._reconstruct(batch.images)
        return torch.stack((batch.images, results), dim=1)

    def validate(self, images: Tensor) -> dict[str, Tensor]:
        """PSNR, and what the judges say."""
        return judge(images, self._reconstruct(images), self.judges)

    def _reconstruct(self, images: Tensor) -> Tensor:
        latents = self.networks["encoder"](images).float()
        return self.generator(latents, self.size).float()

    def _set_stage(self, step: int) -> None:
        every = self.progressive.every
        if every and hasattr(self.encoder, "set_stage"):
            unlocked = max(0, (step - self.progressive.start) // every + 1)
            self.encoder.set_stage(min(unlocked, self.generator.num_styles - 1))

    def _discriminate(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Logistic loss on w of the mapping network against rows of the encoder; R1 at times."""
        device = batch.images.device
        with torch.no_grad():
            fake = self.networks["encoder"](batch.images).float().flatten(0, 1)
        z = torch.randn(len(fake), LATENT_DIM, generator=seeded(batch.seed, "real"))
        with full_precision(device):
            real = self.generator.mapping(z.to(device)).detach()
            regularise = step % R1_EVERY == 0
            real.requires_grad_(regularise)
            logits = self.networks["discriminator"](real)
            against = self.networks["discriminator"](fake)
            loss = nnf.softplus(-logits).mean() + nnf.softplus(against).mean()
            if not regularise:
                return {"discriminator": loss}
            (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            r1 = slope.square().sum(dim=1).mean()
        return {"discriminator": loss + 0.5 * R1_WEIGHT * R1_EVERY * r1, "r1": r1}
