"""Recipes: small TOML files that say all about a training run. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from sdic.errors import TrainingError
from sdic.methods.components import Components

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Losses:
    """Weights of the losses; a loss of weight 0 is neither loaded nor computed.

    Attributes:
        l2: mean squared error of the image on [-1,1].
        perceptual: shift-tolerant LPIPS.
        identity: 1 - cosine of the identity features.
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
    identity: float = 0.0
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
        """The weights by name, without `edit_norm`, which is none."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "edit_norm"}


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
    path = Path(source)
    if str(source) in shipped() and not path.is_file():
        text = (resources.files("sdic.training") / "recipes" / f"{source}.toml").read_text("utf-8")
    elif path.is_file():
        text = path.read_text("utf-8")
    else:
        raise TrainingError(
            f"There is no recipe '{source}'; give a TOML file or one of: {', '.join(shipped())}."
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"Recipe '{source}' is not valid TOML: {error}.") from error
    for override in overrides:
        _override(table, override)
    return from_dict(table)


def from_dict(table: Mapping[str, Any]) -> Recipe:
    """A checked recipe from plain tables.

    Raises:
        TrainingError: an unknown key, a value of the wrong type, or one out of its range.
    """
    recipe: Recipe = _parse(Recipe, table, "")
    for key, accepts, expected in _RANGES:
        value: Any = recipe
        for part in key.split("."):
            value = getattr(value, part)
        if not accepts(value):
            raise TrainingError(f"Recipe key '{key}' is {value!r}; expected {expected}.")
    for loss, weight in recipe.losses.weights().items():
        if weight < 0:
            raise TrainingError(f"Recipe key 'losses.{loss}' is {weight}; expected at least 0.")
    return recipe


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


def _share(value: float) -> bool:
    return 0 <= value <= 1


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, " or ".join(f"'{name}'" for name in names)


_POSITIVE = (_positive, "a number above 0")
_NOT_NEGATIVE = (_not_negative, "0 or more")
_SHARE = (_share, "a number between 0 and 1")
_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("task", *_one_of("encoder", "compensation", "editing")),
    ("seed", *_NOT_NEGATIVE),
    ("steps", *_POSITIVE),
    ("batch_size", *_POSITIVE),
    ("accumulate", *_POSITIVE),
    ("image_size", *_POSITIVE),
    ("precision", *_one_of("fp32", "bf16")),
    ("ema_decay", lambda value: 0 <= value < 1, "at least 0 (no averaging) and below 1"),
    ("storage", *_one_of("exact", "compact")),
    ("losses.edit_norm", *_one_of("l1", "l2")),
    ("optimiser.name", *_one_of("ranger", "adamw", "muon")),
    ("optimiser.learning_rate", *_POSITIVE),
    ("optimiser.weight_decay", *_NOT_NEGATIVE),
    ("optimiser.warmup", *_NOT_NEGATIVE),
    ("optimiser.decay_start", *_SHARE),
    ("optimiser.final", *_SHARE),
    ("optimiser.clip", *_NOT_NEGATIVE),
    ("data.generator_share", *_SHARE),
    ("data.generated", *_NOT_NEGATIVE),
    ("data.truncation", *_SHARE),
    ("data.augmentation.flip", *_SHARE),
    ("data.augmentation.colour", *_SHARE),
    ("data.augmentation.jitter", *_SHARE),
    ("data.augmentation.occluders", *_SHARE),
    ("data.augmentation.max_occluders", *_POSITIVE),
    ("data.augmentation.degrade", *_SHARE),
    ("edits.library", *_SHARE),
    ("edits.difference", *_SHARE),
    ("edits.perturbation", *_SHARE),
    ("progressive.start", *_NOT_NEGATIVE),
    ("progressive.every", *_NOT_NEGATIVE),
    ("validation.every", *_NOT_NEGATIVE),
    ("validation.limit", *_NOT_NEGATIVE),
    ("log.scalars", *_POSITIVE),
    ("log.grid", *_NOT_NEGATIVE),
    ("log.checkpoint", *_POSITIVE),
)


def _override(table: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise TrainingError(f"'{override}' is not a setting; write it as key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise TrainingError(f"Recipe key '{parent}' in '{override}' holds no table of keys.")
    table[leaf] = value


def _parse(cls: Any, table: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(cls)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(hints)}."
            raise TrainingError(f"Recipe key '{prefix}{key}' is not known; {hint}")
    for entry in dataclasses.fields(cls):
        required = entry.default is entry.default_factory is dataclasses.MISSING
        if required and entry.name not in table:
            raise TrainingError(f"The recipe lacks the key '{prefix}{entry.name}'.")
    return cls(**{key: _value(hints[key], value, prefix + key) for key, value in table.items()})


def _value(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TrainingError(f"Recipe key '{key}' is {value!r}; expected a table of keys.")
        return _parse(hint, value, key + ".")
    if get_origin(hint) is tuple:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise TrainingError(f"Recipe key '{key}' is {value!r}; expected a list of texts.")
        return tuple(texts)
    if get_origin(hint) is dict:
        inner = get_args(hint)[1]
        if not isinstance(value, Mapping):
            raise TrainingError(f"Recipe key '{key}' is {value!r}; expected a table of keys.")
        if get_origin(inner) is not dict:
            return dict(value)
        return {name: _value(inner, item, f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise TrainingError(f"Recipe key '{key}' is {value!r}; expected {_TYPE_NAMES[hint]}.")
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
