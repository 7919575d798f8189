"""How good a reconstruction or an edit is: distances of image pairs, of identities, of image sets.

    metrics = [sdic.metrics.create(name) for name in ("psnr", "st_lpips", "id_dlib")]
    print(sdic.metrics.measure(images, references, metrics))

A number means something only together with its protocol: the size and range of the images, the
filter that resized them, and the network that judged. So `measure` gives both.
"""

from sdic.metrics.edits import (
    BackgroundChange,
    background_change,
    colour_difference,
    ghost,
    mean_colour_difference,
    sharpness,
)
from sdic.metrics.equal_change import AtChange, at_equal_change
from sdic.metrics.frechet import FeatureNetwork, frechet_distance, frechet_lite0
from sdic.metrics.pixels import ms_ssim, mse, psnr, ssim
from sdic.metrics.protocol import Measurement, Protocol, measure
from sdic.metrics.registry import Metric, create, list_metrics

__all__ = [
    "AtChange",
    "BackgroundChange",
    "FeatureNetwork",
    "Measurement",
    "Metric",
    "Protocol",
    "at_equal_change",
    "background_change",
    "colour_difference",
    "create",
    "frechet_distance",
    "frechet_lite0",
    "ghost",
    "list_metrics",
    "mean_colour_difference",
    "measure",
    "ms_ssim",
    "mse",
    "psnr",
    "sharpness",
    "ssim",
]
