"""The checkpoint's files: small, whole, checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sdic.errors import TrainingError
from sdic.training import checkpoint


def test_tensors_of_every_kind_come_back_in_pieces_of_16_mb(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    tensors = {
        "large": torch.randn(5_000_001, generator=random).view(1, -1),  # 20 MB: cut in two
        "medium": torch.randn(3, 1_000_000, generator=random),
        "half": torch.randn(7, generator=random).half(),
        "brain": torch.randn(4, 2, generator=random).bfloat16(),
        "count": torch.tensor(3),
        "empty": torch.empty(0, 4),
        "last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }
    extra = {"numbers": [0.1, 1e-300, 7], "text": "µ"}
    path = checkpoint.save(tmp_path, 12, tensors, extra)
    sizes = [file.stat().st_size for file in path.glob("*.safetensors")]
    assert len(sizes) == 3
    assert max(sizes) <= 16_000_000
    assert checkpoint.latest(tmp_path) == path
    step, loaded, loaded_extra = checkpoint.load(path)
    assert (step, loaded_extra) == (12, extra)
    assert loaded.keys() == tensors.keys()
    for key, value in tensors.items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value)


def test_only_the_newest_checkpoint_stays(tmp_path: Path) -> None:
    for step in (9, 10, 100_000_000):
        path = checkpoint.save(tmp_path, step, {"a": torch.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == [path]
    assert checkpoint.load(path)[0] == 100_000_000


def test_an_unfinished_checkpoint_counts_for_nothing(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"a": torch.zeros(1)}, {})
    (tmp_path / ".checkpoint-00000002.partial").mkdir()
    (tmp_path / ".checkpoint-00000000.old").mkdir()  # what an interrupted removal may leave
    assert checkpoint.latest(tmp_path) == path
    assert checkpoint.latest(tmp_path / "nowhere") is None
    path = checkpoint.save(tmp_path, 1, {"a": torch.zeros(1)}, {})  # the same step again
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_without_its_index_is_damage_and_no_new_start(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, {"a": torch.zeros(1)}, {})
    (path / "index.json").unlink()
    with pytest.raises(TrainingError, match=r"checkpoint-00000007 has no index\.json"):
        checkpoint.latest(tmp_path)


WHOLE = {"format": 1, "step": 1, "pieces": {}, "tensors": {}, "extra": {}}


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "null",
        "{}",
        '"text"',
        "[" * 100_000,
        "9" * 6000,
        "\ud800",
        *(json.dumps({k: v for k, v in WHOLE.items() if k != key}) for key in WHOLE),
        json.dumps(WHOLE | {"step": None}),
        json.dumps(WHOLE | {"step": float("inf")}),
        json.dumps(WHOLE | {"pieces": []}),
        json.dumps(WHOLE | {"pieces": {"/dev/zero": ""}}),
        json.dumps(WHOLE | {"tensors": {"a": [[1], 10**12]}}),
        json.dumps(WHOLE | {"tensors": {"a": 3}}),
        json.dumps(WHOLE | {"extra": 3}),
        json.dumps(WHOLE | {"format": 2}),
    ],
)
def test_a_changed_index_is_one_sentence(tmp_path: Path, index: str) -> None:
    path = checkpoint.save(tmp_path, 1, {"a": torch.zeros(8)}, {})
    (path / "index.json").write_bytes(index.encode("utf-8", "surrogatepass"))
    with pytest.raises(TrainingError, match=r"cannot be read|Update sdic") as raised:
        checkpoint.load(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"a": torch.zeros(8)}, {})
    piece = path / "piece-000.safetensors"
    piece.write_bytes(piece.read_bytes()[:-1] + b"\1")
    with pytest.raises(TrainingError, match=r"piece-000\.safetensors is damaged"):
        checkpoint.load(path)
    piece.unlink()
    with pytest.raises(TrainingError, match="cannot be read"):
        checkpoint.load(path)
