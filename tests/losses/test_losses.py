"""Losses against closed forms, independent computations and numbers of the published packages."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as nnf

from rounding import close
from sdic.encoders.latent_discriminator import LatentDiscriminator
from sdic.errors import InputError, WeightsError
from sdic.losses import PRESETS, Compensation, IdentityLoss, JointLoss, LossWeights
from sdic.losses.identity import ArcFace, load_arcface
from sdic.losses.moco import MoCo, load_moco
from sdic.losses.perceptual import Blur, BlurredStem, PerceptualLoss, create, load_lpips
from sdic.losses.regularisers import (
    adversarial_loss,
    discriminator_loss,
    noise_autocorrelation,
    offset_norm,
    r1_penalty,
    renormalise_noise,
)


def waves(height, width, seed, num=2):
    """Smooth images [num,3,H,W] in [-1,1] that depend on nothing but their arguments."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    channels = [torch.sin(0.05 * (k + 1) * x + 0.11 * (k + seed) * y + k) for k in range(3 * num)]
    return torch.stack(channels).reshape(num, 3, height, width)


def fill(network, seed=0):
    """Weights from NumPy's legacy generator, whose numbers never change; in order of the keys."""
    random = np.random.RandomState(seed)
    for key, value in sorted(network.state_dict().items()):
        if key.startswith("scaling_layer.") or key.endswith("filt"):
            continue
        numbers = torch.from_numpy(random.standard_normal(tuple(value.shape))).float()
        if key.startswith("lin"):
            value.copy_(numbers.abs() / value.shape[1])
        else:
            fan_in = value[0].numel() if value.ndim > 1 else 100
            value.copy_(numbers / math.sqrt(fan_in))
    return network


# Computed once with the package stlpips-pytorch 0.0.2 on the same weights and images.
REFERENCE = {
    ("alex", 64, 64): [0.01791276, 0.01435611],
    ("alex", 75, 90): [0.01655873, 0.01360212],
    ("vgg", 48, 48): [0.01242192, 0.01303822],
    ("vgg", 37, 52): [0.01210502, 0.01271554],
}


@pytest.mark.parametrize(("net", "height", "width"), list(REFERENCE))
def test_shift_tolerant_lpips_equals_the_published_package(net, height, width):
    network = fill(PerceptualLoss(net))
    distance = network(waves(height, width, 1), waves(height, width, 2))
    torch.testing.assert_close(
        distance, torch.tensor(REFERENCE[net, height, width]), atol=1e-5, rtol=1e-5
    )


@pytest.mark.network
def test_pretrained_shift_tolerant_lpips_equals_the_published_package():
    distance = create("st-lpips-alex")(waves(256, 256, 1), waves(256, 256, 2))
    torch.testing.assert_close(
        distance, torch.tensor([0.26654893, 0.09351096]), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 52), (33, 47), (12, 90), (31, 30)])
def test_blurred_stem_equals_its_steps(height, width):
    stem = BlurredStem(nn.Conv2d(3, 5, 11, padding=2), Blur(5), nn.ReLU()).double()
    x = torch.rand(2, 3, height, width, dtype=torch.double, requires_grad=True)
    plain = stem[2](stem[1](stem[0](x)))
    merged = stem(x)
    close(merged, plain, 1e-5)
    direction = torch.randn_like(plain)
    (expected,) = torch.autograd.grad((plain * direction).sum(), x)
    (slope,) = torch.autograd.grad((merged * direction).sum(), x)
    close(slope, expected, 1e-5)


def test_blur_against_convolution_by_hand():
    x = torch.rand(1, 2, 9, 8)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    taps = np.outer([1, 2, 1], [1, 2, 1]) / 16
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    expected = (windows[:, :, ::2, ::2] * taps).sum(axis=(4, 5))
    np.testing.assert_allclose(Blur(2)(x).numpy(), expected, atol=1e-5)


