"""What `sdic` says about bad input: one clear sentence and exit code 1 (docs/BAD_INPUT.md)."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fakes import FakeDetector, call_main, fake_editor, noise_photo, write_directions
from sdic import weights
from sdic.cli import options
from sdic.weights.cache import Entry
from sdic.weights.exported import FORMAT

CLOSED_PORT = "http://127.0.0.1:9/simple"


@pytest.fixture
def sdic(monkeypatch, capsys):
    return lambda *arguments: call_main(monkeypatch, capsys, *arguments)


@pytest.fixture
def align(sdic, monkeypatch, tmp_path):
    """`sdic align` with a detector that finds one face everywhere."""
    detector = FakeDetector((70, 60, 24))
    monkeypatch.setattr("sdic.recognition.detection.load_detector", lambda name: detector)
    return lambda *paths, out=tmp_path / "out": sdic("align", *paths, "--out", out)


def one_failure(result, *words):
    """Exit code 1, and one sentence about one file."""
    code, _, error = result
    assert code == 1
    head, sentence = error.splitlines()
    assert head.startswith("1 of ")
    for word in words:
        assert word in sentence
    return sentence


def one_error(result, *words):
    """Exit code 1, and one sentence about the whole call."""
    code, output, error = result
    assert (code, output) == (1, "")
    (sentence,) = error.splitlines()
    assert sentence.startswith("error: ")
    for word in words:
        assert word in sentence


def good_photo(path):
    Image.fromarray(noise_photo()).save(path)
    return path


def test_empty_file(align, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    one_failure(align(tmp_path / "a.jpg"), "a.jpg is empty (0 bytes); expected a JPEG")


def test_truncated_jpeg(align, tmp_path):
    path = good_photo(tmp_path / "a.jpg")
    content = path.read_bytes()
    for part in (20, len(content) // 2):
        path.write_bytes(content[:part])
        one_failure(align(path), "is a damaged or cut-off JPEG file", "copy it again")


def test_huge_png(align, tmp_path):
    """The header alone: 30,000 x 30,000 pixels would be 2.7 GB."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    stream = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + stream)
    one_failure(align(tmp_path / "a.png"), "has 30,000x30,000 pixels; at most 100 megapixels")


def test_text_renamed(align, tmp_path):
    (tmp_path / "a.jpg").write_text("This is a letter, not a picture, whatever its name says.")
    one_failure(align(tmp_path / "a.jpg"), "its content is text. Expected JPEG")


def test_paths_that_hold_no_picture(align, tmp_path):
    one_error(align(tmp_path / "absent.jpg"), "There is no file or folder", "check the path")
    (tmp_path / "folder").mkdir()
    one_error(align(tmp_path / "folder"), "has no JPEG, PNG, WebP, TIFF or HEIC file in it")


def test_folder_with_one_broken_file(align, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "c"):
        good_photo(folder / f"{name}.png")
    (folder / "b.png").write_bytes(b"")
    result = align(folder)
    one_failure(result, "b.png is empty")
    assert result[2].startswith("1 of 3 files failed:")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]


def test_output_below_a_file(align, tmp_path):
    photo = good_photo(tmp_path / "a.png")
    one_error(align(photo, out=photo / "out"), "is not a folder; choose another place")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EROFS, "may not be written to; choose another one"),
    ],
)
def test_output_that_cannot_be_written(align, tmp_path, monkeypatch, number, words):
    photo = good_photo(tmp_path / "a.png")

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("sdic.files.os.fsync", fail)
    one_failure(align(photo), words, "Nothing was written")
    assert not list((tmp_path / "out").iterdir())


def test_no_network(sdic, tmp_path, monkeypatch):
    settings = {
        "SDIC_CACHE": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": CLOSED_PORT,
        "PIP_RETRIES": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    photo = good_photo(tmp_path / "a.png")
    result = sdic("align", photo, "--out", tmp_path / "out")
    one_error(result, "pip cannot reach its package registry", "connect to the network")


def test_cache_that_is_a_file(sdic, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path / "cache"))
    photo = good_photo(tmp_path / "a.png")
    result = sdic("align", photo, "--out", tmp_path / "out")
    one_error(result, "The cache folder", "cannot be used", "set SDIC_CACHE")


@pytest.fixture
def deadline():
    """A command that waits for ever fails the test."""

    def too_late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "command",
    [
        "align {}/p.png --out {}/out",
        "edit {}/p.png -e {}/d.safetensors:smile=1 --out {}/out",
        "edit {}/p.sdic.safetensors -e {}/d.safetensors:smile=1 --out {}/out",
        "edit {}/a.png -e {}/p.safetensors:smile=1 --out {}/out",
        "edit {}/a.png -e {}/p.npy=1 --out {}/out",
        "invert {}/a.png --checkpoint {}/p.pt --out {}/out",
        "invert {}/a.png --checkpoint {}/p.safetensors --out {}/out",
        "animate {}/p.png -e {}/d.safetensors:smile=0:1 --out {}/out.gif",
        "generate --generator stylegan2 --checkpoint {}/p.pt --out {}/out",
        "directions list --file {}/p.safetensors",
        "directions import {}/p.npy --out {}/new.safetensors",
        "directions import {}/p.pt --component 1 --out {}/new.safetensors",
        "directions sefa --out {}/p.safetensors",
        "directions preview smile --inversion {}/p.sdic.safetensors --out {}/out.png",
        "directions preview smile --out {}/p.png",
        "weights convert {}/p.pt --out {}/new.safetensors",
        "benchmark {} --lpips-backbone {}/p.pt --lpips-linear {}/p.pt --out {}/out",
    ],
)
def test_a_pipe_is_not_waited_for(command, sdic, monkeypatch, tmp_path, deadline):
    monkeypatch.setattr(options, "make_editor", wrapped(options.make_editor))
    good_photo(tmp_path / "a.png")
    write_directions(tmp_path / "d.safetensors")
    for suffix in ("png", "npy", "pt", "safetensors", "sdic.safetensors"):
        os.mkfifo(tmp_path / f"p.{suffix}")
    result = sdic(*command.replace("{}", str(tmp_path)).split())
    one_error(result, f"{tmp_path}/p.")
    assert "defect" not in result[2]


