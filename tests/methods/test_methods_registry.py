"""The shelf of methods: found by name, built on any generator, refused with a reason."""

import pytest
import torch
from torch import nn

from sdic import methods
from sdic.editing import library
from sdic.encoders.compact import CompactEncoder
from sdic.errors import InputError, WeightsError
from sdic.methods.base import Inverter
from sdic.methods.e4e import E4E
from sdic.methods.sdic import SDIC, EditFirstSDIC
from sdic.methods.sdic.carry_over import Addition
from sdic.methods.sdic.compact import CompactDICN, CompactDIPN
from sdic.methods.sdic.compact_transfer import CompactTransfer
from sdic.runtime.delegating import CompiledGenerator
from tiny import tiny_generator

RULES = {
    "sdic-eq6": (0.0, SDIC),
    "sdic-release": (0.7, SDIC),
    "sdic-edit-first": (0.0, EditFirstSDIC),
}
PTIS = {"pti", "pti-locality", "pti-published"}
OPTIMISING = {"optimisation-w", "optimisation-w+", "optimisation-f"} | PTIS


@pytest.fixture(scope="module")
def network():
    return tiny_generator()


@pytest.fixture(scope="module")
def trained(network):
    """Files of weights as the package ships them, with random numbers in fp16."""
    torch.manual_seed(0)
    encoder = CompactEncoder(network.num_styles)
    parts = {
        "dipn": CompactDIPN(),
        "dicn": CompactDICN(network.num_styles, 8),
        "transfer": CompactTransfer(8),
    }

    def under(name, module):
        return {f"{name}.{key}": value.half() for key, value in module.state_dict().items()}

    tensors: dict[str, torch.Tensor] = {}
    for name, part in parts.items():
        tensors |= under(name, part)
    return {"encoder-mobile": under("encoder", encoder), "sdic-mobile": tensors}


@pytest.fixture
def shelf(monkeypatch, trained):
    monkeypatch.setattr("sdic.weights.load", lambda name: dict(trained[name]))
    monkeypatch.setattr("sdic.losses.perceptual.create", lambda *_: nn.Identity())


def test_names():
    assert set(methods.names()) == {"sdic", *RULES, "e4e"} | OPTIMISING
    assert methods.DEFAULT in methods.names()
    for name in methods.names():
        method = methods.get(name)
        assert (method.name, method.iterates) == (name, name in OPTIMISING)
        assert method.summary


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_built_on_a_generator(name, network, shelf):
    inverter = methods.create(name, network, backend="eager")
    assert isinstance(inverter, Inverter)
    assert inverter.name == name
    assert inverter.iterates == methods.get(name).iterates
    assert inverter.generator is network
    for part in inverter.networks.values():
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())


@pytest.mark.parametrize("name", methods.names())
def test_methods_that_optimise_get_the_generator_with_gradients(name, network, shelf):
    inverter = methods.create(name, network, backend="compiled")
    assert isinstance(inverter.generator, CompiledGenerator) == (name not in OPTIMISING)
    if name in OPTIMISING:
        assert inverter.guide is network


def test_trained_weights_reach_their_networks(network, shelf, trained):
    inverter = methods.create("sdic", network, backend="eager")
    assert isinstance(inverter, SDIC)
    parts = {"dipn": inverter.dipn, "dicn": inverter.dicn, "transfer": inverter.carry_over.transfer}
    for name, part in parts.items():
        for key, value in part.state_dict().items():
            assert torch.equal(value, trained["sdic-mobile"][f"{name}.{key}"].float())


def test_how_the_methods_edit(network, shelf):
    for name, (release, kind) in RULES.items():
        inverter = methods.create(name, network, backend="eager")
        assert type(inverter) is kind
        assert isinstance(inverter.carry_over.transfer, Addition)
        assert (inverter.carry_over.release, inverter.carry_over.gains) == (release, ())
    trained = methods.create("sdic", network, backend="eager")
    assert isinstance(trained.carry_over.transfer, CompactTransfer)
    assert trained.carry_over.release > 0
    ((direction, gain),) = trained.carry_over.gains
    assert direction == library.get("age")
    assert gain > 1


def test_damaged_trained_weights_are_told(network, shelf, monkeypatch, trained):
    partial = {key: value for key, value in trained["sdic-mobile"].items() if "stem" not in key}
    files = {**trained, "sdic-mobile": partial}
    monkeypatch.setattr("sdic.weights.load", lambda name: dict(files[name]))
    with pytest.raises(WeightsError, match=r"sdic-mobile: dipn .*2 missing: stem\.weight"):
        methods.create("sdic", network, backend="eager")


def test_unknown_keys(network):
    for use in (methods.get, methods.create):
        with pytest.raises(InputError, match="There is no method 'magic'; known are: sdic,"):
            use("magic")
    with pytest.raises(InputError, match="There is no generator 'biggan'"):
        methods.create("e4e", "biggan")
    with pytest.raises(InputError, match="There is no backend 'fast'"):
        methods.create("e4e", network, backend="fast")


def test_a_generator_without_trained_networks(shelf):
    network = tiny_generator()
    network.name = "cars"
    with pytest.raises(InputError, match="No networks were trained for the generator 'cars'"):
        methods.create("sdic", network, backend="eager")


def test_a_checkpoint_of_another_method_is_refused(monkeypatch, network):
    published = E4E(network, nn.Linear(1, 1))
    monkeypatch.setattr("sdic.methods.official.load_official", lambda *_: published)
    with pytest.raises(InputError, match=r"e4e\.pt is a file of the method 'e4e', not 'sdic'"):
        methods.create("sdic", checkpoint="e4e.pt", backend="eager")
    read = methods.create("e4e", network.name, checkpoint="e4e.pt", backend="eager")
    assert read.encoder is published.encoder
    for other in ("stylegan2", tiny_generator()):  # the file brings its own
        with pytest.raises(InputError, match=r"e4e\.pt brings its own generator, 'mobile'"):
            methods.create("e4e", other, checkpoint="e4e.pt", backend="eager")


def test_a_checkpoint_that_is_not_there(tmp_path):
    missing = tmp_path / "missing.pt"
    for name in ("sdic", "e4e", "pti"):
        with pytest.raises(InputError, match=f"no checkpoint file at {missing}"):
            methods.create(name, "stylegan2", checkpoint=missing)
