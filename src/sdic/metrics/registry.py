"""Metrics of image pairs by name, each with its direction and the network behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sdic.errors import InputError
from sdic.losses import perceptual
from sdic.metrics.pixels import check_pair, ms_ssim, mse, psnr, ssim
from sdic.recognition import identity

PairFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Metric:
    """A metric of image pairs: call it with two batches [N,3,H,W] in [-1,1] to get values [N].

    Attributes:
        name: key in the registry.
        function: what computes it.
        higher_is_better: the direction.
        unit: "dB" or empty.
        network: the network that judges, or None.
        note: what values mean, where that is known.
    """

    name: str
    function: PairFunction
    higher_is_better: bool
    unit: str = ""
    network: str | None = None
    note: str = ""

    def __call__(self, images: Tensor, references: Tensor) -> Tensor:
        """Values [N] of pairs [N,3,H,W] in [-1,1]; gradients flow.

        Raises:
            InputError: the shapes differ or do not suit the metric.
        """
        check_pair(images, references)
        return self.function(images, references)


_PIXELS = {
    "mse": Metric("mse", mse, higher_is_better=False, note="on [-1,1]"),
    "psnr": Metric("psnr", psnr, higher_is_better=True, unit="dB"),
    "ssim": Metric("ssim", ssim, higher_is_better=True),
    "ms_ssim": Metric("ms_ssim", ms_ssim, higher_is_better=True),
}
_IDENTITIES = {"id_fr": "fr-feature", "id_dlib": "dlib", "id_faceres": "faceres"}


def list_metrics() -> list[str]:
    """Names that `create` knows."""
    return [*_PIXELS, "st_lpips", "lpips", *_IDENTITIES]


def create(name: str, lpips: perceptual.PerceptualLoss | None = None) -> Metric:
    """A metric by its name; the weights of its network are fetched if needed.

    `id_fr` and `id_faceres` are cosines (higher is better), `id_dlib` is dlib's own distance of
    descriptors (lower is better). `st_lpips` and `lpips` are not comparable with each other.

    Args:
        name: one of `list_metrics()`.
        lpips: for "lpips" only, the network from the user's own files
            (`sdic.losses.perceptual.load_lpips`); none ships.

    Raises:
        InputError: no metric has this name, or "lpips" lacks its network.
        WeightsError: weights cannot be fetched.
    """
    if name in _PIXELS:
        return _PIXELS[name]
    if name in _IDENTITIES:
        return _identity(name)
    if name == "st_lpips":
        network = perceptual.create()
        return Metric(name, network, higher_is_better=False, network=network.name)
    if name == "lpips":
        if lpips is None:
            raise InputError(
                "Plain LPIPS has no weights that can be fetched: load your own files with"
                " sdic.losses.perceptual.load_lpips, or use 'st_lpips'."
            )
        return Metric(name, lpips, higher_is_better=False, network=lpips.name)
    raise InputError(f"There is no metric '{name}': choose one of {', '.join(list_metrics())}.")


def _identity(name: str) -> Metric:
    recogniser = identity.create(_IDENTITIES[name])
    return Metric(
        name,
        recogniser.compare,
        higher_is_better=recogniser.measure == "cosine",
        network=recogniser.name,
        note=f"{recogniser.measure}; same person about {recogniser.same_person:.2f}, different"
        f" people about {recogniser.different_people:.2f}",
    )
