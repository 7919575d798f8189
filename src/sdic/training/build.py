"""From a recipe to a task with its data, of the components that the recipe names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdic import weights
from sdic.editing import library
from sdic.encoders.latent_discriminator import LatentDiscriminator
from sdic.errors import TrainingError
from sdic.generators.base import Generator
from sdic.generators.mobile import MobileStyleGAN
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.losses import IdentityLoss, JointLoss, LossWeights, PerceptualLoss, perceptual
from sdic.losses.identity import load_arcface
from sdic.losses.moco import load_moco
from sdic.methods import components
from sdic.methods.e4e import build_encoder
from sdic.methods.sdic import build_compensation, build_transfer
from sdic.methods.sdic.method import SDIC_PRESETS
from sdic.recognition import identity
from sdic.training.data import Mixture, Photos, derive_seed
from sdic.training.edited_pairs import EditedPairs, EditSampler
from sdic.training.generated import GeneratedFaces, folder_of
from sdic.training.recipe import Losses, Recipe
from sdic.training.task import Data, Task
from sdic.training.tasks import CompensationTask, EditingTask, EncoderTask
from sdic.weights import exported
from sdic.weights.checkpoints import read_checkpoint


def build_generator(recipe: Recipe) -> Generator:
    """The recipe's generator; option `fused` merges the mobile generator's linear maps.

    A fused generator also runs in the recipe's precision, or in bf16 by the option `bf16`: on one
    core small encoders are faster in fp32 than under autocast, and the generator is not.
    """
    generator = components.build_generator(recipe.components)
    if recipe.components.fused:
        if not isinstance(generator, MobileStyleGAN):
            raise TrainingError(
                "components.options.generator.fused is for the mobile generator only."
            )
        fuse(generator)
        if recipe.precision == "bf16" or recipe.components.bf16:
            to_bfloat16(generator)
    return generator


def build_task(recipe: Recipe, generator: Generator) -> Task:
    """The recipe's task, with fresh weights that depend on its seed only.

    Raises:
        SdicError: an unknown name or option, or weights that cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        if recipe.task == "encoder":
            return _encoder_task(recipe, generator)
        if recipe.task == "editing":
            return _editing_task(recipe, generator)
        return _compensation_task(recipe, generator)


def build_data(recipe: Recipe, generator: Generator, root: Path | None, cache: Path) -> Data:
    """The recipe's training images.

    Photo folders are relative to `root`; decoded photos and generated faces are kept below `cache`.
    The task "editing" learns from images with an edit.
    """
    photos = None
    if recipe.data.generator_share < 1:
        photos = Photos.read(
            _folders(recipe.data.photos, root), recipe.image_size, cache / "photos"
        )
    faces = None
    if recipe.data.generated and recipe.data.generator_share:
        count, truncation = recipe.data.generated, recipe.data.truncation
        plain = components.build_generator(recipe.components)
        folder = folder_of(cache / "generated", plain, truncation, recipe.image_size)
        faces = GeneratedFaces.open(generator, folder, count, truncation, recipe.image_size)
    sizes = (recipe.batch_size, recipe.seed, recipe.image_size)
    if recipe.task == "editing":
        sampler = _edit_sampler(recipe, generator)
        return EditedPairs(recipe.data, *sizes, generator, sampler, photos, faces)
    return Mixture(recipe.data, *sizes, photos, generator, faces)


def build_validation(recipe: Recipe, root: Path | None, cache: Path) -> Tensor | None:
    """The recipe's validation images [M,3,H,W] in [-1,1], or None where it has none."""
    settings = recipe.validation
    if not settings.every or not settings.photos:
        return None
    photos = Photos.read(_folders(settings.photos, root), recipe.image_size, cache / "photos")
    count = min(len(photos), settings.limit or len(photos))
    return photos[range(count)]


def _folders(names: tuple[str, ...], root: Path | None) -> list[Path]:
    if root is None and (not names or not all(Path(name).is_absolute() for name in names)):
        raise TrainingError("The recipe wants photos; give their folder with --data.")
    base = root or Path()
    return [base / name for name in names] if names else [base]


