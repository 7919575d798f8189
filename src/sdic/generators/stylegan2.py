"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) in plain PyTorch operators, split at any layer.

Layers are numbered as in the SDIC paper, by the w+ row that acts in them: layer 0 is `conv1` at
4x4, layer i is `convs.{i-1}`; odd layers double the side. Layer 7, the default split, makes 64x64.
After each even layer an image head adds to the image skip, by the w+ row of the layer that follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from sdic.errors import InputError, WeightsError
from sdic.generators.base import LATENT_DIM, Generator
from sdic.generators.spaces import space_of
from sdic.generators.stylegan2_layers import (
    Constant,
    MappingLayer,
    PixelNorm,
    StyledConv,
    ToRGB,
)
from sdic.weights.checkpoints import load_strict, part_of, read_checkpoint

FEATURE_LAYER = 7
MAPPING_LAYERS = 8
MEAN_SAMPLES = 10_000


def layer_of_side(side: int) -> int:
    """The layer that first makes maps of this side: 32, 64, 128 are layers 5, 7, 9."""
    if side < 8 or side & (side - 1):
        raise InputError(f"No layer makes maps of side {side}; expected a power of two from 8 on.")
    return 2 * int(math.log2(side)) - 5


class StyleGAN2(Generator):
    """The paper's generator: 18 style rows at 1024x1024 (faces), 16 at 512x512 (cars).

    The state dict has exactly the keys of the published `g_ema` files. The mean latent is not among
    them: it is a buffer that is not saved with the state dict.

    Args:
        resolution: side of the image, a power of two from 16 on.
        feature_layer: the layer after which the pass is split; its output, after noise and
            activation, is F. Layers 5, 7 and 9 make 32x32, 64x64 and 128x128.
        channel_base: channels of a map times its side, as long as that is below `channel_max`.
        channel_max: channels of the small maps.

    Raises:
        InputError: the resolution or the feature layer does not exist.
    """

    name = "stylegan2"

    def __init__(
        self,
        resolution: int = 1024,
        feature_layer: int = FEATURE_LAYER,
        channel_base: int = 32768,
        channel_max: int = 512,
    ) -> None:
        super().__init__()
        if resolution < 16 or resolution & (resolution - 1):
            raise InputError(
                f"StyleGAN2 cannot have resolution {resolution}; expected a power of two "
                "from 16 on, such as 1024 for faces."
            )
        levels = int(math.log2(resolution)) - 2  # doublings from 4x4
        self.resolution = resolution
        self.num_layers = 2 * levels + 1
        self.num_styles = 2 * levels + 2
        self.row_layers = tuple(range(self.num_styles))
        if not 1 <= feature_layer < self.num_layers:
            raise InputError(
                f"There is no feature layer {feature_layer} in a StyleGAN2 of resolution "
                f"{resolution}; expected 1 to {self.num_layers - 1}."
            )
        self.feature_layer = feature_layer

        def channels(layer: int) -> int:
            return min(channel_max, channel_base // self.side(layer))

        feature_side = self.side(feature_layer)
        self.feature_shape = (channels(feature_layer), feature_side, feature_side)
        self.style = nn.Sequential(PixelNorm(), *(MappingLayer() for _ in range(MAPPING_LAYERS)))
        self.input = Constant(channels(0))
        self.conv1 = StyledConv(channels(0), channels(0))
        self.to_rgb1 = ToRGB(channels(0), upsample=False)
        self.convs = nn.ModuleList(
            StyledConv(channels(i - 1), channels(i), upsample=i % 2 == 1)
            for i in range(1, self.num_layers)
        )
        self.to_rgbs = nn.ModuleList(ToRGB(channels(i)) for i in range(2, self.num_layers, 2))
        self.noises = nn.Module()
        for i in range(self.num_layers):
            noise = torch.zeros(1, 1, self.side(i), self.side(i))
            self.noises.register_buffer(f"noise_{i}", noise)
        self.mean_latent = nn.Buffer(torch.zeros(LATENT_DIM), persistent=False)
        self.freeze()

    @staticmethod
    def side(layer: int) -> int:
        """Side of the maps that a layer makes."""
        return int(4 * 2 ** ((layer + 1) // 2))

    @classmethod
    def from_checkpoint(cls, path: str | Path, feature_layer: int = FEATURE_LAYER) -> StyleGAN2:
        """Load a published generator, e4e, pSp or SDIC file, or a bare state dict.

        The resolution and widths are those of the file. The mean latent is the file's
        `latent_avg`; without one it is computed (seed 0).

        Raises:
            InputError: there is no such file.
            WeightsError: the file cannot be read, or holds no StyleGAN2 generator.
        """
        return cls.from_state(read_checkpoint(path), str(path), feature_layer)

    @classmethod
    def from_state(
        cls, checkpoint: dict[str, Any], what: str, feature_layer: int = FEATURE_LAYER
    ) -> StyleGAN2:
        """Build from what `read_checkpoint` gave; `what` names it in errors."""
        state = _generator_state(checkpoint, what)
        resolution, channel_base, channel_max = _sizes(state, what)
        generator = cls(resolution, feature_layer, channel_base, channel_max)
        load_strict(generator, state, what)
        mean = checkpoint.get("latent_avg")
        if isinstance(mean, Tensor) and mean.shape[-1:] == (LATENT_DIM,):
            generator.mean_latent.copy_(mean.reshape(-1, LATENT_DIM).mean(dim=0))
        else:
            generator.mean_latent.copy_(generator.compute_mean_latent())
        return generator

    @torch.no_grad()
    def compute_mean_latent(self, samples: int = MEAN_SAMPLES, seed: int = 0) -> Tensor:
        """Mean of `mapping` over random z: [512]."""
        random = torch.Generator("cpu").manual_seed(seed)
        z = torch.randn(samples, LATENT_DIM, generator=random)
        return self.mapping(z.to(self.mean_latent)).mean(dim=0)

    @property
    def space(self) -> str:  # type: ignore[override]
        """FFHQ's where the mapping network is FFHQ's, else a space of its own."""
        return space_of(self.mapping)

    def mapping(self, z: Tensor) -> Tensor:
        return self.style(z)  # type: ignore[no-any-return]

    def first_half(
        self, w_plus: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Latents w+ [N,S,512] to all that crosses the split: F [N,C,H,W] and the image skip.

        Args:
            w_plus: the latents of the pass.
            noise: source of fresh noise maps; None takes the fixed ones of the checkpoint.

        Returns:
            F, and the image [N,3,H/2,W/2] summed so far.
        """
        features, skip = self._run(*self._start(w_plus), w_plus, 0, self.feature_layer + 1, noise)
        return features, cast(Tensor, skip)

    def second_half(
        self,
        features: Tensor,
        skip: Tensor,
        w_plus: Tensor,
        size: int | None = None,
        noise: torch.Generator | None = None,
    ) -> Tensor:
        """F [N,C,H,W], image skip [N,3,H/2,W/2] and latents w+ [N,S,512] to images.

        As `from_features`, for a caller who has the skip from `first_half`.
        """
        size = self.check_size(size)
        x = _channels_last(features)
        x, image = self._run(x, skip, w_plus, self.feature_layer + 1, self.num_layers, noise)
        w = w_plus[:, self.num_layers].to(x.dtype)
        image = self._head(self.num_layers - 1)(x, w, image)
        return nnf.avg_pool2d(image, self.resolution // size) if size < self.resolution else image

    def to_features(self, w_plus: Tensor, noise: torch.Generator | None = None) -> Tensor:
        return self.first_half(w_plus, noise)[0]

    def from_features(
        self,
        features: Tensor,
        w_plus: Tensor,
        size: int | None = None,
        noise: torch.Generator | None = None,
    ) -> Tensor:
        """Second half; see `Generator.from_features`.

        The skip is that of the pass with w_plus: the layers before the last image head below F are
        run again for it. `second_half` takes a skip that is already there.
        """
        head = (self.feature_layer - 1) // 2 * 2  # the last layer before F with an image head
        x, skip = self._run(*self._start(w_plus), w_plus, 0, head + 1, noise)
        skip = self._head(head)(x, w_plus[:, head + 1].to(x.dtype), skip)
        return self.second_half(features, cast(Tensor, skip), w_plus, size, noise)

    def forward(
        self, w_plus: Tensor, size: int | None = None, noise: torch.Generator | None = None
    ) -> Tensor:
        """One whole pass: latents w+ [N,S,512] to images [N,3,size,size]."""
        features, skip = self.first_half(w_plus, noise)
        return self.second_half(features, skip, w_plus, size, noise)

    def styles(self, w_plus: Tensor) -> Tensor:
        scales = []
        for i, layer in enumerate((self.conv1, *self.convs)):
            scales.append(layer.conv.modulation(w_plus[:, i]))
            if i % 2 == 0:
                scales.append(self._head(i).conv.modulation(w_plus[:, i + 1]))
        return torch.cat(scales, dim=1)

    def _start(self, w_plus: Tensor) -> tuple[Tensor, None]:
        return _channels_last(self.input.input.expand(w_plus.shape[0], -1, -1, -1)), None

    def _run(
        self,
        x: Tensor,
        skip: Tensor | None,
        w_plus: Tensor,
        first: int,
        last: int,
        noise: torch.Generator | None,
    ) -> tuple[Tensor, Tensor | None]:
        w_plus = w_plus.to(x.dtype)
        for i in range(first, last):
            w = w_plus[:, i]
            if i % 2:
                skip = self._head(i - 1)(x, w, skip)
            layer = self.convs[i - 1] if i else self.conv1
            x = layer(x, w, self._noise(i, x, noise))
        return x, skip

    def _head(self, layer: int) -> ToRGB:
        return cast(ToRGB, self.to_rgbs[layer // 2 - 1]) if layer else self.to_rgb1

    def _noise(self, layer: int, x: Tensor, source: torch.Generator | None) -> Tensor:
        if source is None:
            return cast(Tensor, getattr(self.noises, f"noise_{layer}"))
        shape = (x.shape[0], 1, self.side(layer), self.side(layer))
        return torch.randn(shape, generator=source, device=source.device).to(x)


def _channels_last(x: Tensor) -> Tensor:
    """On the CPU, convolutions of large maps are a third faster with channels last."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def _generator_state(checkpoint: dict[str, Any], what: str) -> dict[str, Tensor]:
    """The generator's tensors, by published key, from any of the layouts they come in."""
    state = checkpoint.get("g_ema", checkpoint.get("state_dict", checkpoint))
    state = state if isinstance(state, Mapping) else {}
    if any(str(key).startswith("decoder.") for key in state):
        return part_of(state, "decoder", what)
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    tensors.pop("latent_avg", None)
    if "input.input" not in tensors:
        found = ", ".join(list(map(str, state))[:5]) or "nothing"
        raise WeightsError(
            f"{what} holds no StyleGAN2 generator in the published PyTorch layout: expected a "
            f"'g_ema' entry or 'decoder.' keys, found {found}."
        )
    return tensors


def _sizes(state: dict[str, Tensor], what: str) -> tuple[int, int, int]:
    """(resolution, channel_base, channel_max) of a generator's state dict."""
    try:
        layers = sum(key.startswith("convs.") and key.endswith(".conv.weight") for key in state)
        resolution = 4 * 2 ** (layers // 2)
        width = state[f"convs.{layers - 1}.conv.weight"].shape[1]
        return resolution, width * resolution, state["input.input"].shape[1]
    except (KeyError, IndexError) as error:
        raise WeightsError(
            f"{what} holds only a part of a StyleGAN2 generator: {error} is missing. "
            "Use a complete file."
        ) from error
