"""Ways to run a generator: each gives the images of the plain one."""

import copy
import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fakes import FakeInverter
from rounding import close
from sdic.cli import app
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError, WeightsError
from sdic.generators.mobile import MobileStyleGAN
from sdic.runtime import openvino
from sdic.runtime.allocator import tune_allocator
from sdic.runtime.backends import (
    BACKENDS,
    accelerate,
    accelerate_network,
    differentiable,
    resolve_device,
)
from sdic.runtime.delegating import CompiledGenerator, DelegatingGenerator, original
from tiny import tiny_generator

needs_openvino = pytest.mark.skipif(not openvino.is_available(), reason="needs openvino")


@pytest.fixture(scope="module")
def network():
    return tiny_generator(deep=True)


@pytest.fixture(scope="module")
def w_plus(network):
    return network.sample(2 * network.num_styles, seed=5).unflatten(0, (2, network.num_styles))


def small_generator(seed=0):
    """Two blocks and 8 rows, converted in no time."""
    network = MobileStyleGAN((4, 4), feature_block=0)
    torch.nn.init.normal_(network.constant, generator=torch.Generator().manual_seed(seed))
    return network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    return tmp_path / "openvino"


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    """An OpenVINO generator that has converted both halves, and the cache it did it in."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SDIC_CACHE", str(folder))
        generator = openvino.OpenVINOGenerator(network, threads=1)
        generator(generator.mean_latent.expand(1, network.num_styles, -1))
        yield generator, folder


def test_the_allocator_is_tuned_where_there_is_glibc():
    assert tune_allocator() == (platform.libc_ver()[0] == "glibc")


def test_the_allocator_leaves_other_systems_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", None)
    assert not tune_allocator()


def test_what_is_delegated(network):
    wrapped = CompiledGenerator(network)
    for name in ("name", "num_styles", "resolution", "feature_shape"):
        assert getattr(wrapped, name) == getattr(network, name)
    z = torch.randn(2, 512)
    assert torch.equal(wrapped.mapping(z), network.mapping(z))
    assert torch.equal(wrapped.mean_latent, network.mean_latent)
    assert original(wrapped) is network
    assert original(network) is network


def test_compiled_halves_are_the_plain_ones(network, w_plus, monkeypatch):
    compiled = []

    def remember(function):
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", remember)
    wrapped = accelerate(network, "compiled")
    assert compiled == ["to_features", "from_features"]
    assert torch.equal(wrapped(w_plus, 64), network(w_plus, 64))


@needs_openvino
def test_openvino_halves_equal_the_plain_ones(network, w_plus, graphs):
    generator, _ = graphs
    features = network.to_features(w_plus)
    close(generator.to_features(w_plus), features)
    image = generator.from_features(features, w_plus)
    assert image.shape == (2, 3, 256, 256)
    close(image, network.from_features(features, w_plus))
    # Two rows apart, so that a graph that ignored its inputs would be seen.
    assert (image[0] - image[1]).abs().max() > 1e-2


@needs_openvino
def test_results_do_not_share_memory_with_the_next_pass(w_plus, graphs):
    generator, _ = graphs
    first = generator.to_features(w_plus[:1])
    kept = first.clone()
    generator.to_features(w_plus[1:])
    assert torch.equal(first, kept)


@needs_openvino
def test_smaller_images_have_a_graph_of_their_own(network, w_plus, graphs):
    generator, folder = graphs
    small = generator.from_features(network.to_features(w_plus), w_plus, 64)
    close(small, network(w_plus, 64))
    names = {path.name.split("-", 2)[2] for path in (folder / "openvino").iterdir()}
    halves = ("to_features", "from_features_256", "from_features_64")
    assert names == {f"{half}.safetensors" for half in halves}
    with pytest.raises(InputError, match="Image size 100"):
        generator(w_plus, 100)


@needs_openvino
def test_maps_of_noise_are_kept_as_small_as_they_are(graphs):
    """In a sum with the bias, [1,8,256,256], the two of the last block would take 4 MB."""
    _, folder = graphs
    (path,) = (folder / "openvino").glob("*from_features_256*")
    assert path.stat().st_size < 1.3e6


@needs_openvino
def test_a_second_instance_does_not_convert_again(network, w_plus, graphs, monkeypatch):
    generator, folder = graphs
    expected = generator(w_plus)
    monkeypatch.setenv("SDIC_CACHE", str(folder))
    monkeypatch.setattr(openvino, "_convert", None)
    close(openvino.OpenVINOGenerator(network, threads=1)(w_plus), expected)


@needs_openvino
def test_other_weights_and_another_precision_have_other_graphs(w_plus, cache):
    network = small_generator()
    w_plus = w_plus[:, : network.num_styles]
    for made in (
        openvino.OpenVINOGenerator(network),
        openvino.OpenVINOGenerator(copy.deepcopy(network)),
        openvino.OpenVINOGenerator(small_generator(seed=1)),
        openvino.OpenVINOGenerator(network, "bf16"),
    ):
        made.to_features(w_plus)
    assert len(list(cache.iterdir())) == 3


@needs_openvino
@pytest.mark.parametrize("place", [0.0, 0.001, 0.5, 0.999])
def test_a_graph_with_one_wrong_bit_is_converted_anew(place, w_plus, cache):
    network = small_generator()
    w_plus = w_plus[:, : network.num_styles]
    expected = openvino.OpenVINOGenerator(network).to_features(w_plus)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    assert openvino.verify_graphs() == [(path.stem, True)]
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= 4
    path.write_bytes(damaged)
    assert openvino.verify_graphs() == [(path.stem, False)]
    close(openvino.OpenVINOGenerator(network).to_features(w_plus), expected)
    assert openvino.verify_graphs() == [(path.stem, True)]


@needs_openvino
def test_verify_tells_of_damaged_graphs(w_plus, cache):
    network = small_generator()
    openvino.OpenVINOGenerator(network).to_features(w_plus[:, : network.num_styles])
    (path,) = cache.iterdir()
    assert f"{path.stem}: whole" in CliRunner().invoke(app, ["weights", "verify"]).stdout
    path.write_bytes(path.read_bytes()[:-1])
    done = CliRunner().invoke(app, ["weights", "verify"])
    assert f"{path.stem}: damaged" in done.stdout
    assert isinstance(done.exception, WeightsError)
    assert "it will be converted anew" in str(done.exception)


@needs_openvino
@pytest.mark.parametrize("content", [b"", b"text", None])
def test_what_is_no_graph_is_converted_anew(content, w_plus, cache):
    """None is a whole file that holds no graph, as another version of OpenVINO might leave it."""
    network = small_generator()
    w_plus = w_plus[:, : network.num_styles]
    expected = openvino.OpenVINOGenerator(network).to_features(w_plus)
    (path,) = cache.iterdir()
    if content is None:
        openvino._write(path, b"no graph")
    else:
        path.write_bytes(content)
    close(openvino.OpenVINOGenerator(network).to_features(w_plus), expected)


@needs_openvino
def test_a_cache_that_cannot_be_written_is_told(w_plus, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path / "file" / "cache"))
    network = small_generator()
    with pytest.raises(InputError, match=r"Cannot write .* SDIC_CACHE"):
        openvino.OpenVINOGenerator(network).to_features(w_plus[:1, : network.num_styles])


SCRIPT = """
import socket, sys

