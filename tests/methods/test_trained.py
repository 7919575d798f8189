"""Files of `sdic train export` become methods again, with the encoder that they stand on."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sdic import methods
from sdic.editing.direction import Direction, Edit
from sdic.encoders.compact import CompactEncoder
from sdic.errors import InputError, WeightsError
from sdic.methods.e4e import E4E
from sdic.methods.optimisation import Optimisation
from sdic.methods.sdic import SDIC
from sdic.methods.sdic.carry_over import Addition
from sdic.methods.sdic.compact import CompactDICN, CompactDIPN
from sdic.methods.sdic.compact_transfer import CompactTransfer
from sdic.training import recipe as recipes
from sdic.weights import exported
from tiny import tiny_generator

SMALL = {
    "dipn": {"channels": 16, "blocks": 1, "cell": 8},  # F is 32x32
    "dicn": {"channels": 16, "blocks": 1, "fine_channels": 4, "fine_blocks": 1},
    "transfer": {"channels": 8, "fine_channels": 4},
}


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


@pytest.fixture(autouse=True)
def shelf(monkeypatch, generator):
    monkeypatch.setattr("sdic.generators.create", lambda name, **options: generator)


@pytest.fixture(scope="module")
def parts(generator):
    torch.manual_seed(3)
    made = {
        "encoder": CompactEncoder(generator.num_styles, generator.mean_latent),
        "dipn": CompactDIPN(**SMALL["dipn"]),
        "dicn": CompactDICN(generator.num_styles, generator.feature_shape[0], **SMALL["dicn"]),
        "transfer": CompactTransfer(generator.feature_shape[0], **SMALL["transfer"]),
    }
    for name in ("dicn", "transfer"):
        for value in made[name].parameters():
            torch.nn.init.normal_(value, std=0.02)
    return made


def write(path, parts, task, **components):
    """A file as `sdic train export` writes it, of a shipped recipe with small networks."""
    names = {"encoder": ["encoder"], "compensation": ["dipn", "dicn"]}
    tensors = {
        f"{name}.{key}": value.half() if value.ndim > 1 else value
        for name in names.get(task, ["dipn", "dicn", "transfer"])
        for key, value in parts[name].state_dict().items()
    }
    table = recipes.load("sdic-compact").to_dict()
    table |= {"task": task, "components": {"options": SMALL} | components}
    metadata = {"format": exported.FORMAT, "step": "5", "recipe": json.dumps(table)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return path


def test_an_encoder_is_e4e(tmp_path, parts, generator):
    path = write(tmp_path / "e.safetensors", parts, "encoder")
    inverter = methods.create("e4e", checkpoint=path, backend="eager")
    assert isinstance(inverter, E4E)
    assert inverter.generator is generator
    wanted = parts["encoder"].to_w.weight.half().float()
    assert torch.equal(inverter.encoder.to_w.weight, wanted)
    with pytest.raises(InputError, match="is a file of the method 'e4e', not 'sdic'"):
        methods.create("sdic", checkpoint=path, backend="eager")


@pytest.mark.parametrize("place", ["elsewhere", "beside"])
def test_compensation_stands_on_its_encoder_and_edits_by_eq_6(tmp_path, parts, place):
    encoder = write(tmp_path / "e.safetensors", parts, "encoder")
    named = str(encoder) if place == "elsewhere" else "runs/on/another/machine/e.safetensors"
    path = write(tmp_path / "c.safetensors", parts, "compensation", encoder_weights=named)
    inverter = methods.open_checkpoint(path, backend="eager")
    assert isinstance(inverter, SDIC)
    assert isinstance(inverter.carry_over.transfer, Addition)
    assert (inverter.carry_over.release, inverter.carry_over.gains) == (0.0, ())
    assert not any(p.requires_grad for n in inverter.networks.values() for p in n.parameters())
    images = torch.zeros(1, 3, 256, 256)
    inversion = inverter.invert(images)
    assert not torch.equal(inversion.latents, inversion.base_latents)
    edit = Edit.of(Direction("up", torch.ones(512), inverter.generator.name), 0.1)
    assert torch.isfinite(inverter.synthesize(inversion, edit, 256)).all()


def test_an_encoder_of_the_registry_and_a_trained_transfer(tmp_path, parts, monkeypatch):
    tensors = {f"encoder.{key}": value for key, value in parts["encoder"].state_dict().items()}
    monkeypatch.setattr("sdic.weights.load", lambda name: tensors)
    named = "encoder-mobile"
    path = write(tmp_path / "t.safetensors", parts, "editing", encoder_weights=named)
    inverter = methods.create("sdic", checkpoint=path, backend="eager")
    assert isinstance(inverter.carry_over.transfer, CompactTransfer)
    assert inverter.carry_over.release > 0
    assert inverter.carry_over.gains == ()


def test_rules_of_editing_run_a_file_of_ones_own(tmp_path, parts):
    write(tmp_path / "e.safetensors", parts, "encoder")
    path = write(tmp_path / "t.safetensors", parts, "editing", encoder_weights="e.safetensors")
    for name, release in (("sdic-eq6", 0.0), ("sdic-release", 0.7), ("sdic-edit-first", 0.0)):
        inverter = methods.create(name, checkpoint=path, backend="eager")
        assert (inverter.name, inverter.carry_over.release) == (name, release)
        assert isinstance(inverter.carry_over.transfer, Addition)
    inversion = inverter.invert(torch.zeros(1, 3, 256, 256))
    assert (inversion.method, list(inversion.extras)) == ("sdic-edit-first", ["photo"])
    refiner = Optimisation(inverter.generator)
    with pytest.raises(InputError, match="'sdic-edit-first' cannot be refined"):
        refiner.refine(inversion, torch.zeros(1, 3, 256, 256), 1)


def test_shipped_weights_are_not_taken_from_the_folder_at_hand(tmp_path, monkeypatch):
    (tmp_path / "beard").mkdir()
    monkeypatch.chdir(tmp_path)
    assert exported.read("beard").networks
    save_file({"own.weight": torch.ones(1)}, "glasses")
    assert list(exported.read(Path("glasses")).networks) == ["own"]


def test_options_of_the_recipe_reach_the_generator(tmp_path, parts, generator, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "sdic.generators.create", lambda name, **options: asked.update(options) or generator
    )
    options = SMALL | {"generator": {"feature_layer": 5, "fused": True}}
    methods.open_checkpoint(
        write(tmp_path / "e.safetensors", parts, "encoder", options=options), backend="eager"
    )
    assert asked == {"feature_layer": 5}


def test_files_that_cannot_be_run_say_why(tmp_path, parts):
    path = write(tmp_path / "c.safetensors", parts, "compensation", encoder_weights="gone.st")
    with pytest.raises(WeightsError, match=r"stands on the encoder 'gone\.st'"):
        methods.open_checkpoint(path)
    path = write(tmp_path / "o.safetensors", parts, "encoder", colour="red")
    with pytest.raises(WeightsError, match="another version of sdic"):
        methods.open_checkpoint(path)
    write(tmp_path / "o.safetensors", parts, "encoder")
    options = SMALL | {"dipn": SMALL["dipn"] | {"channels": 8}}
    path = write(
        tmp_path / "w.safetensors",
        parts,
        "compensation",
        encoder_weights=str(tmp_path / "o.safetensors"),
        options=options,
    )
    with pytest.raises(WeightsError, match="dipn does not fit CompactDIPN"):
        methods.open_checkpoint(path)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        methods.open_checkpoint(torn)
    save_file({"a": torch.zeros(1)}, torn, {"format": exported.FORMAT, "recipe": "[1"})
    with pytest.raises(WeightsError, match=r"The recipe in .* cannot be read"):
        methods.open_checkpoint(torn)


def hostile(path, options=SMALL, tensors=None, **components):
    """An export of one tensor, whose recipe says what it likes."""
    recipe = {"task": "compensation", "components": {"options": options} | components}
    metadata = {"format": exported.FORMAT, "recipe": json.dumps(recipe)}
    save_file(tensors or {"dipn.stem.weight": torch.zeros(4)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("components", "sentence"),
    [
        ({"options": {"dipn": {"channels": 20_000, "cell": 8}}}, "dipn does not fit"),
        ({"options": {"dipn": {"channels": 10**18, "cell": 8}}}, "dipn does not fit"),
        ({"options": {"dipn": {"channels": 10**30, "cell": 8}}}, "dipn does not fit"),
        ({"options": {"dipn": {"blocks": 10**12, "cell": 8}}}, "fewer tensors than its options"),
        ({"options": {"dipn": {"channels": -4, "cell": 8}}}, "dipn does not fit"),
        ({"options": {"dipn": {"channels": "many", "cell": 8}}}, "dipn does not fit"),
        ({"options": {"dipn": {"channels": 1.5, "cell": 8}}}, "dipn does not fit"),
        ({"options": {"dipn": {"channels": None, "cell": 8}}}, "dipn does not fit"),
        ({"options": {"dipn": {"colour": 1, "cell": 8}}}, "dipn does not fit the component"),
        ({"options": {"dipn": {"cell": 0}}}, "cells of 0 pixels does not fit"),
        ({"options": {"dipn": {"cell": "x"}}}, "cells of x pixels does not fit"),
        ({"options": {"dipn": {"cell": 10**9}}}, "cells of 1000000000 pixels does not fit"),
        ({"options": {"dipn": [1]}}, r"options\.dipn is '\[1\]'; expected a table"),
        ({"options": {"generator": "fused"}}, "expected a table"),
        ({"options": "x"}, r"options is 'x'; expected a table"),
        ({"options": None}, "expected a table"),
        ({"parts": [1]}, "expected a table"),
        ({"parts": {"dipn": []}}, r"parts\.dipn is '\[\]'; expected a text"),
        ({"dipn": ["compact"]}, "expected a text"),
        ({"dipn": "large"}, "There is no dipn 'large'"),
        ({"encoder_weights": 7}, r"encoder_weights is '7'; expected a text"),
        ({"encoder_weights": "e\0"}, "stands on the encoder"),
        ({"generator": {}}, "expected a text"),
    ],
)
def test_a_recipe_asks_for_no_more_than_its_file_holds(
    tmp_path, parts, components, sentence, monkeypatch
):
    write(tmp_path / "e.safetensors", parts, "encoder")
    path = hostile(
        tmp_path / "h.safetensors", **({"encoder_weights": "e.safetensors"} | components)
    )
    taken = []
    make = torch.nn.modules.conv.Conv2d.__init__

    def watched(self, in_chs, *rest, **options):
        make(self, in_chs, *rest, **options)
        taken.append(self.weight.numel() if self.weight.device.type != "meta" else 0)

    monkeypatch.setattr("torch.nn.Conv2d.__init__", watched)
    with pytest.raises((WeightsError, InputError), match=sentence):
        methods.open_checkpoint(path, backend="eager")
    assert max(taken, default=0) < 10**6
    assert torch.is_grad_enabled()


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_tensors_without_numbers_are_refused(tmp_path, parts):
    write(tmp_path / "e.safetensors", parts, "encoder")
    void = {f"dipn.{key}": value for key, value in CompactDIPN(0, 0, 8).state_dict().items()}
    path = hostile(
        tmp_path / "h.safetensors",
        {"dipn": {"channels": 0, "blocks": 0, "cell": 8}},
        void,
        encoder_weights="e.safetensors",
    )
    with pytest.raises(WeightsError, match=r"holds no numbers in dipn\.stem"):
        methods.open_checkpoint(path, backend="eager")


def test_an_inversion_of_another_layer_is_refused(tmp_path, parts, generator):
    write(tmp_path / "e.safetensors", parts, "encoder")
    path = write(tmp_path / "c.safetensors", parts, "compensation", encoder_weights="e.safetensors")
    inverter = methods.open_checkpoint(path, backend="eager")
    inversion = inverter.invert(torch.zeros(1, 3, 256, 256))
    assert inversion.features is not None
    inversion.features = inversion.features[:, :, ::2, ::2]
    with pytest.raises(InputError, match="load the checkpoint that the inversion was made with"):
        inverter.synthesize(inversion)
