"""The mobile generator: its transform, its rows, and the packaged graph in its own runtime."""

import zipfile

import pytest
import torch
from torch.nn import functional as nnf

from sdic import generators, weights
from sdic.generators.mobile import MobileStyleGAN, haar, inverse_haar
from sdic.runtime import openvino
from sdic.weights.client import download
from tiny import tiny_generator


@pytest.fixture(scope="module")
def network():
    return tiny_generator(deep=True)


@pytest.fixture(scope="module")
def w_plus(network):
    return network.sample(network.num_styles, seed=3)[None]


def test_haar_and_its_inverse():
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    bands = haar(x)
    assert bands.shape == (2, 12, 4, 3)
    assert torch.allclose(inverse_haar(bands), x, atol=1e-6)
    assert torch.allclose(haar(inverse_haar(bands)), bands, atol=1e-6)
    # The transform is orthonormal, and its low band is twice the area average.
    assert bands.square().sum() == pytest.approx(float(x.square().sum()), rel=1e-5)
    assert torch.allclose(bands[:, :3], 2 * nnf.avg_pool2d(x, 2), atol=1e-6)


def test_details_of_each_channel_lie_together():
    """Channel order of the packaged graph: all low bands, then three details per channel."""
    bands = torch.zeros(1, 8, 1, 1)
    bands[0, 2 + 3 * 1 + 0] = 2  # the vertical detail of the second channel
    pixels = inverse_haar(bands)
    assert torch.equal(pixels[0, 1], torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    assert torch.equal(pixels[0, 0], torch.zeros(2, 2))


def test_full_size_has_the_packaged_shape():
    with torch.device("meta"):
        network = MobileStyleGAN()
    assert (network.num_styles, network.resolution) == (23, 1024)
    assert network.feature_shape == (512, 64, 64)


def test_rows_drive_what_the_docstring_says(network, w_plus):
    image = network(w_plus)
    blocks = len(network.blocks)
    pruned = {3 * i for i in range(1, blocks)} | {network.num_styles - 1} - {3 * blocks}
    for row in range(network.num_styles):
        moved = w_plus.clone()
        moved[:, row] += 1
        acts = (network(moved) - image).abs().max() > 1e-5
        assert bool(acts) == (row not in pruned), row


@pytest.mark.network
def test_equals_the_packaged_graph_in_its_own_runtime(tmp_path):
    if not openvino.is_available():
        pytest.skip("needs openvino")
    archive = download(weights.get("mobile").archive, tmp_path, progress=False)
    with zipfile.ZipFile(archive) as package:
        package.extractall(tmp_path)
    folder = tmp_path / "random_face" / "data"
    core = openvino.import_openvino().Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    mapping, synthesis = (
        core.compile_model(folder / f"{name}Network.xml", "CPU", settings)
        for name in ("Mapping", "Synthesis")
    )
    network = generators.create("mobile")
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(4))
    w = torch.from_numpy(mapping(z.numpy())[0].copy())
    assert (network.mapping(z) - w).abs().max() < 1e-4
    graph_image = torch.from_numpy(synthesis(w.numpy())[0])
    image = network(network.broadcast(w))
    assert image.shape == graph_image.shape == (1, 3, 1024, 1024)
    assert (image - graph_image).abs().max() < 1e-3


@pytest.mark.parametrize(("layer", "shape"), [(5, (512, 32, 32)), (9, (256, 128, 128))])
def test_the_layer_of_the_features_can_be_chosen(layer, shape, monkeypatch):
    plain = MobileStyleGAN()
    monkeypatch.setattr("sdic.generators.weights.load", lambda name: plain.state_dict())
    split = generators.create("mobile", feature_layer=layer)
    assert split.feature_shape == shape
    latents = split.broadcast(split.mean_latent[None])
    assert split.to_features(latents).shape == (1, *shape)
