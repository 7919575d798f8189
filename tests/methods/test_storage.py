"""Inversions as files: exact, whole or not there, and refused with a reason."""

import json
import os
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdic import files
from sdic.errors import InputError
from sdic.generators.base import Identity
from sdic.methods.base import Inversion
from sdic.methods.storage import load_inversion, load_metadata, save_inversion

NAME = "photo.sdic.safetensors"


def inversion(compensated=True, num=2):
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(num, 5, 512, generator=random)
    return Inversion(
        "sdic",
        Identity("mobile", "faces", "ffhq", "0123"),
        latents,
        latents + 1 if compensated else latents,
        torch.randn(num, 8, 4, 4, generator=random) if compensated else None,
        torch.rand(num, 3, 256, 256, generator=random) * 2 - 1,
        {"blocks.0.conv1.bias": torch.randn(1, 8, 1, 1, generator=random)} if compensated else {},
        {"photo": "Müller, Ägypten.jpg", "crop": "[1, 2]"} if compensated else {},
        {"photo": torch.rand(num, 3, 256, 256, generator=random)} if compensated else {},
    )


@pytest.mark.parametrize("compensated", [True, False])
def test_round_trip_is_exact(tmp_path, compensated):
    saved = inversion(compensated)
    save_inversion(saved, tmp_path / NAME)
    loaded = load_inversion(tmp_path / NAME)
    for field in fields(Inversion):
        before, after = getattr(saved, field.name), getattr(loaded, field.name)
        if isinstance(before, torch.Tensor):
            assert torch.equal(before, after)
        elif field.name in ("weights", "extras"):
            assert list(before) == list(after)
            assert all(torch.equal(before[name], after[name]) for name in before)
        else:
            assert before == after
    assert os.listdir(tmp_path) == [NAME]


def test_views_and_transposed_tensors_are_stored(tmp_path):
    saved = inversion(compensated=False)
    saved.latents = saved.base_latents = saved.latents[:, :1].expand(-1, 5, -1)
    saved.features = torch.randn(2, 4, 4, 8).permute(0, 3, 1, 2).requires_grad_()
    save_inversion(saved, tmp_path / NAME)
    loaded = load_inversion(tmp_path / NAME)
    assert torch.equal(loaded.latents, saved.latents)
    assert torch.equal(loaded.features, saved.features)


def test_suffix_is_required(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.sdic\.safetensors"):
        save_inversion(inversion(), tmp_path / "photo.pt")


def test_missing_folder_is_made_and_a_path_may_be_a_text(tmp_path):
    save_inversion(inversion(), str(tmp_path / "new" / NAME))
    assert len(load_inversion(str(tmp_path / "new" / NAME))) == len(inversion())


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    save_inversion(inversion(), tmp_path / NAME)
    before = (tmp_path / NAME).read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        save_inversion(inversion(compensated=False), tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == before
    assert os.listdir(tmp_path) == [NAME]


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="There is no inversion"):
        load_inversion(tmp_path / NAME)


@pytest.mark.parametrize("length", [0, 4, 100, 3000, -1])
def test_truncated_file(tmp_path, length):
    save_inversion(inversion(), tmp_path / NAME)
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:length])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_inversion(tmp_path / NAME)


def test_foreign_files(tmp_path):
    (tmp_path / NAME).write_bytes(b"\x89PNG\r\n" * 100)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_inversion(tmp_path / NAME)
    for header in (None, {"sdic": "{"}, {"sdic": "[]"}, {"sdic": '{"format": "other"}'}):
        save_file({"latents": torch.zeros(1, 5, 512)}, tmp_path / NAME, header)
        with pytest.raises(InputError, match="holds no inversion"):
            load_inversion(tmp_path / NAME)


def rewrite(path, header=(), tensors=None):
    """Save an inversion, and write it anew with changed header and tensors."""
    save_inversion(inversion(), path)
    content = {
        "format": "sdic-inversion",
        "version": 1,
        "method": "sdic",
        "generator": "mobile",
        "metadata": {},
    } | dict(header)
    save_file(load_file(path) | (tensors or {}), path, {"sdic": json.dumps(content)})


