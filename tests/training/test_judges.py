"""The networks of the losses: those of the package, or the paper's own from the user's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sdic.errors import SdicError
from sdic.losses import JointLoss
from sdic.losses.identity import ArcFace
from sdic.losses.moco import MoCo
from sdic.losses.perceptual import PerceptualLoss
from sdic.recognition import identity
from sdic.training import judges

from . import tiny


def joint(**losses: Any) -> JointLoss:
    return judges.joint_loss(tiny.recipe("encoder", losses=losses))


def lpips_files(folder: Path, net: str) -> dict[str, Any]:
    """The two files of LPIPS with the weights of a fresh network."""
    plain = PerceptualLoss(net, shift_tolerant=False).state_dict()
    trunk = {
        f"features.{key.split('.', 2)[2]}": value
        for key, value in plain.items()
        if key.startswith("net.")
    }
    torch.save(trunk, folder / f"{net}-trunk.pth")
    linear = {key: value for key, value in plain.items() if key.startswith("lin")}
    torch.save(linear, folder / f"{net}-linear.pth")
    files = (str(folder / f"{net}-{part}.pth") for part in ("trunk", "linear"))
    return dict(zip(("perceptual_backbone", "perceptual_linear"), files, strict=True))


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_of_the_user_s_files(tmp_path: Path, net: str) -> None:
    files = lpips_files(tmp_path, net)
    network = joint(perceptual=0.8, **files).perceptual
    assert network is not None
    assert network.name == f"lpips-{net}"
    trunk = torch.load(files["perceptual_backbone"])
    assert torch.equal(network.net.slice1[0].weight, trunk["features.0.weight"])
    assert joint(**files).perceptual is None  # a loss of weight 0 is not loaded


def test_arcface_of_the_user_s_file(tmp_path: Path) -> None:
    state = ArcFace().state_dict()
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "arcface.pth")
    loss = joint(identity=0.2, identity_weights=str(tmp_path / "arcface.pth")).identity
    assert loss is not None
    assert isinstance(loss.recogniser, ArcFace)
    kernel = state["input_layer.0.weight"]
    assert torch.equal(loss.recogniser.input_layer[0].weight, kernel.half().float())
    images = torch.rand(1, 3, 256, 256, requires_grad=True)
    loss(images, torch.rand(1, 3, 256, 256)).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert not any(p.requires_grad for p in loss.parameters())


def test_moco_of_the_user_s_file(tmp_path: Path) -> None:
    state = {f"module.encoder_q.{k}": v.half() for k, v in MoCo().state_dict().items()}
    torch.save({"arch": "resnet50", "state_dict": state}, tmp_path / "moco.pt")
    loss = joint(identity=0.5, identity_weights=str(tmp_path / "moco.pt")).identity
    assert loss is not None
    assert isinstance(loss.recogniser, MoCo)


def test_without_files_the_package_s_networks_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(torch.nn.Module):
        pass

    small = PerceptualLoss()
    monkeypatch.setattr("sdic.losses.perceptual.create", lambda: small)
    monkeypatch.setattr(identity, "create", lambda name: Small() if name == "fr-feature" else None)
    both = joint(perceptual=0.8, identity=0.2)
    assert both.perceptual is small
    assert both.identity is not None
    assert isinstance(both.identity.recogniser, Small)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"perceptual_backbone": "trunk.pth"}, "name both of them"),
        ({"perceptual_linear": "linear.pth"}, "name both of them"),
        ({"perceptual_backbone": "none", "perceptual_linear": "none"}, "no checkpoint file at"),
        ({"perceptual_backbone": "other", "perceptual_linear": "other"}, "does not fit"),
        ({"perceptual_backbone": "text", "perceptual_linear": "text"}, "cannot be read"),
        ({"identity_weights": "none"}, "no checkpoint file at"),
        ({"identity_weights": "other"}, "does not fit ArcFace"),
        ({"identity_weights": "moco"}, "encoder_q"),
        ({"identity_weights": "text"}, "cannot be read"),
    ],
)
def test_files_that_are_not_there_or_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1)}, "other")
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, "moco")
    Path("text").write_text("no checkpoint")
    weight = "identity" if "identity_weights" in losses else "perceptual"
    with pytest.raises(SdicError, match=message):
        joint(**{weight: 1.0}, **losses)