def test_perceptual_distance_is_a_distance_of_its_features():
    network = fill(PerceptualLoss())
    x, y = waves(64, 64, 1), waves(64, 64, 2)
    assert network(x, x).abs().max() == 0
    close(network(x, y), network(y, x))
    expected = torch.zeros(2)
    maps = zip(network.net(network.scaling_layer(x)), network.net(network.scaling_layer(y)))  # noqa: B905
    for i, (a, b) in enumerate(maps):
        weights = network.get_submodule(f"lin{i}").model[1].weight
        squares = (nnf.normalize(a, dim=1) - nnf.normalize(b, dim=1)).square()
        expected += nnf.conv2d(squares, weights).mean(dim=(1, 2, 3))
    close(network(x, y), expected)


def test_perceptual_gradient():
    network = fill(PerceptualLoss())
    x, target = waves(32, 32, 1, num=1).requires_grad_(), network.features(waves(32, 32, 2, num=1))

    def loss(images):
        return network.distance(network.features(images), target).sum()

    (slope,) = torch.autograd.grad(loss(x), x)
    step = 0.02 * slope / slope.norm()
    with torch.no_grad():
        measured = (loss(x + step) - loss(x - step)) / 0.04
    assert measured.item() == pytest.approx(slope.norm().item(), rel=0.05)
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(flat), flat)
    assert slope.isfinite().all()


def test_perceptual_under_autocast():
    network = fill(PerceptualLoss())
    x, y = waves(64, 64, 1).requires_grad_(), waves(64, 64, 2)
    with torch.autocast("cpu", torch.bfloat16):
        distance = network(x, y)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, network(x, y), atol=0, rtol=0.02)
    (slope,) = torch.autograd.grad(distance.sum(), x)
    assert slope.isfinite().all()


def test_perceptual_names():
    assert [PerceptualLoss("vgg").name, PerceptualLoss("alex", False).name] == [
        "st-lpips-vgg",
        "lpips-alex",
    ]
    with pytest.raises(InputError, match="known are: alex, vgg"):
        PerceptualLoss("squeeze")
    with pytest.raises(InputError, match="load_lpips"):
        create("lpips-alex")


def alexnet_files(folder):
    """Torchvision's AlexNet with its classifier, and the linear layers of LPIPS."""
    plain = fill(PerceptualLoss("alex", shift_tolerant=False)).state_dict()
    trunk = {"classifier.1.weight": torch.zeros(2, 2)}
    for index, part in ((0, 1), (3, 2), (6, 3), (8, 4), (10, 5)):
        for kind in ("weight", "bias"):
            trunk[f"features.{index}.{kind}"] = plain[f"net.slice{part}.{index}.{kind}"].clone()
    heads = {key: value.clone() for key, value in plain.items() if key.startswith("lin")}
    torch.save(trunk, folder / "alexnet.pth")
    save_file(heads, folder / "alex.safetensors")
    return trunk, heads


def test_plain_lpips_from_files(tmp_path):
    trunk, heads = alexnet_files(tmp_path)
    network = load_lpips(tmp_path / "alexnet.pth", tmp_path / "alex.safetensors")

    def maps(x):
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor(
            [0.458, 0.448, 0.450]
        )[:, None, None]
        settings = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}
        for index, (stride, padding) in settings.items():
            if index in (3, 6):
                x = nnf.max_pool2d(x, 3, 2)
            weight, bias = (trunk[f"features.{index}.{kind}"] for kind in ("weight", "bias"))
            x = nnf.relu(nnf.conv2d(x, weight, bias, stride, padding))
            yield nnf.normalize(x, dim=1)

    x, y = waves(64, 64, 1), waves(64, 64, 2)
    expected = sum(
        nnf.conv2d((a - b).square(), heads[f"lin{i}.model.1.weight"]).mean(dim=(1, 2, 3))
        for i, (a, b) in enumerate(zip(maps(x), maps(y), strict=True))
    )
    close(network(x, y), expected)


