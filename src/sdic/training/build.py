"""From a recipe to a task with its data, of the components that the recipe names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sdic.errors import TrainingError
from sdic.generators.base import Generator
from sdic.generators.mobile import MobileStyleGAN
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.methods import components
from sdic.training import tasks
from sdic.training.data import Mixture, Photos, derive_seed
from sdic.training.edited_pairs import EditedPairs
from sdic.training.generated import GeneratedFaces, folder_of
from sdic.training.recipe import Recipe
from sdic.training.task import Data, Task
from sdic.training.tasks.editing import edit_sampler


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
        return tasks.get(recipe.task).build(recipe, generator)


def build_data(recipe: Recipe, generator: Generator, root: Path | None, cache: Path) -> Data:
    """The recipe's training images.

    Photo folders are relative to `root`; decoded photos and generated faces are kept below `cache`.
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
    if tasks.get(recipe.task).edits:
        sampler = edit_sampler(recipe, generator)
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
