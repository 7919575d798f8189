"""The restricted reader of checkpoints, and strict loading."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sdic.errors import InputError, WeightsError
from sdic.weights.checkpoints import load_strict, part_of, read_checkpoint


class Payload:
    """Unpickling it makes a folder; nobody may."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Plain:
    pass


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_training_scripts_save(tmp_path, zipped):
    content = {"g_ema": {"a": torch.arange(3.0)}, "opts": argparse.Namespace(lr=0.1), "step": 7}
    path = tmp_path / "model.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    assert torch.equal(read["g_ema"]["a"], torch.arange(3.0))
    assert read["opts"].lr == 0.1
    assert read["step"] == 7


def test_reads_safetensors(tmp_path):
    save_file({"a": torch.arange(3.0)}, tmp_path / "model.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "model.safetensors")["a"], torch.arange(3.0))


@pytest.mark.parametrize("zipped", [True, False])
def test_refuses_a_file_that_wants_to_run_code(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save({"x": Payload(tmp_path / "made")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"wants to run code \(\w+\.mkdir\).*refused"):
        read_checkpoint(path)
    assert not (tmp_path / "made").exists()


def test_refuses_a_plain_pickle_that_wants_to_run_code(tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"x": Payload(tmp_path / "made")}))
    with pytest.raises(WeightsError, match=r"model\.pkl"):
        read_checkpoint(tmp_path / "model.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("thing", [Plain(), nn.Linear(2, 2)], ids=["class", "whole module"])
def test_refuses_classes_and_names_them(tmp_path, thing):
    torch.save({"x": thing}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=rf"\.{type(thing).__name__}\)"):
        read_checkpoint(tmp_path / "model.pt")


def test_namespace_is_allowed_only_while_reading(tmp_path):
    torch.save({"opts": argparse.Namespace()}, tmp_path / "model.pt")
    read_checkpoint(tmp_path / "model.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "model.pt", weights_only=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_of_any_kind_is_one_sentence(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save({"x": torch.randn(64)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for length in random.integers(0, 3 * len(whole) // 4, 20):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"model\.pt"):
            read_checkpoint(path)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(0, len(whole), 4)] = random.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            read_checkpoint(path)
        except WeightsError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.pt", b"<!DOCTYPE html><html><body>Quota exceeded</body></html>"),
        ("text.pt", b"hello world"),
        ("empty.pt", b""),
        ("page.safetensors", b"<!DOCTYPE html><html>"),
    ],
)
def test_other_files_are_no_checkpoints(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_checkpoint(tmp_path / name)


def test_a_single_tensor_is_no_checkpoint(tmp_path):
    torch.save(torch.ones(3), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="one Tensor"):
        read_checkpoint(tmp_path / "model.pt")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint file at .*absent\.pt"):
        read_checkpoint(tmp_path / "absent.pt")


def test_part_of_takes_one_network_out():
    state = {"encoder.a": torch.ones(1), "decoder.a.b": torch.zeros(1), "decoderx": torch.ones(1)}
    assert list(part_of(state, "decoder", "file")) == ["a.b"]
    with pytest.raises(WeightsError, match=r"file has no weights under 'DIP\.'.*encoder\.a"):
        part_of(state, "DIP", "file")


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_load_strict_loads_all():
    source, target = network(), network()
    assert load_strict(target, source.state_dict(), "file") == []
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_load_strict_drops_dead_keys_by_name_and_says_so():
    state = network().state_dict()
    extra = {"aff1.weight": torch.ones(1), "aff1d.weight": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"1 surplus: aff1d\.weight\."):
        load_strict(network(), {**state, **extra}, "file", dead=["aff1"])
    dropped = load_strict(network(), {**state, **extra}, "file", dead=["aff1", "aff1d.weight"])
    assert dropped == ["aff1.weight", "aff1d.weight"]


def test_load_strict_names_what_does_not_fit_and_changes_nothing():
    state = network().state_dict()
    state.pop("1.running_var")
    state["0.weight"] = torch.ones(3, 5)
    state["other"] = torch.ones(1)
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_strict(target, state, "my file")
    message = str(error.value)
    assert "my file does not fit Sequential" in message
    assert "1 missing: 1.running_var" in message
    assert "1 surplus: other" in message
    assert "0.weight is [3, 5] instead of [3, 2]" in message
    assert all(torch.equal(before[k], v) for k, v in target.state_dict().items())


def test_load_strict_shortens_long_lists():
    state = network().state_dict() | {f"extra{i:02}": torch.ones(1) for i in range(13)}
    with pytest.raises(WeightsError, match=r"13 surplus: extra00, .*extra09 and 3 more") as error:
        load_strict(network(), state, "file")
    assert "extra10" not in str(error.value)