def test_newer_version(tmp_path):
    rewrite(tmp_path / NAME)
    load_inversion(tmp_path / NAME)
    rewrite(tmp_path / NAME, {"version": 3})
    with pytest.raises(InputError, match=r"has version 3 .* reads up to 2"):
        load_inversion(tmp_path / NAME)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 6000, "nul", '"\\ud800"'])
def test_a_header_that_is_no_table(tmp_path, text):
    save_file({"latents": torch.zeros(1, 5, 512)}, tmp_path / NAME, {"sdic": text})
    for read in (load_inversion, load_metadata):
        with pytest.raises(InputError, match="holds no inversion"):
            read(tmp_path / NAME)


@pytest.mark.parametrize(
    "header",
    [
        {"version": "1"},
        {"method": 3},
        {"generator": None},
        {"generator": {"family": "mobile"}},
        {"metadata": []},
        {"metadata": {"a": 1}},
    ],
)
def test_damaged_header(tmp_path, header):
    rewrite(tmp_path / NAME, header)
    with pytest.raises(InputError, match="holds no inversion"):
        load_inversion(tmp_path / NAME)


@pytest.mark.parametrize(
    "tensors",
    [
        {"surplus": torch.zeros(1)},
        {"latents": torch.zeros(2, 512)},
        {"base_latents": torch.zeros(1, 5, 512)},
        {"features": torch.zeros(1, 8, 4, 4)},
        {"reconstruction": torch.zeros(2, 3, 64, 64)},
        {"latents": torch.zeros(1, 5, 7), "base_latents": torch.zeros(1, 5, 7)},
        {"extras.photo": torch.zeros(1, 3, 64, 64)},
        {
            "latents": torch.zeros(0, 5, 512),
            "base_latents": torch.zeros(0, 5, 512),
            "reconstruction": torch.zeros(0, 3, 256, 256),
        },
        {"latents": torch.zeros(2, 0, 512), "base_latents": torch.zeros(2, 0, 512)},
    ],
)
def test_tensors_that_do_not_fit(tmp_path, tensors):
    rewrite(tmp_path / NAME, tensors=tensors)
    with pytest.raises(InputError, match="lacks tensors of an inversion, or has others"):
        load_inversion(tmp_path / NAME)


@pytest.mark.parametrize("name", ["latents", "features", "weights.conv1.bias", "extras.more"])
@pytest.mark.parametrize(
    "kind", [torch.int64, torch.bool, torch.uint8, torch.float64, torch.float8_e4m3fn]
)
def test_tensors_that_are_no_real_numbers_of_decent_size(tmp_path, name, kind):
    shape = inversion().features.shape if name == "features" else (2, 5, 512)
    rewrite(tmp_path / NAME, tensors={name: torch.zeros(shape).to(kind)})
    with pytest.raises(InputError, match=rf"type torch\.{str(kind)[6:]} \({name}\)"):
        load_inversion(tmp_path / NAME)


def test_numbers_of_half_the_bits_are_read_as_float32(tmp_path):
    halves = {"latents": torch.ones(2, 5, 512).half()}
    rewrite(tmp_path / NAME, tensors=halves | {"features": torch.ones(2, 8, 4, 4).bfloat16()})
    loaded = load_inversion(tmp_path / NAME)
    assert loaded.latents.dtype == loaded.features.dtype == torch.float32


@pytest.mark.parametrize("name", ["latents", "features", "reconstruction"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, name):
    saved = inversion(compensated=False)
    saved.features = torch.zeros(2, 8, 4, 4)
    getattr(saved, name)[0, 0, 0] = torch.nan
    save_inversion(saved, tmp_path / NAME)
    with pytest.raises(InputError, match=rf"not finite \((base_)?{name}"):
        load_inversion(tmp_path / NAME)


def test_files_of_the_first_version_are_read(tmp_path):
    rewrite(tmp_path / NAME, {"version": 1, "generator": "mobile"})
    loaded = load_inversion(tmp_path / NAME)
    assert loaded.generator == Identity("mobile", "faces", "", "")


def test_tensors_lie_in_memory_as_new_ones_do(tmp_path):
    save_inversion(inversion(), tmp_path / NAME)
    loaded = load_inversion(tmp_path / NAME)
    for tensor in (loaded.latents, loaded.base_latents, loaded.features, loaded.reconstruction):
        assert tensor.data_ptr() % 64 == 0
