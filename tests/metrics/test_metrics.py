"""Metrics: against scikit-image, torchmetrics and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from recognition_images import generated_faces
from sdic import metrics
from sdic.errors import InputError
from sdic.losses.perceptual import PerceptualLoss
from sdic.metrics import FeatureNetwork, Metric, Protocol

structural = pytest.importorskip("skimage.metrics")
torchmetrics = pytest.importorskip("torchmetrics.functional.image")


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    """Three pairs [3,3,192,208]: smooth images, little, some and much noise."""
    y, x = np.mgrid[0:192, 0:208] / 200
    waves = ((2.5, 0.5, 0.3), (-1.7, 3.1, 1.1), (4.3, 1.2, 2.0))
    image = np.stack([np.sin(2 * np.pi * (a * x + b * y) + phase) for a, b, phase in waves])
    images = torch.tensor(0.9 * image, dtype=torch.float32).expand(3, -1, -1, -1)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    amount = torch.tensor([0.01, 0.1, 0.5])[:, None, None, None]
    return images.clone(), (images + amount * noise).clamp(-1, 1)


def as_numpy(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


def test_mse_and_psnr_in_closed_form() -> None:
    black, grey = torch.full((2, 3, 8, 8), -1.0), torch.full((2, 3, 8, 8), -0.8)
    assert torch.allclose(metrics.mse(black, grey), torch.full((2,), 0.04))
    expected = torch.full((2,), 10 * math.log10(4 / 0.04))
    assert torch.allclose(metrics.psnr(black, grey), expected)
    assert torch.allclose(metrics.psnr(black, black), torch.full((2,), 100.0))


def test_psnr_agrees_with_scikit_image(pairs: tuple[Tensor, Tensor]) -> None:
    for value, a, b in zip(metrics.psnr(*pairs), *pairs, strict=True):
        expected = structural.peak_signal_noise_ratio(as_numpy(a), as_numpy(b), data_range=2)
        assert value.item() == pytest.approx(expected, abs=1e-4)


def test_ssim_agrees_with_scikit_image(pairs: tuple[Tensor, Tensor]) -> None:
    for value, a, b in zip(metrics.ssim(*pairs), *pairs, strict=True):
        expected = structural.structural_similarity(
            as_numpy(a),
            as_numpy(b),
            data_range=2,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert value.item() == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_agrees_with_torchmetrics(pairs: tuple[Tensor, Tensor]) -> None:
    expected = torchmetrics.multiscale_structural_similarity_index_measure(
        *(batch.double() for batch in pairs), data_range=2.0, reduction="none"
    )
    assert torch.allclose(metrics.ms_ssim(*pairs).double(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_similarity_of_equal_images_is_one(name: str, pairs: tuple[Tensor, Tensor]) -> None:
    metric = metrics.create(name)
    assert torch.allclose(metric(pairs[0], pairs[0]), torch.ones(3), atol=1e-6)


@pytest.mark.parametrize("name", ["mse", "psnr", "ssim", "ms_ssim"])
def test_more_noise_is_worse_and_gradients_flow(name: str, pairs: tuple[Tensor, Tensor]) -> None:
    metric = metrics.create(name)
    noisy = pairs[1].clone().requires_grad_()
    values = metric(noisy, pairs[0])
    order = values if metric.higher_is_better else -values
    assert order[0] > order[1] > order[2]
    values.sum().backward()
    assert noisy.grad is not None
    assert noisy.grad.isfinite().all()
    assert noisy.grad.abs().sum() > 0


def test_pairs_that_do_not_fit_are_refused() -> None:
    image = torch.zeros(1, 3, 64, 64)
    with pytest.raises(InputError, match="one shape"):
        metrics.mse(image, image[:, :, :32])
    with pytest.raises(InputError, match="floating point"):
        metrics.psnr(image.byte(), image.byte())
    with pytest.raises(InputError, match="176x176"):
        metrics.ms_ssim(image, image)
    with pytest.raises(InputError, match="11x11"):
        metrics.ssim(image[..., :10], image[..., :10])


# Protocol and registry


def test_protocol_clamps_and_averages_areas() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[..., :2, :2] = 3.0
    prepared = Protocol(size=2).prepare(image)
    assert torch.equal(prepared[0, 0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(InputError, match="at least 8"):
        Protocol(size=8).prepare(image)
    with pytest.raises(InputError, match="Square"):
        Protocol(size=2).prepare(image[..., :3])
    with pytest.raises(InputError, match="bicubic"):
        Protocol(resize_filter="bicubic")


def test_a_measurement_tells_its_protocol_networks_and_directions() -> None:
    judge = Metric(
        "score", lambda a, b: (a - b).mean((1, 2, 3)), True, "dB", "some-network", "a note"
    )
    measurement = metrics.measure(
        torch.ones(2, 3, 64, 64),
        torch.zeros(2, 3, 64, 64),
        [metrics.create("mse"), judge],
        Protocol(size=32),
    )
    assert measurement.mean("mse") == pytest.approx(1.0)
    assert measurement.protocol.networks == ("some-network",)
    text = str(measurement)
    for part in ("32x32", "[-1,1]", "area", "some-network", "score: 1.0000 dB", "a note", "n=2"):
        assert part in text
    assert "mse: 1.0000 (n=2, lower is better" in text


def test_unknown_metric_and_missing_lpips_are_refused() -> None:
    with pytest.raises(InputError, match="ms_ssim"):
        metrics.create("beauty")
    with pytest.raises(InputError, match="load_lpips"):
        metrics.create("lpips")


def test_lpips_is_named_after_the_users_network() -> None:
    network = PerceptualLoss("alex", shift_tolerant=False)
    for depth in range(5):
        torch.nn.init.ones_(network.get_submodule(f"lin{depth}").weights())
    metric = metrics.create("lpips", network)
    assert (metric.network, metric.higher_is_better) == ("lpips-alex", False)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    assert metric(image, image).item() == pytest.approx(0.0, abs=1e-6)


# Fréchet distance


def test_frechet_distance_of_diagonal_gaussians() -> None:
    # Samples at +-s on each axis have mean 0 and covariance 2 s^2 / (2D - 1) on the diagonal.
    scales, other_scales = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.5])
    shift = torch.tensor([0.3, -1.0, 0.2])
    corners = torch.cat([torch.eye(3), -torch.eye(3)])
    deviations = (2 / 5) ** 0.5 * (scales - other_scales)
    expected = shift.square().sum() + deviations.square().sum()
    found = metrics.frechet_distance(corners * scales, corners * other_scales + shift)
    assert found == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("samples", [5, 200])
def test_frechet_distance_against_matrix_square_root(samples: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    random = np.random.default_rng(0)
    a = random.normal(size=(samples, 12)) @ random.normal(size=(12, 12))
    b = random.normal(size=(samples + 3, 12)) + 0.5
    first, second = np.cov(a.T), np.cov(b.T)
    # Few samples make the product singular; the shift of the root is about sqrt(1e-12).
    root = linalg.sqrtm(first @ second + 1e-12 * np.eye(12)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    found = metrics.frechet_distance(torch.from_numpy(a), torch.from_numpy(b))
    assert found == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_of_a_set_to_itself_is_zero() -> None:
    features = torch.randn(40, 20, generator=torch.Generator().manual_seed(1))
    assert metrics.frechet_distance(features, features) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_refuses_what_has_no_covariance() -> None:
    features = torch.zeros(4, 8)
    with pytest.raises(InputError, match="at least two"):
        metrics.frechet_distance(features, features[:1])
    with pytest.raises(InputError, match="one length"):
        metrics.frechet_distance(features, features[:, :5])
    with pytest.raises(InputError, match="finite"):
        metrics.frechet_distance(features, features / 0)


def test_frechet_lite0_goes_through_the_network_in_batches() -> None:
    images = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    sizes = []

    def network(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return batch.mean((2, 3))

    found = metrics.frechet_lite0(images, images + 0.5, network, batch=3)
    assert sizes == [3, 3, 1, 3, 3, 1]
    assert found == pytest.approx(3 * 0.25, rel=1e-4)


# With the published weights


@pytest.mark.network
def test_frechet_features_know_texture() -> None:
    network = FeatureNetwork.pretrained()
    random = torch.Generator().manual_seed(3)
    smooth = torch.nn.functional.interpolate(
        torch.rand(8, 3, 4, 4, generator=random) * 2 - 1, (64, 64), mode="bicubic"
    ).clamp(-1, 1)
    noisy = (smooth + 0.3 * torch.randn(smooth.shape, generator=random)).clamp(-1, 1)
    near, far = smooth[:4], noisy[4:]
    assert network(near).shape == (4, 1280)
    distances = [metrics.frechet_lite0(smooth[4:], other, network) for other in (near, far)]
    assert 0 < distances[0] < distances[1]


@pytest.mark.network
@pytest.mark.parametrize("name", ["st_lpips", "id_fr", "id_dlib", "id_faceres"])
def test_network_metrics_prefer_the_better_copy(name: str) -> None:
    faces = generated_faces()
    blurred = [torch.nn.functional.avg_pool2d(faces, k, 1, k // 2) for k in (3, 15)]
    metric = metrics.create(name)
    measurements = [metrics.measure(copy, faces, [metric]) for copy in blurred]
    good, bad = (measurement.mean(name) for measurement in measurements)
    assert (good > bad) == metric.higher_is_better
    assert str(metric.network) in str(measurements[0])