def _encoder_task(recipe: Recipe, generator: Generator) -> EncoderTask:
    encoder = _encoder(recipe, generator)
    if recipe.components.encoder == "compact" and not recipe.components.encoder_weights:
        trunk = weights.load("efficientnet-lite0")
        encoder.trunk.load_state_dict(_needed(encoder.trunk, trunk))
    adversarial = recipe.losses.adversarial > 0
    return EncoderTask(
        generator,
        encoder,
        recipe.losses,
        _joint(recipe),
        recipe.image_size,
        LatentDiscriminator() if adversarial else None,
        recipe.progressive,
    )


def _edit_sampler(recipe: Recipe, generator: Generator) -> EditSampler:
    directions = library.load_library(recipe.components.generator).values()
    return EditSampler(generator, list(directions), recipe.edits)


def _compensation_task(recipe: Recipe, generator: Generator) -> CompensationTask:
    encoder = _trained_encoder(recipe, generator)
    built = build_compensation(recipe.components, generator)
    preset = SDIC_PRESETS["published" if recipe.components.dipn == "published" else "paper"]
    return CompensationTask(
        generator,
        encoder,
        built["dipn"],
        built["dicn"],
        recipe.losses,
        _joint(recipe),
        recipe.image_size,
        preset,
    )


def _editing_task(recipe: Recipe, generator: Generator) -> EditingTask:
    encoder = _trained_encoder(recipe, generator)
    networks = build_compensation(recipe.components, generator)
    networks["transfer"] = build_transfer(recipe.components, generator)
    source = recipe.components.compensation_weights
    if source:
        start = exported.read(source)
        for name, network in networks.items():
            if name != "transfer" or name in start.networks:  # a first part has none
                start.fill(network, name)
    return EditingTask(
        generator,
        encoder,
        networks,
        recipe.losses,
        _joint(recipe),
        _edit_sampler(recipe, generator),
        recipe.edits.perturbation,
        recipe.image_size,
    )


def _trained_encoder(recipe: Recipe, generator: Generator) -> Any:
    if not recipe.components.encoder_weights:
        raise TrainingError(
            "Compensation stands on a trained encoder; name its file in "
            "components.encoder_weights (made by `sdic train export`)."
        )
    return _encoder(recipe, generator).eval().requires_grad_(False)


def _encoder(recipe: Recipe, generator: Generator) -> Any:
    encoder = build_encoder(recipe.components, generator)
    source = recipe.components.encoder_weights
    return exported.read(source).fill(encoder, "encoder") if source else encoder


def _joint(recipe: Recipe) -> JointLoss:
    names = {entry.name for entry in dataclasses.fields(LossWeights)}
    wanted = dataclasses.asdict(recipe.losses)
    losses = LossWeights(**{name: value for name, value in wanted.items() if name in names})
    return JointLoss(
        losses,
        _perceptual(recipe.losses) if losses.perceptual else None,
        IdentityLoss(_recogniser(recipe.losses)) if losses.identity else None,
    )


def _perceptual(losses: Losses) -> PerceptualLoss:
    """LPIPS of the recipe's files, or ST-LPIPS."""
    backbone, linear = losses.perceptual_backbone, losses.perceptual_linear
    if not backbone and not linear:
        return perceptual.create()
    if not backbone or not linear:
        raise TrainingError(
            "LPIPS is made of two files; name both of them, in losses.perceptual_backbone and "
            "losses.perceptual_linear."
        )
    return perceptual.load_lpips(Path(backbone), Path(linear))


def _recogniser(losses: Losses) -> nn.Module:
    """ArcFace or MoCo of the recipe's file, or fr-feature."""
    if not losses.identity_weights:
        return identity.create("fr-feature")
    file = Path(losses.identity_weights)
    # MoCo's is a checkpoint of its training; ArcFace's is a bare state dict.
    return load_moco(file) if "state_dict" in read_checkpoint(file) else load_arcface(file)


def _needed(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors that the network has; a published trunk has its classifier, too."""
    return {key: value for key, value in tensors.items() if key in network.state_dict()}
