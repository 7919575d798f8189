"""From a recipe to a task with its data: the one place where components are looked up by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sdic import generators, weights
from sdic.editing import library
from sdic.encoders.compact import CompactEncoder
from sdic.encoders.e4e import E4EEncoder
from sdic.encoders.latent_discriminator import LatentDiscriminator
from sdic.errors import TrainingError
from sdic.generators.base import Generator
from sdic.generators.mobile import MobileStyleGAN
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.losses import IdentityLoss, JointLoss, LossWeights, perceptual
from sdic.methods.compact import CompactDICN, CompactDIPN
from sdic.methods.compact_transfer import CompactTransfer
from sdic.methods.dicn import DICN
from sdic.methods.dipn import DIPN
from sdic.recognition import identity
from sdic.training.data import Mixture, Photos, derive_seed
from sdic.training.edited_pairs import EditedPairs, EditSampler
from sdic.training.recipe import Recipe
from sdic.training.task import Data, Task
from sdic.training.tasks import CompensationTask, EditingTask, EncoderTask


def build_generator(recipe: Recipe) -> Generator:
    """The recipe's generator; option `fused` merges the mobile generator's linear maps.

    A fused generator also runs in the recipe's precision.
    """
    options = dict(recipe.components.options.get("generator", {}))
    fused = options.pop("fused", False)
    generator = _call("generator", generators.create, (recipe.components.generator,), options)
    if fused:
        if not isinstance(generator, MobileStyleGAN):
            raise TrainingError(
                "components.options.generator.fused is for the mobile generator only."
            )
        fuse(generator)
        if recipe.precision == "bf16":
            to_bfloat16(generator)
    return generator  # type: ignore[no-any-return]


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

    Photo folders are relative to `root`; decoded photos are kept in `cache`. The task "editing"
    learns from images with an edit.
    """
    photos = None
    if recipe.data.generator_share < 1:
        photos = Photos.read(_folders(recipe.data.photos, root), recipe.image_size, cache)
    sizes = (recipe.batch_size, recipe.seed, recipe.image_size)
    if recipe.task == "editing":
        sampler = _edit_sampler(recipe, generator)
        return EditedPairs(recipe.data, *sizes, generator, sampler, photos)
    return Mixture(recipe.data, *sizes, photos, generator)


def build_validation(recipe: Recipe, root: Path | None, cache: Path) -> Tensor | None:
    """The recipe's validation images [M,3,H,W] in [-1,1], or None where it has none."""
    settings = recipe.validation
    if not settings.every or not settings.photos:
        return None
    photos = Photos.read(_folders(settings.photos, root), recipe.image_size, cache)
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
    dipn, dicn = _compensation(recipe, generator)
    return CompensationTask(
        generator, encoder, dipn, dicn, recipe.losses, _joint(recipe), recipe.image_size
    )


def _editing_task(recipe: Recipe, generator: Generator) -> EditingTask:
    encoder = _trained_encoder(recipe, generator)
    dipn, dicn = _compensation(recipe, generator)
    options = recipe.components.options.get("transfer", {})
    channels = generator.feature_shape[0]
    transfer = _call("transfer", CompactTransfer, (channels,), options)
    networks = {"dipn": dipn, "dicn": dicn, "transfer": transfer}
    source = recipe.components.compensation_weights
    if source:
        parts = _read_exported(source)
        for name, network in networks.items():
            if name != "transfer" or name in parts:  # a first part of the training has none
                _load_part(network, name, parts, source)
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
    encoder = _encoder(recipe, generator)
    if not recipe.components.encoder_weights:
        raise TrainingError(
            "Compensation stands on a trained encoder; name its file in "
            "components.encoder_weights (made by `sdic train export`)."
        )
    return encoder.eval().requires_grad_(False)


def _compensation(recipe: Recipe, generator: Generator) -> tuple[nn.Module, nn.Module]:
    """DIPN and DICN with fresh weights."""
    names, options = recipe.components, recipe.components.options
    dipn_options, dicn_options = options.get("dipn", {}), options.get("dicn", {})
    if names.dipn == "compact":
        dipn = _call("dipn", CompactDIPN, (), dipn_options)
    else:
        dipn = _call("dipn", DIPN, (names.dipn,), dipn_options)
    styles, shape = generator.num_styles, generator.feature_shape
    if names.dicn == "compact":
        dicn = _call("dicn", CompactDICN, (styles, shape[0]), dicn_options)
    else:
        dicn = _call("dicn", DICN, (styles, shape, names.dicn), dicn_options)
    return dipn, dicn


def _encoder(recipe: Recipe, generator: Generator) -> Any:
    name, options = recipe.components.encoder, recipe.components.options.get("encoder", {})
    if name == "compact":
        mean = generator.mean_latent
        encoder = _call("encoder", CompactEncoder, (generator.num_styles, mean), options)
    elif name == "e4e":
        encoder = _call("encoder", E4EEncoder, (generator.num_styles,), options)
        encoder.mean_latent.copy_(generator.mean_latent.expand_as(encoder.mean_latent))
    else:
        raise TrainingError(f"There is no encoder '{name}'; known are: compact, e4e.")
    if recipe.components.encoder_weights:
        _load_exported(encoder, "encoder", recipe.components.encoder_weights)
    return encoder


def _joint(recipe: Recipe) -> JointLoss:
    names = {entry.name for entry in dataclasses.fields(LossWeights)}
    wanted = dataclasses.asdict(recipe.losses)
    losses = LossWeights(**{name: value for name, value in wanted.items() if name in names})
    return JointLoss(
        losses,
        perceptual.create() if losses.perceptual else None,
        IdentityLoss(identity.create("fr-feature")) if losses.identity else None,
    )


def _call(
    component: str, factory: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Any:
    """Build a component, naming it where its options do not fit."""
    try:
        return factory(*arguments, **options)
    except TypeError as error:
        raise TrainingError(
            f"components.options.{component} does not fit the component: {error}."
        ) from error


def _needed(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors that the network has; a published trunk has its classifier, too."""
    return {key: value for key, value in tensors.items() if key in network.state_dict()}


def _load_exported(network: nn.Module, name: str, source: str) -> None:
    """Load one network of a file that `sdic train export` made, or of a weight by its name."""
    _load_part(network, name, _read_exported(source), source)


def _read_exported(source: str) -> dict[str, dict[str, Tensor]]:
    """The networks of such a file, each as its tensors by name."""
    path = Path(source)
    if not path.exists() and source in weights.names():
        path = weights.path(source)
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - the file is no mapping
                name, _, rest = key.partition(".")
                parts.setdefault(name, {})[rest] = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"The weights {path} cannot be read ({error}); give a file of `sdic train export`."
        ) from error
    return parts


def _load_part(
    network: nn.Module, name: str, parts: Mapping[str, Mapping[str, Tensor]], source: str
) -> None:
    own, tensors = network.state_dict(), parts.get(name, {})
    wrong = [
        key
        for key in own.keys() | tensors.keys()
        if key not in own or key not in tensors or own[key].shape != tensors[key].shape
    ]
    if wrong:
        raise TrainingError(
            f"The weights {source} are not of this {name}: {len(wrong)} tensors differ, for "
            f"example '{min(wrong)}'. Give the file of a run with the same components."
        )
    network.load_state_dict(tensors)
