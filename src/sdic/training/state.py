"""The state of a run as named tensors and JSON, exactly, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sdic.errors import TrainingError
from sdic.training import packing
from sdic.training.optimiser import Ema
from sdic.training.recipe import Recipe

# What a run may change when it goes on; everything else makes it another run.
_CHANGEABLE = (
    "steps",
    "batch_size",
    "accumulate",
    "precision",
    "channels_last",
    "ema_decay",
    "storage",
    "losses",
    "optimiser",
    "data",
    "edits",
    "validation",
    "log",
)
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


def collect(
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    ema: Ema,
    compact: bool,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that must be kept: tensors, and what is not a tensor.

    Compact state packs weights and averages (see `packing`) and keeps the optimiser's moments in
    bfloat16. It rounds the state of the *running* training alike, so that a resumed run still does
    exactly what this one goes on to do. Without averaging (decay 0) the average equals the weights
    and is left out.
    """
    tensors: dict[str, Tensor] = {}
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            tensors |= _weight(f"{name}.{key}", value, ema, compact)
    extra: dict[str, Any] = {}
    for name, optimiser in optimisers.items():
        state = optimiser.state_dict()
        numbers: dict[str, dict[str, Any]] = {}
        for index, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    if compact and key in _MOMENTS:
                        value = _rounded(value, torch.bfloat16)
                    tensors[f"optimisers.{name}.{index}.{key}"] = value
                else:
                    numbers.setdefault(str(index), {})[key] = value
        extra[name] = {"groups": state["param_groups"], "numbers": numbers}
    return tensors, {"optimisers": extra}


def _weight(key: str, value: Tensor, ema: Ema, compact: bool) -> dict[str, Tensor]:
    """A weight and its average, under the names that `packing.unpack` knows."""
    packed = compact and packing.is_packable(value)
    kept = {f"networks.{key}": value}
    if packed:
        kept = {f"{packing.WEIGHT}networks.{key}": packing.pack_weight(value)}
    if ema.decay and key in ema.average:
        if packed:
            difference, scale = packing.pack_difference(ema.average[key], value)
            kept |= {
                f"{packing.DIFFERENCE}ema.{key}": difference,
                f"{packing.SCALE}ema.{key}": scale,
            }
        else:
            kept[f"ema.{key}"] = ema.average[key]
    return kept


def restore(
    tensors: Mapping[str, Tensor],
    extra: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    ema: Ema,
) -> None:
    """Put a collected state back.

    Raises:
        TrainingError: the networks have other weights than the checkpoint.
    """
    tensors = packing.unpack(tensors)
    for name, network in networks.items():
        own = {k: v.shape for k, v in network.state_dict().items()}
        saved = _under(tensors, f"networks.{name}.")
        keys = (own.keys() | saved.keys()) - set(getattr(network, "OPTIONAL_KEYS", ()))
        different = [key for key in keys if not _same(own, saved, key)]
        if different:
            raise TrainingError(
                f"The checkpoint is of another network: '{name}' differs in {len(different)} "
                f"tensors, for example '{min(different)}'. Use the recipe that the run began with, "
                "or another --out."
            )
        network.load_state_dict(saved)
    ema.load(_under(tensors, "ema."))
    for name, optimiser in optimisers.items():
        if name not in extra["optimisers"]:
            raise TrainingError(
                f"The checkpoint has no optimiser '{name}'. Use the recipe that the run began "
                "with, or another --out."
            )
        _restore_optimiser(
            optimiser, _under(tensors, f"optimisers.{name}."), extra["optimisers"][name]
        )


def check_recipe(saved: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Compare the recipe of a checkpoint with the one given now.

    Returns:
        The keys that differ and may, as texts "key: old -> new".

    Raises:
        TrainingError: a key differs that makes it another run.
    """
    old, new = _flatten(saved), _flatten(recipe.to_dict())
    changed = []
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if key.split(".")[0] not in _CHANGEABLE or key == "optimiser.name":
            raise TrainingError(
                f"The run began with {key} = {before!r}, the recipe now says {now!r}. "
                "Use the recipe that the run began with, or another --out."
            )
        changed.append(f"{key}: {before!r} -> {now!r}")
    return changed


def _restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]
) -> None:
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {
        int(index): dict(entries) for index, entries in extra["numbers"].items()
    }
    for key, value in tensors.items():
        index, entry = key.split(".", 1)
        like = parameters[int(index)]
        if value.shape == like.shape:  # in the parameter's own memory format
            value = torch.empty_like(like).copy_(value)
        state.setdefault(int(index), {})[entry] = value
    groups = [
        {k: v if k == "params" else _as_tuples(v) for k, v in group.items()}
        for group in extra["groups"]
    ]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _as_tuples(value: Any) -> Any:
    """JSON's lists, also nested ones, as the tuples that optimisers have in their settings."""
    return tuple(_as_tuples(entry) for entry in value) if isinstance(value, list) else value


def _rounded(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The value in fewer bits; rounds it in place, too."""
    small = value.to(dtype)
    value.copy_(small)
    return small


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _same(own: Mapping[str, torch.Size], saved: Mapping[str, Tensor], key: str) -> bool:
    return key in own and key in saved and own[key] == saved[key].shape


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
