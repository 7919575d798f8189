"""Fréchet distance of two sets of images, on the features of EfficientNet-lite0.

FID (Heusel et al. 2017, arXiv 1706.08500) is this distance on the features of Inception-v3. These
features are others, so the number is named `frechet_lite0` and compares only with itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sdic.encoders.efficientnet import EfficientNetLite0
from sdic.errors import InputError
from sdic.images import resize_antialiased

INPUT_SIZE = 224


class FeatureNetwork(nn.Module):
    """Pooled features of EfficientNet-lite0: images [N,3,H,W] in [-1,1] to [N,1280].

    Frozen, in eval mode, on the CPU. Images are resized to 224x224 (bilinear, antialiased).
    """

    def __init__(self, network: EfficientNetLite0 | None = None) -> None:
        super().__init__()
        self.network = network or EfficientNetLite0()
        self.eval()
        self.requires_grad_(False)

    @classmethod
    def pretrained(cls) -> FeatureNetwork:
        """The network with its ImageNet weights, fetched on first use.

        Raises:
            WeightsError: the weights cannot be fetched or do not fit.
        """
        return cls(EfficientNetLite0.pretrained())

    def forward(self, images: Tensor) -> Tensor:
        """Images [N,3,H,W] in [-1,1] to features [N,1280]."""
        features: Tensor = self.network(resize_antialiased(images, INPUT_SIZE))
        return features


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Fréchet distance of two normal distributions fitted to features [N,D] and [M,D].

    |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)), with unbiased covariances. Biased upwards for few
    samples, so compare only sets of equal size.

    Raises:
        InputError: fewer than two samples, different widths, or values that are not finite.
    """
    _check_features(features, others)
    (mean, root), (other_mean, other_root) = _moments(features), _moments(others)
    # With C = R^T R, the trace of (C1 C2)^(1/2) is the sum of the singular values of R1 R2^T.
    overlap = torch.linalg.svdvals(root @ other_root.T).sum()
    spread = root.square().sum() + other_root.square().sum() - 2 * overlap
    return float((mean - other_mean).square().sum() + spread)


def frechet_lite0(
    images: Tensor, others: Tensor, network: Callable[[Tensor], Tensor], batch: int = 16
) -> float:
    """Fréchet distance of images [N,3,H,W] and others [M,3,H,W] in [-1,1]. Lower is better.

    Args:
        images: one set.
        others: the other set.
        network: `FeatureNetwork.pretrained()`.
        batch: images that go through the network at once.
    """
    with torch.no_grad():
        features, other_features = (
            torch.cat([network(part) for part in torch.split(faces, batch)])
            for faces in (images, others)
        )
    return frechet_distance(features, other_features)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and a root R [min(N,D),D] of the covariance, R^T R, in double precision."""
    features = features.double()
    mean = features.mean(0)
    root = torch.linalg.qr((features - mean) / (len(features) - 1) ** 0.5, mode="r").R
    return mean, root


def _check_features(features: Tensor, others: Tensor) -> None:
    sets = (features, others)
    if any(f.ndim != 2 or len(f) < 2 for f in sets) or features.shape[1] != others.shape[1]:
        raise InputError(
            "A Fréchet distance needs two sets of at least two feature vectors of one length, not"
            f" {tuple(features.shape)} and {tuple(others.shape)}."
        )
    if not all(torch.isfinite(f).all() for f in sets):
        raise InputError(
            "A Fréchet distance was asked of features that are not finite: check the images for"
            " NaN or infinity."
        )
