"""StyleGAN2 against the published numbers and against a direct reading of its equations."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as nnf

import parity
from rounding import close
from sdic import generators
from sdic.errors import InputError, WeightsError
from sdic.generators.stylegan2 import StyleGAN2, layer_of_side
from tiny import tiny_stylegan2

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def latents(network, num=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(num, network.num_styles, 512, generator=random)


# A direct reading of the papers: one kernel for each sample, zero insertion, filters, in float64.


def reference_filter(x):
    """Filter each channel by [1,3,3,1] x [1,3,3,1] / 64 without padding."""
    channels = x.shape[1]
    rows = TAPS.to(x).view(1, 1, 4, 1).expand(channels, 1, 4, 1)
    x = nnf.conv2d(x, rows, groups=channels)
    return nnf.conv2d(x, rows.transpose(2, 3), groups=channels)


def insert_zeros(x):
    n, c, h, w = x.shape
    wide = x.new_zeros(n, c, 2 * h, 2 * w)
    wide[:, :, ::2, ::2] = x
    return wide


def reference_affine(state, key, w):
    return w @ state[f"{key}.weight"].t() / math.sqrt(512) + state[f"{key}.bias"]


def reference_layer(state, key, x, w, noise, up):
    style = reference_affine(state, f"{key}.conv.modulation", w)
    kernels = state[f"{key}.conv.weight"] / math.sqrt(9 * style.shape[1])
    kernels = kernels * style[:, None, :, None, None]
    kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    if up:
        # A transposed convolution is a convolution of the zero-inserted map with a flipped kernel.
        x, kernels = insert_zeros(x), kernels.flip(3, 4)
    pad = (2, 1, 2, 1) if up else (1, 1, 1, 1)
    x = torch.cat([nnf.conv2d(nnf.pad(a[None], pad), k) for a, k in zip(x, kernels, strict=True)])
    if up:
        x = 4 * reference_filter(nnf.pad(x, (1, 1, 1, 1)))
    x = x + state[f"{key}.noise.weight"] * noise + state[f"{key}.activate.bias"][:, None, None]
    return nnf.leaky_relu(x, 0.2) * math.sqrt(2)


def reference_rgb(state, key, x, w, skip):
    style = reference_affine(state, f"{key}.conv.modulation", w)
    kernel = state[f"{key}.conv.weight"][0, :, :, 0, 0] / math.sqrt(x.shape[1])
    image = torch.einsum("nchw,nc,oc->nohw", x, style, kernel) + state[f"{key}.bias"]
    if skip is None:
        return image
    return image + 4 * reference_filter(nnf.pad(insert_zeros(skip), (2, 1, 2, 1)))


def reference(network, w_plus):
    """Maps of all layers, and the image."""
    state = {key: value.double() for key, value in network.state_dict().items()}
    x = state["input.input"].expand(len(w_plus), -1, -1, -1)
    maps, image = [], None
    for i in range(network.num_layers):
        key = f"convs.{i - 1}" if i else "conv1"
        x = reference_layer(state, key, x, w_plus[:, i], state[f"noises.noise_{i}"], i % 2 == 1)
        maps.append(x)
        if i % 2 == 0:
            head = f"to_rgbs.{i // 2 - 1}" if i else "to_rgb1"
            image = reference_rgb(state, head, x, w_plus[:, i + 1], image)
    return maps, image


@pytest.mark.parametrize("num", [1, 3])
def test_equals_a_direct_reading_of_the_papers(num):
    network = tiny_stylegan2(64)
    w_plus = latents(network, num)
    maps, image = reference(network, w_plus.double())
    for layer in (1, 4, 7, 8):
        split = tiny_stylegan2(64, layer)
        close(split.to_features(w_plus), maps[layer].float())
    close(network(w_plus), image.float())


def test_mapping_equals_a_direct_reading():
    network = tiny_stylegan2(32, 5)
    z = torch.randn(4, 512, generator=torch.Generator().manual_seed(0))
    x = z.double() / z.double().square().mean(1, keepdim=True).sqrt()
    for i in range(1, 9):
        layer = network.style[i]
        x = x @ (0.01 / math.sqrt(512) * layer.weight.double()).t() + 0.01 * layer.bias.double()
        x = nnf.leaky_relu(x, 0.2) * math.sqrt(2)
    close(network.mapping(z), x.float())


@pytest.mark.parametrize("layer", [1, 2, 5, 7, 8, 9, 10])
def test_splits_at_any_layer(layer):
    network = tiny_stylegan2(128, layer)
    w_plus = latents(network)
    features, skip = network.first_half(w_plus)
    assert features.shape[1:] == network.feature_shape
    assert skip.shape[2] == features.shape[2] // 2
    whole = network(w_plus)
    close(whole, tiny_stylegan2(128, 7)(w_plus))
    assert torch.equal(network.from_features(features, w_plus), whole)
    assert torch.equal(network.second_half(features, skip, w_plus), whole)


def test_the_skip_comes_from_the_latents_of_the_pass():
    network = tiny_stylegan2()
    w_plus = latents(network, 1)
    features = network.to_features(w_plus)
    moved = w_plus.clone()
    moved[:, 0] += 1
    assert (network.from_features(features, moved) - network(w_plus)).abs().max() > 1e-3


def test_features_of_the_caller_are_left_alone():
    network = tiny_stylegan2()
    w_plus = latents(network, 1)
    features = network.to_features(w_plus)
    before = features.clone()
    network.from_features(features, w_plus)
    assert torch.equal(features, before)


def test_random_noise_comes_from_the_generator_given():
    network = tiny_stylegan2()
    w_plus = latents(network, 2)

    def draw(seed):
        return network(w_plus, noise=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert (draw(1) - draw(2)).abs().max() > 1e-3
    assert (draw(1) - network(w_plus)).abs().max() > 1e-3


def test_gradients_equal_finite_differences():
    network = tiny_stylegan2(32, 5).double()
    w_plus = latents(network, 1).double().requires_grad_()
    features = network.to_features(w_plus).detach().requires_grad_()

    def loss(w, f):
        return network.from_features(f, w).square().mean()

    loss(w_plus, features).backward()
    random = torch.Generator().manual_seed(3)
    for tensor in (w_plus, features):
        step = torch.randn(tensor.shape, generator=random, dtype=torch.float64) * 1e-6
        with torch.no_grad():
            tensor += step
            up = loss(w_plus, features)
            tensor -= 2 * step
            down = loss(w_plus, features)
            tensor += step
        assert float(up - down) == pytest.approx(float(2 * (tensor.grad * step).sum()), rel=1e-5)


def test_the_pass_for_one_sample_equals_that_with_gradients():
    network = tiny_stylegan2()
    w_plus = latents(network, 1)
    close(network(w_plus), network(w_plus.requires_grad_()).detach())


def test_runs_in_half_the_precision():
    network = tiny_stylegan2()
    w_plus = latents(network)
    image = network(w_plus)
    coarse = network.bfloat16()(w_plus)
    assert coarse.dtype == torch.bfloat16
    assert (coarse.float() - image).abs().mean() < 0.05 * image.std()


# Published layouts and numbers


@pytest.mark.parametrize(("kind", "resolution"), [("face", 1024), ("cars", 512)])
def test_state_dict_has_the_published_keys_and_shapes(kind, resolution):
    with torch.device("meta"):
        network = StyleGAN2(resolution)
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert shapes == parity.official_keys()[kind]["decoder"]
    assert network.num_styles == {"face": 18, "cars": 16}[kind]
    assert network.feature_shape == (512, 64, 64)


@torch.no_grad()
def published(keep, resolution=1024):
    """The filled face network; layers for which keep(key) is false stay zero."""
    network = StyleGAN2(resolution)
    state = network.state_dict()
    state.update(parity.fill({k: v for k, v in state.items() if keep(k)}, "decoder."))
    network.load_state_dict(state)
    return network


def below_the_split(key):
    """Keys of the layers up to F (`convs.6`), so that the rest need not be drawn."""
    parts = key.split(".")
    numbers = {"convs": 6, "to_rgbs": 2}
    return parts[0] in ("input", "conv1", "to_rgb1") or (
        (parts[0] in numbers and int(parts[1]) <= numbers[parts[0]])
        or (parts[0] == "noises" and int(parts[1].removeprefix("noise_")) <= 7)
    )


def test_features_equal_the_published_numbers():
    # The layers up to F are the same at any resolution; 64 is the least that has them.
    network = published(below_the_split, 64)
    golden = parity.golden()
    features = network.to_features(golden["codes"][:, : network.num_styles])
    assert (features[:, golden["channels"]] - golden["G7.ch"]).abs().max() < 1e-4
    assert (features.mean((2, 3)) - golden["G7.mean"]).abs().max() < 1e-4
    assert (features.std((2, 3), correction=0) - golden["G7.std"]).abs().max() < 1e-4


@pytest.mark.slow
def test_images_equal_the_published_numbers():
    network = published(lambda key: not key.startswith("style."))
    golden = parity.golden()
    image = network(golden["codes"])
    assert (image[parity.CROP] - golden["init.crop"]).abs().max() < 2e-4
    assert (image.mean((2, 3)) - golden["init.mean"]).abs().max() < 2e-4
    assert (nnf.avg_pool2d(image, 16) - golden["init.area64"]).abs().max() < 5e-3


@pytest.mark.slow
def test_cars_run():
    network = StyleGAN2(512)
    network.load_state_dict(parity.fill(network.state_dict(), "decoder."))
    w_plus = network.broadcast(network.sample(1, 0))
    assert w_plus.shape == (1, 16, 512)
    image = network(w_plus)
    assert image.shape == (1, 3, 512, 512)
    assert image.std() > 0.1


# Checkpoints


def checkpoints(network, mean):
    """One network in all layouts that are published or saved by users."""
    state = network.state_dict()
    decoder = {f"decoder.{key}": value for key, value in state.items()}
    other = {"encoder.x": torch.ones(1), "id_loss.y": torch.ones(1)}
    rows = mean.expand(network.num_styles, -1)
    return {
        "generator": {"g_ema": state, "latent_avg": mean},
        "sdic": {"state_dict": decoder | other, "latent_avg": rows, "opts": {}},
        "bare": {**state, "latent_avg": mean},
    }


@pytest.mark.parametrize("layout", ["generator", "sdic", "bare"])
def test_loads_every_layout(tmp_path, layout):
    network = tiny_stylegan2(64, 5, width=4)
    mean = torch.linspace(-1, 1, 512)
    torch.save(checkpoints(network, mean)[layout], tmp_path / "model.pt")
    loaded = generators.create("stylegan2", tmp_path / "model.pt", feature_layer=5)
    assert torch.allclose(loaded.mean_latent, mean)
    assert (loaded.resolution, loaded.num_styles) == (64, 10)
    w_plus = latents(network)
    close(loaded(w_plus), network(w_plus))
    assert not any(p.requires_grad for p in loaded.parameters())


def test_loads_safetensors_and_computes_a_missing_mean(tmp_path):
    network = tiny_stylegan2(32, 5)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    loaded = generators.create("stylegan2", tmp_path / "model.safetensors", feature_layer=5)
    z = torch.randn(2000, 512, generator=torch.Generator().manual_seed(9))
    w = network.mapping(z)
    # The two means differ by about sqrt(1/2000 + 1/10000) standard deviations.
    error = (loaded.mean_latent - w.mean(0)) / w.std(0)
    assert 0 < error.square().mean().sqrt() < 0.05


def test_foreign_and_partial_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    state = tiny_stylegan2(32, 5).state_dict()

    def refused(content, match):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=match):
            generators.create("stylegan2", path, feature_layer=5)

    refused({"weight": torch.ones(1)}, r"holds no StyleGAN2 generator.*found weight")
    refused({"g_ema": 5}, r"holds no StyleGAN2 generator.*found nothing")
    refused({"g_ema": {"input.input": torch.ones(1, 4, 4, 4)}}, "only a part")
    missing = {k: v for k, v in state.items() if k != "convs.1.activate.bias"}
    refused({"g_ema": missing}, r"1 missing: convs\.1\.activate\.bias")
    refused({"g_ema": {**state, "extra": torch.ones(1)}}, "1 surplus: extra")


def test_wrong_arguments_are_told(tmp_path):
    with pytest.raises(InputError, match="power of two"):
        StyleGAN2(1000)
    with pytest.raises(InputError, match=r"no feature layer 9 .*expected 1 to 8"):
        StyleGAN2(64, 9, 256, 8)
    with pytest.raises(InputError, match="without weights"):
        generators.create("stylegan2")
    with pytest.raises(InputError, match="no checkpoint file"):
        generators.create("stylegan2", tmp_path / "absent.pt")
    with pytest.raises(InputError, match="choose 'stylegan2'"):
        generators.create("mobile", tmp_path / "some.pt")
    with pytest.raises(InputError, match="layer 8; choose one of: 1, 3, 5, 7, 9, 11, 13"):
        generators.create("mobile", feature_layer=8)
    with pytest.raises(InputError, match="known are: mobile, stylegan2"):
        generators.create("biggan")


def test_layer_of_side():
    sides = [8, 16, 32, 64, 128, 256, 512, 1024]
    assert [StyleGAN2.side(layer_of_side(side)) for side in sides] == sides
    assert [layer_of_side(side) for side in (32, 64, 128, 256)] == [5, 7, 9, 11]
    for side in (4, 0, -64, 48):
        with pytest.raises(InputError, match="power of two"):
            layer_of_side(side)


def test_filling_rule():
    """First values of the draw, as the golden numbers were made with."""
    values = parity.normal("decoder.convs.6.conv.weight", (20,))[:4]
    assert np.allclose(values, [-0.356739817, -1.06070156, -0.150111541, -0.39813391], atol=1e-6)
    assert float(parity.images(1)[0, 1, 100, 37]) == pytest.approx(-0.8656067, abs=1e-6)
