"""Official checkpoints: their keys, what is refused, and what a conversion says it dropped.

A tensor of zeros that is expanded from one element takes no room in a file, so a whole official
checkpoint is small enough to write here. Files of users may not do that so often.
"""

import pytest
import torch
from torch import Tensor

import parity
from rounding import close
from sdic.encoders import E4EEncoder
from sdic.errors import InputError, WeightsError
from sdic.methods import convert_checkpoint, official, open_checkpoint
from sdic.methods.e4e import E4E, OFFICIAL_RULES
from sdic.methods.official import Conversion
from sdic.methods.sdic import SDIC, official_keys
from sdic.methods.sdic.dicn import DICN
from sdic.methods.sdic.dipn import DIPN

PARTS = ("encoder", "decoder", "DIP", "SAF")
NETWORKS = {
    "encoder": (E4EEncoder, OFFICIAL_RULES, ()),
    "DIP": (lambda _: DIPN("published"), official_keys.DIPN_RULES, official_keys.DIPN_UNUSED),
    "SAF": (
        lambda rows: DICN(rows, preset="published"),
        official_keys.DICN_RULES,
        official_keys.DICN_UNUSED,
    ),
}


def official_state(kind: str, parts: tuple[str, ...]) -> dict[str, Tensor]:
    return {
        f"{part}.{key}": torch.zeros(1).expand(shape) if shape else torch.tensor(0)
        for part in parts
        for key, shape in parity.official_keys()[kind][part].items()
    }


def load(path):
    return open_checkpoint(path, backend="eager")


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr("sdic.weights.checkpoints.REPEATS", 10**9)

    def write(content: object):
        path = tmp_path / "official.pt"
        torch.save(content, path)
        return path

    return write


@pytest.mark.parametrize(("kind", "num_styles"), [("face", 18), ("cars", 16)])
@pytest.mark.parametrize("part", NETWORKS)
def test_official_keys_and_shapes_are_ours(kind, num_styles, part):
    build, rules, unused = NETWORKS[part]
    with torch.device("meta"):
        network = build(num_styles)
    shapes = parity.official_keys()[kind][part]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    ours = network.state_dict()
    ours.pop("mean_latent", None)
    renamed, dropped = official.rename(state, ours, rules, unused, part)
    assert {key: x.shape for key, x in renamed.items()} == {key: x.shape for key, x in ours.items()}
    assert len(renamed) + len(dropped) == len(shapes)
    assert all(key.startswith(unused) for key in dropped)
    assert {next(u for u in unused if key.startswith(u)) for key in dropped} == set(unused)


def test_missing_and_surplus_keys_are_named():
    shapes = parity.official_keys()["face"]["DIP"]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    state["desk.weight"] = state.pop("desc.weight")
    ours = DIPN("published").state_dict()
    with pytest.raises(WeightsError, match=r"1 missing: desc\.weight; 1 surplus: desk\.weight"):
        official.rename(state, ours, official_keys.DIPN_RULES, official_keys.DIPN_UNUSED, "file")


def test_cars_checkpoint_loads(write):
    state = official_state("cars", PARTS)
    state["lpips_loss.net.weight"] = torch.zeros(1)
    mean = torch.randn(18, 512)  # e4e keeps 18 rows for every domain; 16 are used
    method = load(write({"state_dict": state, "latent_avg": mean, "opts": {}}))
    assert isinstance(method, SDIC)
    assert method.preset == "published"
    generator = method.generator
    assert (generator.num_styles, generator.resolution) == (16, 512)
    assert torch.equal(method.encoder.mean_latent, mean[:16])
    assert not any(p.requires_grad for net in method.networks.values() for p in net.parameters())
    inversion = method.invert(torch.zeros(1, 3, 256, 256))
    close(inversion.base_latents, mean[None, :16])
    assert inversion.features.shape == (1, 512, 64, 64)


def test_older_names_of_the_parts_are_known(write):
    older = {"DIP": "CGI", "SAF": "residue"}
    state = official_state("cars", ("DIP", "SAF"))
    for key in list(state):
        part, _, path = key.partition(".")
        state[f"{older[part]}.{path}"] = state.pop(key)
    path = write({"state_dict": state | official_state("cars", PARTS[:2])})
    assert isinstance(open_checkpoint(path, backend="eager"), SDIC)


@pytest.mark.slow
def test_e4e_checkpoint_without_mean_is_converted(write, tmp_path):
    path = write({"state_dict": official_state("cars", ("encoder", "decoder")), "opts": {}})
    conversion = convert_checkpoint(path, tmp_path / "e4e.safetensors")
    assert isinstance(conversion, Conversion)
    assert conversion.method == "e4e"
    assert conversion.dropped == ()
    assert "10,000" in conversion.notes[0]
    assert isinstance(load(tmp_path / "e4e.safetensors"), E4E)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": 1}, "no 'state_dict'"),
        ({"state_dict": {"encoder.x": torch.zeros(1)}}, r"nothing under 'decoder\.'"),
        (
            {"state_dict": {"encoder.x": torch.zeros(1), "SAF.x": torch.zeros(1)}},
            r"nothing under '(decoder|DIP)\.'",
        ),
        ({"state_dict": {"unet.x": torch.zeros(1)}}, r"unknown prefix: unet\.x"),
    ],
)
def test_other_files_are_refused(write, content, message):
    with pytest.raises(WeightsError, match=message):
        load(write(content))


def test_short_mean_latent_is_refused(write):
    state = official_state("cars", PARTS)
    path = write({"state_dict": state, "latent_avg": torch.zeros(4, 512)})
    with pytest.raises(WeightsError, match="4 rows"):
        load(path)


def test_output_must_be_safetensors(tmp_path):
    with pytest.raises(InputError, match=r"\.safetensors"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.pt")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="a\\.pt"):
        load(tmp_path / "a.pt")