def refuse(*args, **kwargs):
    print("network:", args)
    raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import torch
from sdic.runtime import openvino

module = openvino.import_openvino()
network = openvino.OpenVINONetwork(torch.nn.Conv2d(3, 4, 3))
assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)
assert "openvino_telemetry" not in sys.modules
model = module.convert_model(torch.nn.Linear(2, 2), example_input=torch.zeros(1, 2))  # a user's own
"""


@needs_openvino
def test_nothing_is_reported_to_anyone(tmp_path):
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"HOME": str(home), "SDIC_CACHE": str(cache)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "network:" not in done.stdout
    assert list(home.iterdir()) == []
    assert [path.name for path in cache.iterdir()] == ["openvino"]


class Pair(nn.Module):
    """Two inputs, two results."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x, y):
        return self.conv(x) + y, x.mean((2, 3))


@needs_openvino
@torch.no_grad()
def test_a_network_run_by_openvino_keeps_its_signature(cache):
    torch.manual_seed(0)
    network = Pair().eval()
    x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 8, 8)
    wrapped = accelerate_network(network, "openvino")
    assert wrapped.original is network
    for one, other in zip(wrapped(x, y), network(x, y), strict=True):
        close(one, other)
    assert len(list(cache.glob("network-*"))) == 1
    half = accelerate_network(network, "openvino-bf16")
    close(half(x, y)[0], network(x, y)[0], 0.02)
    single = accelerate_network(network.conv, "openvino")
    close(single(x), network.conv(x))


