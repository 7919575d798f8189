"""The published SDIC network, part by part: equal to what its authors' code computes.

Weights come from `parity.fill`, under the official names; tolerances are some ten times the noise
of rounding, far below any deviation in structure.
"""

import pytest
import torch
from torch import Tensor, nn

import parity
from sdic.encoders import E4EEncoder
from sdic.generators.stylegan2 import StyleGAN2
from sdic.methods import convert_checkpoint, official, open_checkpoint
from sdic.methods.e4e import OFFICIAL_RULES
from sdic.methods.sdic import SDIC, official_keys
from sdic.methods.sdic.dicn import DICN
from sdic.methods.sdic.dipn import DIPN

DIP_TOLERANCE = 1e-5
CODE_TOLERANCE = 2e-5
MAP_TOLERANCE = 1e-4
IMAGE_TOLERANCE = 2e-4
HALF_TOLERANCE = 2e-3  # of averages that were stored with 16 bits
HEADS = (0, 3, 7)  # one of each level: all 18 take as long as the rest of the network together


def filled(part: str, network: nn.Module, rules: dict[str, str], drop=()) -> nn.Module:
    """The network with the weights of the official keys it has."""
    keys = [key for key in network.state_dict() if not key.startswith(("mean_latent", *drop))]
    names = {official.official_key(key, rules): key for key in keys}
    shapes = parity.official_keys()["face"][part]
    state = {key: torch.empty(shapes[key]) for key in names}
    weights = parity.fill(state, f"{part}.")
    network.load_state_dict(
        {names[key]: value for key, value in weights.items()}, strict=False, assign=True
    )
    return network.eval()