def test_plain_lpips_refuses_other_files(tmp_path):
    alexnet_files(tmp_path)
    with pytest.raises(WeightsError, match="does not fit"):
        load_lpips(tmp_path / "alex.safetensors", tmp_path / "alexnet.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        load_lpips(tmp_path / "alexnet.pth", tmp_path / "alex.safetensors", net="vgg")


class Means(nn.Module):
    """A recogniser by the mean colour."""

    def forward(self, images):
        return nnf.normalize(images.mean(dim=(2, 3)))


def test_identity_loss_closed_form():
    loss = IdentityLoss(Means())
    red, green = torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256)
    red[:, 0], green[:, 1] = 0.5, 0.5
    torch.testing.assert_close(loss(red, green), torch.tensor([1.0]))
    torch.testing.assert_close(loss(red, red), torch.tensor([0.0]))
    torch.testing.assert_close(loss(red, -red), torch.tensor([2.0]))
    torch.testing.assert_close(loss(red, red + green), torch.tensor([1 - 1 / math.sqrt(2)]))


def test_arcface_file_and_crop(tmp_path):
    state = ArcFace().state_dict()
    # A file of an old PyTorch version has no counters.
    state = {key: value for key, value in state.items() if "num_batches" not in key}
    torch.save(state, tmp_path / "model_ir_se50.pth")
    network = load_arcface(tmp_path / "model_ir_se50.pth")
    assert sum(value.numel() for value in network.parameters()) == 43_797_696
    x = waves(256, 256, 1, num=1)
    outside = x.clone()
    outside[:, :, :35], outside[:, :, 223:], outside[..., :32], outside[..., 220:] = 1, 1, 1, 1
    inside = x.clone()
    inside[:, :, 35, 32] = 1
    one, same, other = network(torch.cat((x, outside, inside)))
    torch.testing.assert_close(one.norm(), torch.tensor(1.0))
    close(one, same)
    assert not torch.equal(one, other)
    with pytest.raises(InputError, match="256,256"):
        network(x[..., :112, :112])
    del state["output_layer.3.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(WeightsError, match=r"output_layer\.3\.weight"):
        load_arcface(tmp_path / "cut.pth")


def test_moco_file(tmp_path):
    source = MoCo()
    # ResNet-50 has 25,557,032 parameters, 2,049,000 of them in its classifier.
    assert sum(value.numel() for value in source.parameters()) == 25_557_032 - 2_049_000
    state = {f"module.encoder_q.{key}": value for key, value in source.state_dict().items()}
    state["module.encoder_q.fc.0.weight"] = torch.zeros(1)
    state["module.encoder_k.conv1.weight"] = torch.zeros(1)
    torch.save({"epoch": 800, "arch": "resnet50", "state_dict": state}, tmp_path / "moco.pt")
    network = load_moco(tmp_path / "moco.pt")
    x = waves(256, 256, 1, num=1)
    features = network(x)
    assert features.shape == (1, 2048)
    close(features, source(x))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1))
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="encoder_q"):
        load_moco(tmp_path / "other.pt")


