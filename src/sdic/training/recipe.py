"""Recipes: small TOML files that say all about a training run. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from sdic.errors import TrainingError
from sdic.methods.components import Components

LARGEST = 1_000_000  # bytes of a recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Losses:
    """Weights of the losses; a loss of weight 0 is neither loaded nor computed.

    Attributes:
        l2: mean squared error of the image on [-1,1].
        perceptual: ST-LPIPS, or LPIPS where its two files are named.
        perceptual_backbone: torchvision's file of AlexNet or VGG16.
        perceptual_linear: LPIPS' own file of that network's linear layers.
        identity: 1 - cosine of the features of fr-feature, or of the network whose file is named.
        identity_weights: file of ArcFace's IR-SE50, or MoCo v2's of ResNet-50 for other domains.
        edit_latents: distance of w and w* (eq. 8).
        edit_features: distance of F and F* (eq. 8).
        edit_norm: "l1", mean absolute difference, or "l2", mean squared difference, of both.
        discrepancy: mean absolute difference of D and x - R0, for a D of three channels.
        latents: squared error of the predicted w+ where the true w is known.
        styles: the same in the generator's style space, each channel in units of its spread.
        features: squared error of the features of the predicted w+ where the true w is known, each
            channel in units of its spread.
        delta: sum over the style rows of the L2 norm of their offset from row 0 (e4e).
        adversarial: non-saturating loss against the latent discriminator (e4e).
        change: of edited photos, whose truth is not known: the change that the encoder reads in the
            result against the one that it reads in its own plain edit; identity counts there, too.
    """

    l2: float = 1.0
    perceptual: float = 0.0
    perceptual_backbone: str = ""
    perceptual_linear: str = ""
    identity: float = 0.0
    identity_weights: str = ""
    edit_latents: float = 0.0
    edit_features: float = 0.0
    edit_norm: str = "l1"
    discrepancy: float = 0.0
    latents: float = 0.0
    styles: float = 0.0
    features: float = 0.0
    delta: float = 0.0
    adversarial: float = 0.0
    change: float = 0.0

    def weights(self) -> dict[str, float]:
        """The weights by name, without what is a text."""
        return {k: v for k, v in dataclasses.asdict(self).items() if not isinstance(v, str)}


@dataclass(frozen=True)
class Progressive:
    """Progressive training of e4e: only w until step `start`, then one more row every `every`.

    `every = 0` trains all rows from the first step on.
    """

    start: int = 20_000
    every: int = 0


@dataclass(frozen=True)
class Optimiser:
    """Optimiser and learning rate.

    The rate rises linearly over `warmup` steps, stays, and falls along a cosine from the fraction
    `decay_start` of all steps on to `final` times its value. `clip` bounds the norm of the
    gradient; 0 leaves it alone.
    """

    name: str = "ranger"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: int = 0
    decay_start: float = 0.0
    final: float = 0.0
    clip: float = 0.0


@dataclass(frozen=True)
class Augmentation:
    """What is done to a photo before a network sees it; 0 switches a part off.

    Attributes:
        flip: probability of a mirrored photo.
        colour: probability of a change of brightness, contrast, saturation and tint.
        jitter: probability of a small shift, turn and zoom, as an imprecise alignment makes them.
        occluders: probability of pasted shapes and textures, on generated images as well.
        max_occluders: most shapes on one image.
        degrade: probability of blur, fewer pixels, noise and JPEG, on generated images alone: they
            are cleaner than photos.
    """

    flip: float = 0.5
    colour: float = 0.0
    jitter: float = 0.0
    occluders: float = 0.0
    max_occluders: int = 2
    degrade: float = 0.0


@dataclass(frozen=True)
class DataRecipe:
    """Where images come from.

    Attributes:
        photos: folders of aligned photos, relative to `--data`; none is the folder itself.
        generator_share: 0 trains on photos only, 1 on samples of the generator only.
        generated: of how many generated images, made once and kept on the disk, batches draw; 0
            makes every image anew.
        truncation: of the generated samples.
        augmentation: see `Augmentation`.
    """

    photos: tuple[str, ...] = ()
    generator_share: float = 0.0
    generated: int = 0
    truncation: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Edits:
    """The edits that the task "editing" learns from; see `training.edited_pairs`.

    Attributes:
        library: share of edits along shipped directions, within their range; the others are a part
            of the way from one random w to another.
        difference: the largest such part.
        perturbation: the encoder's codes are moved towards a random w by up to this part of the
            way, so that compensation has as much to do as on photos.
    """

    library: float = 0.7
    difference: float = 0.5
    perturbation: float = 0.3


@dataclass(frozen=True)
class Validation:
    """Photos that are never trained on, measured every `every` steps (0 never) with EMA weights."""

    photos: tuple[str, ...] = ()
    every: int = 0
    limit: int = 0  # most photos to measure; 0 is all of them


@dataclass(frozen=True)
class Log:
    """Steps between scalars, picture grids and checkpoints; 0 switches grids off."""

    scalars: int = 10
    grid: int = 500
    checkpoint: int = 200


@dataclass(frozen=True)
class Recipe:
    """A whole training run; see `docs/TRAINING.md`."""

    task: str
    seed: int = 0
    steps: int = 100_000
    batch_size: int = 2
    accumulate: int = 1
    precision: str = "bf16"
    image_size: int = 256
    channels_last: bool = True
    ema_decay: float = 0.999
    storage: str = "exact"  # "exact" keeps float32, "compact" fewer bytes (`state`)
    components: Components = field(default_factory=Components)
    losses: Losses = field(default_factory=Losses)
    progressive: Progressive = field(default_factory=Progressive)
    optimiser: Optimiser = field(default_factory=Optimiser)
    data: DataRecipe = field(default_factory=DataRecipe)
    edits: Edits = field(default_factory=Edits)
    validation: Validation = field(default_factory=Validation)
    log: Log = field(default_factory=Log)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables, as JSON and TOML hold them."""
        return dataclasses.asdict(self)


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("sdic.training") / "recipes"
    return sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml"))