class Activations:
    """What inner modules computed last, to be compared with the golden file by official name."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.outputs: dict[str, Tensor] = {}
        for name, module in modules.items():
            module.register_forward_hook(lambda _, __, output, name=name: self.keep(name, output))

    def keep(self, name: str, output: Tensor) -> None:
        self.outputs[name] = output.detach().clone()

    def check(self) -> None:
        golden = parity.golden()
        assert self.outputs
        for name, output in self.outputs.items():
            axes = tuple(range(2, output.ndim))
            tolerance = {"rtol": 1e-5, "atol": 2e-5, "msg": lambda text, name=name: name + text}
            mean, std = golden[f"act.{name}.mean"], golden[f"act.{name}.std"]
            torch.testing.assert_close(output.mean(axes), mean, **tolerance)
            torch.testing.assert_close(output.std(axes, correction=0), std, **tolerance)


def close(actual: Tensor, name: str, tolerance: float) -> None:
    torch.testing.assert_close(actual, parity.golden()[name], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def images():
    return parity.images(1)


@pytest.fixture(scope="module")
def sdic():
    """The published network without its encoder, with the golden codes."""
    generator = StyleGAN2(1024)
    generator.load_state_dict(parity.fill(generator.state_dict(), "decoder."))
    with torch.device("meta"):
        dipn, dicn = DIPN("published"), DICN(preset="published")
    filled("DIP", dipn, official_keys.DIPN_RULES)
    filled("SAF", dicn, official_keys.DICN_RULES)
    return SDIC(generator, nn.Identity(), dipn, dicn, "published")


@pytest.fixture(scope="module")
def compensation(sdic, images):
    """One run of everything after the encoder, with the inner maps it passed."""
    dipn, dicn = sdic.dipn, sdic.dicn
    branches, hourglass = dipn.context, dipn.discrepancy
    activations = Activations(
        {
            "DIP.feature1.fe1": branches.down_original.conv1,
            "DIP.feature1.fe5": branches.down_original.conv5,
            "DIP.feature_up.deconv8_4": branches.up_original.up3,
            "DIP.desc": branches.up_original.output,
            "DIP.corr_stem": hourglass.stem,
            **{f"DIP.hourglass_fusion.conv{i + 1}": hourglass.downs[i] for i in range(3)},
            "DIP.hourglass_fusion.CGF_32": hourglass.fusions[0],
            "DIP.hourglass_fusion.CGF_16": hourglass.fusions[1],
            "DIP.hourglass_fusion.CGF_8": hourglass.fusions[2],
            "DIP.hourglass_fusion": hourglass.ups[2],
            "DIP.rgb1": dipn.to_map[3],
            "SAF.conv_layer1": dicn.f_c2[0],
            "SAF.semantic": dicn.f_c2,
            "SAF.att": dicn.fusion.f_c1,
            "SAF.condition_shift3": dicn.affine.code_map,
        }
    )
    with torch.no_grad():
        return sdic.compensate(images, parity.golden()["codes"]), activations


@torch.no_grad()
def test_encoder(images):
    with torch.device("meta"):
        encoder = E4EEncoder(18)
    unused = tuple(f"styles.{i}." for i in range(18) if i not in HEADS)
    filled("encoder", encoder, OFFICIAL_RULES, unused)
    encoder.mean_latent = parity.latent_avg()
    other = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # stands for the heads left out
    for i in set(range(18)) - set(HEADS):
        encoder.styles[i] = other
    body = encoder.trunk.body
    activations = Activations({f"encoder.body.{i}": body[i] for i in (0, 3, 6, 20, 23)})
    codes = encoder(images)
    activations.check()
    rows = list(HEADS)
    golden = parity.golden()["codes"]
    torch.testing.assert_close(codes[:, rows], golden[:, rows], rtol=0, atol=CODE_TOLERANCE)


def test_initial_reconstruction(compensation):
    made, _ = compensation
    channels = parity.golden()["channels"].long()
    close(made.features[:, channels], "G7.ch", MAP_TOLERANCE)
    close(made.features.mean((2, 3)), "G7.mean", MAP_TOLERANCE)
    close(nn.functional.avg_pool2d(made.initial, 4), "init256.area64", HALF_TOLERANCE)
    close(made.initial.std((2, 3)), "init256.std", IMAGE_TOLERANCE)


def test_discrepancy(compensation):
    made, _ = compensation
    close(made.discrepancy[parity.DIP_CROP], "dip.crop", DIP_TOLERANCE)
    close(made.discrepancy.mean((2, 3)), "dip.mean", DIP_TOLERANCE)


def test_compensated_latents_and_features(compensation):
    made, _ = compensation
    channels = parity.golden()["channels"].long()
    close(made.new_latents, "Wp", CODE_TOLERANCE)
    close(made.new_features[:, channels], "F.ch", MAP_TOLERANCE)
    close(made.new_features.mean((2, 3)), "F.mean", MAP_TOLERANCE)


def test_inner_maps(compensation):
    _, activations = compensation
    activations.check()


@torch.no_grad()
def test_final_image(sdic, compensation):
    made, _ = compensation
    image = sdic.generator.from_features(made.new_features, made.new_latents)
    close(image[parity.CROP], "final.crop", IMAGE_TOLERANCE)
    close(nn.functional.avg_pool2d(image, 16), "final.area64", HALF_TOLERANCE)


@torch.no_grad()
def test_networks_for_inference_compute_the_same(sdic, compensation, images):
    made, _ = compensation
    sdic.for_inference()
    folded = sdic.dipn(images, made.initial)
    torch.testing.assert_close(folded, made.discrepancy, rtol=0, atol=DIP_TOLERANCE)
    features, latents = sdic.dicn(folded, made.features, made.latents)
    torch.testing.assert_close(features, made.new_features, rtol=0, atol=MAP_TOLERANCE)
    torch.testing.assert_close(latents, made.new_latents, rtol=0, atol=CODE_TOLERANCE)


@pytest.mark.slow
def test_official_checkpoint_from_file_to_image(tmp_path, images):
    shapes = parity.official_keys()["face"]
    empty = {
        f"{part}.{key}": torch.empty(shape)
        for part, keys in shapes.items()
        for key, shape in keys.items()
    }
    state = parity.fill({key: value for key, value in empty.items() if "kernel" not in key})
    kernels = StyleGAN2(1024).state_dict()
    state |= {f"decoder.{key}": kernels[key] for key in kernels if key.endswith("kernel")}
    state["id_loss.facenet.body.0.weight"] = torch.zeros(1)
    checkpoint = {"state_dict": state, "latent_avg": parity.latent_avg(), "opts": {}}
    torch.save(checkpoint, tmp_path / "sdic.pt")
    del checkpoint, state, empty
    conversion = convert_checkpoint(tmp_path / "sdic.pt", tmp_path / "sdic.safetensors")
    assert (conversion.method, conversion.num_styles, conversion.resolution) == ("sdic", 18, 1024)
    assert "DIP.stem_2.0.conv.weight" in conversion.dropped
    assert "id_loss.facenet.body.0.weight" in conversion.dropped
    for name in ("sdic.pt", "sdic.safetensors"):
        method = open_checkpoint(tmp_path / name, backend="eager")
        inversion = method.invert(images)
        close(inversion.base_latents, "codes", CODE_TOLERANCE)
        close(inversion.latents, "Wp", CODE_TOLERANCE)
        close(method.synthesize(inversion)[parity.CROP], "final.crop", IMAGE_TOLERANCE)