def test_only_openvino_takes_networks_over_and_only_those_with_weights():
    network = Pair()
    assert accelerate_network(network, "eager") is network
    assert accelerate_network(network, "compiled") is network
    rule = nn.Identity()
    assert accelerate_network(rule, "openvino") is rule


class FixedGraphs(DelegatingGenerator):
    """Halves that know nothing of weights that changed after they were made, as graphs do."""

    def to_features(self, w_plus):
        return self.original.to_features(w_plus)

    def from_features(self, features, w_plus, size=None):
        return 0 * self.original.from_features(features, w_plus, size)


def test_weights_that_a_method_changed_are_used_under_any_backend(network, w_plus):
    plain = FakeInverter(network)
    inversion = plain.invert(torch.zeros(1, 3, 256, 256))
    changed = {"to_image.weight": 2 * network.to_image.weight}
    inversion = replace(inversion, weights=changed)
    edit = Edit.of(Direction("turn", torch.linspace(-1, 1, 512), "mobile"), 1.0)
    expected = plain.synthesize(inversion, edit, 64)
    assert torch.equal(FakeInverter(FixedGraphs(network)).synthesize(inversion, edit, 64), expected)
    unchanged = plain.synthesize(replace(inversion, weights={}), edit, 64)
    assert (expected - unchanged).abs().max() > 0.05


def test_the_choice_of_a_backend(network, monkeypatch):
    monkeypatch.setattr(openvino, "is_available", lambda: False)
    assert accelerate(network) is network
    assert accelerate(network, "eager") is network
    with pytest.raises(InputError, match=r"pip install 'sdic\[fast\]'"):
        accelerate(network, "openvino")
    with pytest.raises(InputError, match=f"choose one of: {', '.join(BACKENDS)}"):
        accelerate(network, "tensorrt")


@needs_openvino
def test_a_descent_follows_the_plain_generator_or_one_in_bf16(network, w_plus):
    assert differentiable(network) is network
    assert differentiable(openvino.OpenVINOGenerator(network)) is network
    before = network(w_plus, 64)
    guide = differentiable(openvino.OpenVINOGenerator(network, "bf16"))
    latents = w_plus.clone().requires_grad_()
    images = guide(latents, 64)
    assert images.dtype == torch.bfloat16
    assert (images.float() - before).abs().mean() < 0.02
    images.float().square().mean().backward()
    assert latents.grad is not None
    assert torch.equal(network(w_plus, 64), before)  # the generator itself stays as it is


def test_auto_is_openvino_for_the_mobile_generator_on_a_cpu(network):
    assert isinstance(accelerate(network), openvino.OpenVINOGenerator)


def test_auto_is_a_device_for_all_that_takes_one(network, monkeypatch):
    monkeypatch.setattr("sdic.runtime.backends.resolve_device", lambda device: "meta")
    assert accelerate(copy.deepcopy(network), "eager", "auto").mean_latent.is_meta
    assert accelerate_network(nn.Linear(1, 1), "eager", "auto").weight.is_meta
    with pytest.raises(InputError, match="runs on the CPU"):
        accelerate(network, "openvino", "auto")


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == resolve_device("cpu") == "cpu"
    for device in ("cuda", "mps", "tpu", "", "cuda:0"):
        with pytest.raises(InputError, match=f"The device '{device}' is not there; there is: cpu"):
            resolve_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device() == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    for device in ("cuda:2", "cuda:x"):
        with pytest.raises(InputError, match="is not there; there is: cuda, cpu"):
            resolve_device(device)
