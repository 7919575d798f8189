"""The preview head: its shape, and how exactly its fit explains maps that it can explain."""

import pytest
import torch

from rounding import close
from sdic.generators.mobile_head import CHANNELS, PreviewHead, preview
from sdic.training import head as fitting
from sdic.training.head import Pixels, fit, mean_absolute_error


def linear_pixels(samples: int, seed: int) -> Pixels:
    """Images that a fixed 1x1 convolution of the maps explains exactly."""
    random = torch.Generator().manual_seed(seed)
    kernel = torch.randn(CHANNELS, 3, generator=torch.Generator().manual_seed(1)) / CHANNELS**0.5
    maps = torch.randn(samples, 32, CHANNELS, generator=random)
    return Pixels(torch.randn(samples, 512, generator=random), maps, maps @ kernel)


def test_fit_finds_a_linear_head_and_generalises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "STEPS", 500)
    pixels = linear_pixels(200, 0)
    head = fit(pixels, torch.zeros(512))
    untrained = mean_absolute_error(PreviewHead().eval(), pixels)
    assert mean_absolute_error(head, linear_pixels(20, 2)) < 0.2 * untrained


def test_fit_depends_on_the_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "STEPS", 20)
    pixels = linear_pixels(16, 0)
    one, two = (fit(pixels, torch.zeros(512), seed=3) for _ in range(2))
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])


def test_parts_of_pixels_are_disjoint_and_whole() -> None:
    pixels = linear_pixels(5, 0)
    joined = torch.cat((pixels.part(0, 2).maps, pixels.part(2, 5).maps))
    assert torch.equal(joined, pixels.maps)


class OneStage(torch.nn.Module):
    """Stands in for the generator: its preview maps are F itself, enlarged."""

    def preview_maps(self, features: torch.Tensor, w_plus: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(features, scale_factor=2)


def test_preview_is_the_head_on_the_maps() -> None:
    head = PreviewHead().eval()
    features, w_plus = torch.randn(2, CHANNELS, 4, 4), torch.randn(2, 23, 512)
    images = preview(OneStage(), head, features, w_plus)  # type: ignore[arg-type]
    assert images.shape == (2, 3, 8, 8)
    scales = 1 + head.scale(head.reduce(w_plus.mean(dim=1) - head.mean_latent))
    weight, bias = head.to_image.weight[:, :, 0, 0], head.to_image.bias
    pixel = weight @ (features[1, :, 1, 2] * scales[1]) + bias
    close(images[1, :, 2, 4], pixel)
