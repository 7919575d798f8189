"""Faces made once: they are the generator's, made by one process only, and training resumes."""

from __future__ import annotations

import copy
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sdic.cli.train import train_app
from sdic.errors import SdicError, TrainingError
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.training import build, checkpoint, generated
from sdic.training.data import Mixture
from sdic.training.devices import fabric
from sdic.training.generated import SHARD, GeneratedFaces, folder_of
from sdic.training.loop import Trainer
from sdic.training.tasks.encoder import EncoderTask

from . import tiny

LEVEL = 1 / 127.5  # between two of 8 bits


def faces(folder: Path, count: int = 6, truncation: float = 0.7, **options: object):  # type: ignore[no-untyped-def]
    return GeneratedFaces.open(
        tiny.generator(),
        folder,
        count,
        truncation,
        tiny.SIZE,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "SHARD", 4)


pytestmark = pytest.mark.usefixtures("_small_files")


def test_a_face_is_what_the_generator_makes_of_its_w_in_8_bits(tmp_path: Path) -> None:
    generator = tiny.generator()
    images, latents = faces(tmp_path).at([5, 0])
    assert torch.equal(faces(tmp_path).at([5])[0], images[:1])
    with torch.no_grad():
        made = generator(generator.broadcast(latents), tiny.SIZE).clamp(-1, 1)
    assert (images - made).abs().max() <= 0.51 * LEVEL
    levels = (images + 1) / LEVEL
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert (latents[0] - latents[1]).abs().max() > 1e-3
    towards = faces(tmp_path / "mean", 1, 0.0).at([0])[1]
    torch.testing.assert_close(towards[0], generator.mean_latent)


def test_what_is_there_is_kept_and_only_the_rest_is_made(tmp_path: Path) -> None:
    first = faces(tmp_path, 3)
    (file,) = tmp_path.glob("*.npy")
    written = file.stat().st_mtime_ns
    said: list[tuple[int, int]] = []
    more = faces(tmp_path, 9, report=lambda done, count: said.append((done, count)))
    assert said == [(4, 9), (8, 9), (9, 9)]
    assert (len(first), len(more)) == (3, 9)
    assert file.stat().st_mtime_ns == written
    assert len(list(tmp_path.glob("*.npy"))) == 3
    assert torch.equal(first.at([2])[0], more.at([2])[0])
    torch.testing.assert_close(first.at([2])[1], more.at([2])[1])


def test_a_folder_belongs_to_weights_truncation_and_size(tmp_path: Path) -> None:
    generator = tiny.generator()
    other = copy.deepcopy(generator)
    other.to_image.bias += 1  # its mapping is the same
    names = [
        folder_of(tmp_path, one, truncation, size)
        for one, truncation, size in (
            (generator, 0.7, 64),
            (other, 0.7, 64),
            (generator, 0.8, 64),
            (generator, 0.7, 128),
        )
    ]
    assert len(set(names)) == 4
    assert folder_of(tmp_path, tiny.generator(), 0.7, 64) == names[0]


def test_a_fused_generator_in_bf16_makes_the_same_faces_a_little_coarser(tmp_path: Path) -> None:
    plain = faces(tmp_path / "plain")
    half = to_bfloat16(fuse(tiny.generator()))
    rough = GeneratedFaces.open(half, tmp_path / "half", 6, 0.7, tiny.SIZE)
    assert torch.equal(plain.latents, rough.latents)
    difference = (plain.at(range(6))[0] - rough.at(range(6))[0]).abs().mean()
    assert 0 < difference < 0.02


def test_nobody_else_may_look_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir(mode=0o755)
    faces(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"no pixels at all"])
def test_damage_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    faces(tmp_path)
    (tmp_path / "faces-00001.npy").write_bytes(content)
    with pytest.raises(TrainingError, match=r"faces-00001\.npy are damaged; delete it"):
        faces(tmp_path)
    generated.GeneratedFaces.open(tiny.generator(), tmp_path, 4, 0.7, tiny.SIZE)


def make(folder: str) -> float:
    """In a process of its own, where files have their full size."""
    torch.set_num_threads(1)
    return float(faces(Path(folder), 1).at([0])[0].sum())


def test_two_processes_make_a_file_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, second = pool.map(make, [str(tmp_path)] * 2)
    assert first == second
    assert [file.name for file in tmp_path.glob("*.npy")] == ["faces-00000.npy"]
    assert not list(tmp_path.glob(".sdic-*"))
    assert SHARD == 100


@pytest.mark.parametrize("task", ["encoder", "editing"])
def test_a_recipe_reads_what_the_command_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    monkeypatch.setattr("sdic.generators.create", lambda *_, **__: tiny.generator())
    count = ["faces", "--count", "6", "--truncation", "0.9", "--size", str(tiny.SIZE)]
    for _ in range(2):
        result = CliRunner().invoke(train_app, [*count, "--device", "cpu"])
        assert result.exit_code == 0, result.output
        assert "data.generated=6 data.truncation=0.9 image_size=64 reads them" in result.output
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npy")}
    assert len(files) == 2
    settings = {"generator_share": 1.0, "generated": 6, "truncation": 0.9}
    recipe = tiny.recipe(task, data=settings)
    generator = fuse(tiny.generator())
    batch = build.build_data(recipe, generator, None, tmp_path).batch(0, 0, 1)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npy")} == files
    levels = (batch.images + 1) / LEVEL
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--count", "0"),
        ("--count", "1" + 30 * "0"),
        ("--count", "1", "--truncation", "nan"),
        ("--count", "1", "--truncation", "1.1"),
        ("--count", "1", "--size", "100"),
        ("--count", "1", "--device", "tpu"),
        ("--count", "1", "--generator", "none"),
        ("--count", "1", "--generator", "stylegan2"),
    ],
)
def test_what_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    if "--generator" not in arguments:
        monkeypatch.setattr("sdic.generators.create", lambda *_, **__: tiny.generator())
    result = CliRunner().invoke(train_app, ["faces", *arguments])
    assert isinstance(result.exception, SdicError | SystemExit)
    assert result.exit_code
    assert not list(tmp_path.iterdir())


def slices(folder: Path, kept: Path, *ends: int) -> list[dict[str, float]]:
    """Losses of a run in slices, each of which opens the faces anew."""
    losses: list[dict[str, float]] = []
    recipe = tiny.recipe("encoder", losses={"l2": 0.0, "styles": 1.0, "features": 0.1})
    for end in ends:
        generator = tiny.generator()
        encoder = tiny.networks(generator)[0]
        task = EncoderTask(generator, encoder, recipe.losses, tiny.joint(recipe), tiny.SIZE)
        data = Mixture(recipe.data, 2, 0, tiny.SIZE, None, generator, faces(kept))
        run = Trainer(task, data, recipe, fabric("cpu", "fp32"), folder)
        run.train(stop_at=end, on_step=lambda _, values: losses.append(values))
    return losses


def test_resuming_with_kept_faces_is_exact(tmp_path: Path) -> None:
    straight = slices(tmp_path / "straight", tmp_path / "faces", 4)
    sliced = slices(tmp_path / "sliced", tmp_path / "faces", 2, 4)
    assert sliced == straight
    found = [checkpoint.latest(tmp_path / name) for name in ("straight", "sliced")]
    weights = [checkpoint.load(path)[1] for path in found if path is not None]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
