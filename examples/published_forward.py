"""One forward pass of the published SDIC layout with random weights: shapes, and seconds per part.

python examples/published_forward.py                 # faces: 1024x1024, 18 style rows
python examples/published_forward.py --cars          # cars: 512x512, 16 style rows
python examples/published_forward.py --threads 2 --repeats 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from sdic.generators.stylegan2 import StyleGAN2
from sdic.methods.base import INVERSION_SIZE
from sdic.methods.sdic import SDIC
from sdic.runtime.allocator import tune_allocator

Result = TypeVar("Result")


def random_weights(network: nn.Module, seed: int) -> None:
    """Normal weights, so that a generator (zero until it is loaded) draws something."""
    random = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=random))


def timed(name: str, seconds: dict[str, list[float]], run: Callable[[], Result]) -> Result:
    """Run and note how long it took."""
    start = time.perf_counter()
    result = run()
    seconds.setdefault(name, []).append(time.perf_counter() - start)
    return result


def invert(sdic: SDIC, images: Tensor, seconds: dict[str, list[float]]) -> dict[str, Tensor]:
    """The way of SDIC, part by part."""
    generator = sdic.generator
    w = timed("encoder", seconds, lambda: sdic.encoder(images))
    features = timed("F", seconds, lambda: generator.to_features(w))
    initial = timed("R_o", seconds, lambda: sdic.initial_reconstruction(features, w))
    discrepancy = timed("DIPN", seconds, lambda: sdic.dipn(images, initial))
    enhanced, w_enhanced = timed("DICN", seconds, lambda: sdic.dicn(discrepancy, features, w))
    image = timed("image", seconds, lambda: generator.from_features(enhanced, w_enhanced))
    return {
        "w": w,
        "F": features,
        "R_o": initial,
        "D": discrepancy,
        "F*": enhanced,
        "w*": w_enhanced,
        "image": image,
    }


@torch.no_grad()
def main() -> None:
    """Build, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cars", action="store_true", help="512x512 and 16 style rows")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator()
    generator = StyleGAN2(512 if options.cars else 1024)
    random_weights(generator, options.seed)
    torch.manual_seed(options.seed)
    sdic = SDIC.create(generator, "published").for_inference()
    images = torch.rand(1, 3, INVERSION_SIZE, INVERSION_SIZE) * 2 - 1

    seconds: dict[str, list[float]] = {}
    for _ in range(1 + options.repeats):
        results = invert(sdic, images, seconds)
    for name, tensor in results.items():
        print(f"{name:8} {list(tensor.shape)}")
    best = {name: min(times[1:]) for name, times in seconds.items()}
    for name, value in {**best, "total": sum(best.values())}.items():
        print(f"{name:8} {value:6.3f} s")


if __name__ == "__main__":
    main()