def wrapped(make_editor):
    """`make_editor` with the fake one, unless there is a checkpoint to be read."""
    return lambda engine, name: make_editor(engine, name) if engine.checkpoint else fake_editor()


def test_a_home_folder_that_is_not_there(sdic, monkeypatch):
    monkeypatch.setenv("SDIC_CACHE", "~nobody-of-this-name/x")
    for command in (["info"], ["weights", "list"], ["weights", "path", "mtcnn"]):
        one_error(
            sdic(*command), "SDIC_CACHE is ~nobody-of-this-name/x", "set it to another folder"
        )


def test_wrong_checkpoint(sdic, tmp_path):
    photo, checkpoint = good_photo(tmp_path / "a.png"), tmp_path / "model.pt"

    def invert(*options):
        common = ("--checkpoint", checkpoint, "--device", "cpu", "--out", tmp_path / "out")
        return sdic("invert", photo, *common, *options)

    one_error(invert(), "There is no checkpoint file at")
    checkpoint.write_text("no weights")
    one_error(invert(), "cannot be read as a checkpoint")
    torch.save({"layer.weight": torch.ones(1)}, checkpoint)
    one_error(invert(), "has no 'state_dict'; expected an official SDIC or e4e checkpoint")
    torch.save({"state_dict": {"layer.weight": torch.ones(1)}}, checkpoint)
    one_error(invert(), "1 keys have an unknown prefix: layer.weight")
    torch.save({"state_dict": np.random.default_rng}, checkpoint)
    one_error(invert(), "wants to run code", "refused")
    recipe = {"task": "compensation", "components": {"encoder_weights": "gone.safetensors"}}
    texts = {"format": FORMAT, "recipe": json.dumps(recipe)}
    save_file({"dipn.bias": torch.ones(1)}, checkpoint, texts)
    one_error(invert(), "stands on the encoder 'gone.safetensors'", "put it there")
    one_error(invert("--method", "pti"), "The generator 'mobile' has its own weights")


# With the true detector, whose weights are fetched


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage").data.astronaut()


@pytest.mark.network
def test_landscape(sdic, tmp_path):
    y, x = np.mgrid[0:300, 0:400]
    hills = (y > 180 + 30 * np.sin(x / 40))[..., None]
    sky = np.stack((120 + y / 3, 160 + y / 4, 230 + 0 * y), axis=2)
    ground = np.array([60, 110, 40]) + noise_photo(300, 400) / 8
    Image.fromarray(np.where(hills, ground, sky).astype(np.uint8)).save(tmp_path / "hills.png")
    result = sdic("align", tmp_path / "hills.png", "--out", tmp_path / "out")
    one_failure(result, "No face was found in the photo of 400x300 pixels: MTCNN looked for")


@pytest.mark.network
def test_group_photo(sdic, tmp_path, astronaut):
    small = np.asarray(Image.fromarray(astronaut[:256, 100:356]).resize((192, 192)))
    picture = np.zeros((256, 448, 3), np.uint8)
    picture[:, :256] = astronaut[:256, 100:356]
    picture[:192, 256:] = small
    Image.fromarray(picture).save(tmp_path / "we.png")

    def align(face):
        code = sdic("align", tmp_path / "we.png", "--face", face, "--out", tmp_path / face)
        return code, sorted(path.name for path in (tmp_path / face).glob("*.png"))

    (code, _, _), names = align("all")
    assert (code, names) == (0, ["we_0.png", "we_1.png"])
    (code, _, _), names = align("largest")
    assert (code, names) == (0, ["we.png"])
    result, names = align("5")
    one_failure(result, "Face 5 was asked for, but the photo has 2 faces")
    assert not names


@pytest.mark.network
def test_small_face(sdic, tmp_path, astronaut):
    """64 pixels are enough for the detector; the crop is enlarged from them."""
    face = Image.fromarray(astronaut[40:190, 150:300]).resize((64, 64))
    face.save(tmp_path / "small.png")
    out = ("--out", tmp_path / "out")
    assert sdic("align", tmp_path / "small.png", *out, "--size", "256")[0] == 0
    assert Image.open(tmp_path / "out" / "small.png").size == (256, 256)
    face.resize((16, 16)).save(tmp_path / "tiny.png")
    one_failure(sdic("align", tmp_path / "tiny.png", *out), "No face was found", "16x16 pixels")


@pytest.mark.network
def test_corrupted_cache(sdic, tmp_path, monkeypatch):
    good = weights.fetch("mtcnn").read_bytes()
    entry = Entry.of(weights.get("mtcnn"), tmp_path / "weights")
    record = Entry.of(weights.get("mtcnn"), weights.cache_dir() / "weights").record.read_bytes()
    entry.data.parent.mkdir()
    entry.record.write_bytes(record)
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    for damaged in (good[:-9], bytes(100) + good[100:]):
        entry.data.write_bytes(damaged)
        one_error(sdic("weights", "path", "mtcnn"), "is not in the cache; run `sdic weights fetch")
    entry.data.write_bytes(good[:-9] + bytes(9))
    code, output, error = sdic("weights", "verify", "mtcnn")
    assert code == 1
    assert "mtcnn: damaged\n" in output
    assert "run `sdic weights fetch --again mtcnn`" in error