def compensation(num=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(num, 4, 512, generator=random)
    features = torch.randn(num, 8, 4, 4, generator=random)
    return Compensation(latents, latents + 0.5, features, features - 0.25)


def test_joint_loss_of_the_paper():
    x = waves(256, 256, 1)
    y = (0.8 * x + 0.1).requires_grad_()
    identity = IdentityLoss(Means())
    perceptual = fill(PerceptualLoss())
    total, terms = JointLoss(PRESETS["paper"], perceptual, identity)(y, x, compensation())
    expected = {
        "l2": (x - y).square().mean(),
        "perceptual": perceptual(y, x).mean(),
        "identity": identity(y, x).mean(),
        "edit_latents": torch.tensor(0.5),
        "edit_features": torch.tensor(0.25),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        close(terms[name], value)
    torch.testing.assert_close(
        total,
        expected["l2"]
        + 0.8 * expected["perceptual"]
        + 0.2 * expected["identity"]
        + 0.5 * (0.5 + 0.25),
    )
    assert total.requires_grad
    assert not any(term.requires_grad for term in terms.values())


def test_editing_loss_of_the_published_code():
    pair = compensation()
    loss = JointLoss(PRESETS["published"])
    terms = loss.editing(pair)
    features = nnf.mse_loss(pair.new_features, pair.features)
    latents = nnf.mse_loss(pair.new_latents, pair.latents)
    torch.testing.assert_close(loss.weigh(terms).mean(), 0.5 * (0.8 * features + 0.2 * latents))


def test_joint_loss_leaves_out_what_is_not_asked_for():
    x, y = waves(64, 64, 1), waves(64, 64, 2)
    perceptual = fill(PerceptualLoss())
    loss = JointLoss(LossWeights(perceptual=0.0, identity=0.2), perceptual, None)
    total, terms = loss(y, x)
    assert list(terms) == ["l2"]
    torch.testing.assert_close(total, (x - y).square().mean())


def test_discrepancy_term():
    images, initial = torch.full((1, 3, 4, 4), 0.2), torch.full((1, 3, 4, 4), 0.2)
    predicted = torch.full((1, 3, 4, 4), -0.5)  # where nothing was lost
    w, f = torch.zeros(1, 1, 512), torch.zeros(1, 1, 1, 1)
    loss = JointLoss(LossWeights(edit_latents=0, edit_features=0, discrepancy=2.0))
    pair = Compensation(w, w, f, f, initial, predicted)
    with pytest.raises(InputError, match="needs the images"):
        loss.editing(pair)
    terms = loss.editing(pair, images)
    assert list(terms) == ["discrepancy"]
    torch.testing.assert_close(loss.weigh(terms), torch.tensor([1.0]))


def test_kept_target_gives_the_same_loss():
    x, y = waves(256, 256, 1), waves(256, 256, 2)
    loss = JointLoss(PRESETS["e4e"], fill(PerceptualLoss()), IdentityLoss(Means()))
    close(loss(y, loss.target(x))[0], loss(y, x)[0])


def test_offset_norm():
    latents = torch.zeros(2, 3, 512)
    latents[0, 1, :2] = torch.tensor([3.0, 4.0])
    latents[0, 2, 0] = -2
    latents.requires_grad_()
    norm = offset_norm(latents)
    torch.testing.assert_close(norm, torch.tensor([7.0, 0.0]))
    (slope,) = torch.autograd.grad(norm.sum(), latents)
    assert slope.isfinite().all()


def test_adversarial_losses():
    zero, high = torch.zeros(4, 1), torch.full((4, 1), 3.0)
    torch.testing.assert_close(discriminator_loss(zero, zero), torch.tensor(2 * math.log(2)))
    torch.testing.assert_close(adversarial_loss(high), torch.tensor(math.log1p(math.exp(-3))))
    assert discriminator_loss(high, -high) < discriminator_loss(-high, high)


def test_r1_of_a_linear_discriminator_is_its_squared_norm():
    discriminator = nn.Linear(512, 1)
    real = torch.randn(5, 512, requires_grad=True)
    penalty = r1_penalty(discriminator(real), real)
    torch.testing.assert_close(penalty, discriminator.weight.square().sum())
    real = torch.randn(2, 512, requires_grad=True)
    network = LatentDiscriminator()
    r1_penalty(network(real), real).backward()
    assert network[0].weight.grad.abs().sum() > 0


def test_noise_autocorrelation():
    # A constant map correlates fully with its shifts: two terms of 1 at each of 32, 16 and 8.
    constant = torch.ones(1, 1, 32, 32)
    torch.testing.assert_close(noise_autocorrelation([constant]), torch.tensor(6.0))
    # Stripes along x: -1 across them, +1 along them; their averages vanish.
    stripes = constant.clone()
    stripes[..., ::2] = -1
    torch.testing.assert_close(noise_autocorrelation([stripes]), torch.tensor(2.0))
    white = torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    assert noise_autocorrelation([white]) < 0.01


def test_renormalised_noise():
    noise = torch.rand(1, 1, 16, 16) * 3 + 1
    renormalise_noise([noise])
    torch.testing.assert_close(noise.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(noise.square().mean(), torch.tensor(1.0))