def load(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a TOML file, or the name of one that comes with the package.

    Args:
        source: path, or a name of `shipped()`.
        overrides: "key=value" texts, e.g. "optimiser.learning_rate=3e-4"; values are TOML, and
            what is not valid TOML is taken as a text.

    Raises:
        TrainingError: no such recipe, not TOML, an unknown key, or a value out of its range.
    """
    text = _read(source)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        reason = error if isinstance(error, tomllib.TOMLDecodeError) else "too long or too deep"
        raise TrainingError(f"Recipe '{source}' is not valid TOML: {reason}.") from error
    for override in overrides:
        _override(table, override)
    return from_dict(table)


def from_dict(table: Mapping[str, Any]) -> Recipe:
    """A checked recipe from plain tables.

    Raises:
        TrainingError: an unknown key, a value of the wrong type, or one out of its range.
    """
    from sdic.training import tasks  # which stand on recipes

    recipe: Recipe = _parse(Recipe, table, "")
    ranges = {"task": tuple(tasks.names())} | _RANGES
    losses = {f"losses.{name}": _WEIGHT for name in recipe.losses.weights()}
    for key, expected in (ranges | losses).items():
        value: Any = recipe
        for part in key.split("."):
            value = getattr(value, part)
        least, most = expected[0], expected[-1]
        if isinstance(least, str):
            if value not in expected:
                names = " or ".join(f"'{name}'" for name in expected)
                raise TrainingError(f"Recipe key '{key}' is {_shown(value)}; expected {names}.")
        elif not least <= value <= most:  # as what is no number is not
            raise TrainingError(
                f"Recipe key '{key}' is {_shown(value)}; expected a number from {least:,} to "
                f"{most:,}."
            )
    return recipe


_OPTION = 4096  # the largest number among constructor arguments, such as channels
_SHARE, _WEIGHT, _STEPS = (0, 1), (0, 1_000_000), (0, 1_000_000_000)
# The texts that a key may have, or the least and the most that its number may be.
_RANGES: dict[str, tuple[Any, ...]] = {
    "seed": (0, 2**63 - 1),
    "steps": (1, _STEPS[1]),
    "batch_size": (1, 10_000),
    "accumulate": (1, 10_000),
    "image_size": (8, 4096),
    "precision": ("fp32", "bf16"),
    "ema_decay": (0, 0.999999),
    "storage": ("exact", "compact"),
    "losses.edit_norm": ("l1", "l2"),
    "optimiser.name": ("ranger", "adamw", "muon"),
    "optimiser.learning_rate": (1e-12, 10),
    "optimiser.weight_decay": (0, 100),
    "optimiser.warmup": _STEPS,
    "optimiser.decay_start": _SHARE,
    "optimiser.final": _SHARE,
    "optimiser.clip": (0, 1_000_000),
    "data.generator_share": _SHARE,
    "data.generated": (0, 1_000_000),
    "data.truncation": _SHARE,
    "data.augmentation.flip": _SHARE,
    "data.augmentation.colour": _SHARE,
    "data.augmentation.jitter": _SHARE,
    "data.augmentation.occluders": _SHARE,
    "data.augmentation.max_occluders": (1, 100),
    "data.augmentation.degrade": _SHARE,
    "edits.library": _SHARE,
    "edits.difference": _SHARE,
    "edits.perturbation": _SHARE,
    "progressive.start": _STEPS,
    "progressive.every": _STEPS,
    "validation.every": _STEPS,
    "validation.limit": _STEPS,
    "log.scalars": (1, _STEPS[1]),
    "log.grid": _STEPS,
    "log.checkpoint": (1, _STEPS[1]),
}


def _read(source: str | Path) -> str:
    path, own = Path(source), resources.files("sdic.training") / "recipes" / f"{source}.toml"
    try:
        if path.is_file():
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
        elif str(source) in shipped():
            content = own.read_bytes()
        else:
            raise FileNotFoundError
    except (FileNotFoundError, ValueError):
        raise TrainingError(
            f"There is no recipe '{source}'; give a TOML file or one of: {', '.join(shipped())}."
        ) from None
    except OSError as error:
        raise TrainingError(
            f"The recipe '{source}' cannot be read ({error.strerror}); give another file."
        ) from error
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if len(content) > LARGEST or (content and not text):
        raise TrainingError(f"'{source}' is no recipe; expected a short text in UTF-8, as TOML.")
    return text


def _override(table: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise TrainingError(f"{_shown(override)} is not a setting; write it as key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise TrainingError(
                f"Recipe key '{parent}' in {_shown(override)} holds no table of keys."
            )
    table[leaf] = value


def _parse(cls: Any, table: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(cls)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(hints)}."
            raise TrainingError(f"Recipe key {_shown(prefix + key)} is not known; {hint}")
    for entry in dataclasses.fields(cls):
        required = entry.default is entry.default_factory is dataclasses.MISSING
        if required and entry.name not in table:
            raise TrainingError(f"The recipe lacks the key '{prefix}{entry.name}'.")
    return cls(**{key: _value(hints[key], value, prefix + key) for key, value in table.items()})


def _value(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint) or get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise TrainingError(f"Recipe key '{key}' is {_shown(value)}; expected a table of keys.")
        if dataclasses.is_dataclass(hint):
            return _parse(hint, value, key + ".")
        inner = get_args(hint)[1]
        return {name: _value(inner, item, f"{key}.{name}") for name, item in value.items()}
    if hint is Any:
        if not _is_plain(value):
            raise TrainingError(
                f"Recipe key {_shown(key)} is {_shown(value)}; expected a text, true or false, a "
                f"number up to {_OPTION:,}, or a short list of them."
            )
        return value
    if get_origin(hint) is tuple:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise TrainingError(f"Recipe key '{key}' is {_shown(value)}; expected a list of texts.")
        return tuple(texts)
    if hint is float and type(value) is int and abs(value) <= 2**63:
        return float(value)
    if type(value) is not hint:
        raise TrainingError(f"Recipe key '{key}' is {_shown(value)}; expected {_TYPE_NAMES[hint]}.")
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Whether a constructor's argument is of a kind that TOML and JSON have, and of decent size."""
    if isinstance(value, list | tuple):
        return depth > 0 and len(value) <= 100 and all(_is_plain(v, depth - 1) for v in value)
    if isinstance(value, int | float):
        return abs(value) <= _OPTION  # which what is no number is not
    return isinstance(value, str)


def _shown(value: Any) -> str:
    """A value for a message: in one line, not longer than one reads."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except (ValueError, RecursionError):
        return "a value that is too long to be shown"
    return text if len(text) <= 100 else f"{text[:97]}..."
