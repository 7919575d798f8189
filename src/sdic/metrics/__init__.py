"""How good a reconstruction is: distances of image pairs, of identities, and of image sets.

    metrics = [sdic.metrics.create(name) for name in ("psnr", "st_lpips", "id_dlib")]
    print(sdic.metrics.measure(images, references, metrics))

A number means something only together with its protocol: the size and range of the images, the
filter that resized them, and the network that judged. So `measure` gives both.
"""

from sdic.metrics.frechet import FeatureNetwork, frechet_distance, frechet_lite0
from sdic.metrics.pixels import ms_ssim, mse, psnr, ssim
from sdic.metrics.protocol import Measurement, Protocol, measure
from sdic.metrics.registry import Metric, create, list_metrics

__all__ = [
    "FeatureNetwork",
    "Measurement",
    "Metric",
    "Protocol",
    "create",
    "frechet_distance",
    "frechet_lite0",
    "list_metrics",
    "measure",
    "ms_ssim",
    "mse",
    "psnr",
    "ssim",
]
