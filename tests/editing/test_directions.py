import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from sdic.cli import directions as cli
from sdic.editing import library
from sdic.editing.direction import AbsoluteDirection, Direction, Edit
from sdic.editing.foreign import (
    MOBILE_FROM_STYLEGAN2,
    as_vector,
    mobile_rows,
    read_foreign,
)
from sdic.editing.measurement import measure
from sdic.editing.preview import of_latents, strengths_over, strip
from sdic.errors import InputError
from sdic.generators.mobile import MobileStyleGAN
from tiny import tiny_generator


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


def unit(seed):
    return torch.nn.functional.normalize(
        torch.randn(512, generator=torch.Generator().manual_seed(seed)), dim=0
    )


def a_direction(**changes):
    settings = {
        "name": "smile",
        "vector": unit(1),
        "generator": "mobile",
        "rows": (7, 8),
        "strength_range": (-4.0, 5.0),
        "source": "made up",
        "notes": {"plus": "smiles"},
    }
    return Direction(**{**settings, **changes})


# The file


def test_file_gives_back_every_field(tmp_path):
    path = tmp_path / "some.safetensors"
    written = [
        a_direction(),
        a_direction(name="per-row", vector=torch.randn(23, 512), rows=None),
        AbsoluteDirection("eyes", unit(2), "mobile", (10,), (0.0, 1.0), mean=unit(3), target=-2.5),
    ]
    library.save_directions(written, path)
    read = library.load_directions(path)
    assert list(read) == ["smile", "per-row", "eyes"]
    for before in written:
        after = read[before.name]
        assert type(after) is type(before)
        assert torch.equal(after.vector, before.vector)
        for field in ("rows", "strength_range", "source", "notes", "generator"):
            assert getattr(after, field) == getattr(before, field)
    assert torch.equal(read["eyes"].mean, unit(3))
    assert read["eyes"].target == -2.5


def test_merging_adds_and_replaces(tmp_path):
    path = tmp_path / "new" / "some.safetensors"
    library.merge_into(path, [a_direction()])
    library.merge_into(path, [a_direction(source="again"), a_direction(name="age")])
    read = library.load_directions(path)
    assert list(read) == ["smile", "age"]
    assert read["smile"].source == "again"


@pytest.mark.parametrize("name", ["", "Smile", "a/b", "a:b", "-a"])
def test_bad_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot name"):
        library.save_directions([a_direction(name=name)], tmp_path / "x.safetensors")


def test_a_file_is_of_one_generator_and_unique_names(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="one generator"):
        library.save_directions([a_direction(), a_direction(name="b", generator="other")], path)
    with pytest.raises(InputError, match="unique"):
        library.save_directions([a_direction(), a_direction()], path)
    with pytest.raises(InputError, match="no directions"):
        library.save_directions([], path)


def test_broken_files_are_told(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="There is no file"):
        library.load_directions(path)
    path.write_bytes(b"no tensors here")
    with pytest.raises(InputError, match="not a readable"):
        library.load_directions(path)
    save_file({"a": torch.zeros(512)}, path)
    with pytest.raises(InputError, match="not a file of directions"):
        library.load_directions(path)
    table = {"a": {"rows": None, "range": [0, 1], "source": "", "notes": {}}}
    metadata = {"format": library.FORMAT, "generator": "mobile", "directions": json.dumps(table)}
    save_file({"b": torch.zeros(512)}, path, metadata)
    with pytest.raises(InputError, match="damaged"):
        library.load_directions(path)


def test_get_finds_by_name_and_by_file(tmp_path):
    path = tmp_path / "mine.safetensors"
    library.save_directions([a_direction(), a_direction(name="age", vector=unit(5))], path)
    assert torch.equal(library.get(f"{path}:age").vector, unit(5))
    with pytest.raises(InputError, match=r"known are: age, smile"):
        library.get(str(path))
    with pytest.raises(InputError, match="was made for generator 'mobile'"):
        library.get(f"{path}:age", generator="stylegan2")
    with pytest.raises(InputError, match="There is no direction 'nothing'"):
        library.get("nothing")
    with pytest.raises(InputError, match="There is no file"):
        library.get("nothing.pt:x")
    library.save_directions([a_direction()], path)
    assert library.get(str(path)).name == "smile"


# The shipped library


def test_shipped_library_has_what_the_documents_promise():
    directions = library.load_library("mobile")
    assert len(directions) >= 20
    assert {"age", "smile", "yaw"} <= set(directions)
    assert library.load_library("unknown") == {}


@pytest.mark.parametrize("direction", library.load_library("mobile").values(), ids=lambda d: d.name)
def test_shipped_directions_are_whole(direction):
    latents = torch.zeros(2, 23, 512)
    low, high = direction.strength_range
    assert low < high
    assert low <= 0 <= high
    assert direction.vector.norm(dim=-1).max() == pytest.approx(1, abs=1e-3)
    assert direction.source
    assert {"plus", "minus", "side effects"} <= set(direction.notes)
    assert torch.equal(direction.apply(latents, 0), latents)
    moved = direction.apply(latents, 1).abs().amax(dim=(0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == list(direction.rows or range(23))


# Applying


def test_strength_zero_gives_the_same_latents_bit_for_bit():
    latents = torch.randn(2, 23, 512)
    absolute = AbsoluteDirection("eyes", unit(2), "mobile", (10,), mean=unit(3), target=9.0)
    for direction in (a_direction(), a_direction(rows=None), absolute):
        assert torch.equal(Edit.of(direction, 0.0).apply(latents), latents)


def test_rows_that_the_latents_lack_are_told():
    with pytest.raises(InputError, match="touches rows up to 30"):
        a_direction(rows=(2, 30)).apply(torch.zeros(1, 23, 512), 1.0)


def test_absolute_rule_reaches_its_coordinate_whatever_the_start():
    # The published rule, written out: delta = (strength - c) * component * std, c from row 0.
    mean, component, std, strength = unit(1), unit(2), 0.7, 20.0
    latents = torch.randn(3, 23, 512)
    direction = AbsoluteDirection(
        "eyes", component, "mobile", (7, 8), mean=mean, target=strength * std
    )
    edited = direction.apply(latents, 1.0)
    for sample in range(3):
        coordinate = float((latents[sample, 0] - mean) @ component) / std
        delta = (strength - coordinate) * component * std
        assert torch.allclose(edited[sample, 7:9], latents[sample, 7:9] + delta, atol=1e-4)
    untouched = [row for row in range(23) if row not in (7, 8)]
    assert torch.equal(edited[:, untouched], latents[:, untouched])
    same = latents[:, :1].expand(-1, 23, -1)
    reached = (direction.apply(same, 1.0)[:, 7] - mean) @ component
    assert reached == pytest.approx([strength * std] * 3, abs=1e-4)


# Files of others


@pytest.mark.parametrize("shape", [(512,), (1, 512), (18, 512), (1, 18, 512)])
@pytest.mark.parametrize("kind", ["npy", "pt", "pt-dict"])
def test_foreign_vectors_of_equal_rows_load(tmp_path, shape, kind):
    vector = unit(4).expand(shape).contiguous()
    path = tmp_path / f"Age.{kind[:3].strip('-')}"
    if kind == "npy":
        np.save(path, vector.numpy())
    else:
        torch.save({"boundary": vector} if kind == "pt-dict" else vector, path)
    direction = read_foreign(path)
    assert direction.name == "age"
    assert torch.equal(direction.vector, unit(4))
    assert torch.equal(library.get(str(path)).vector, unit(4))


def test_a_foreign_vector_of_safetensors_loads(tmp_path):
    save_file({"boundary": unit(4)}, tmp_path / "age.safetensors")
    assert torch.equal(read_foreign(tmp_path / "age.safetensors").vector, unit(4))


def test_eighteen_different_rows_go_to_the_same_layers(tmp_path):
    np.save(tmp_path / "rows.npy", torch.arange(1, 19).float()[:, None].expand(18, 512).numpy())
    values = read_foreign(tmp_path / "rows.npy").vector[:, 0].tolist()
    # Row 2k-1 and 2k of StyleGAN2 make the side 4*2**k; block i of the other makes 8*2**i.
    for block in range(7):
        level = block + 1
        assert values[3 * block + 1] == 1 + 2 * level - 1
        assert values[3 * block + 2] == 1 + 2 * level
    assert values[0] == 1
    assert values[22] == 0
    assert len(MOBILE_FROM_STYLEGAN2) == MobileStyleGAN().num_styles == 23


def test_rows_of_edit_tuples_go_to_the_same_layers():
    assert mobile_rows([7]) == (10,)  # first convolution at 64x64
    assert mobile_rows(range(0, 4)) == (0, 1, 2, 4)
    with pytest.raises(InputError, match="no counterpart"):
        mobile_rows([17])


class Surprise:
    def __reduce__(self):
        return (print, ("code from a file ran",))


def test_pickled_objects_are_refused(tmp_path, capsys):
    torch.save({"boundary": Surprise()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Surprise()))
    np.save(tmp_path / "c.npy", np.array([Surprise()], dtype=object), allow_pickle=True)
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "e.safetensors").write_bytes(bytes(40))
    for name in ("a.pt", "b.pt", "c.npy", "d.npz", "e.safetensors"):
        with pytest.raises(InputError, match="plain tensors"):
            read_foreign(tmp_path / name)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(511),
        torch.ones(2, 3, 512),
        torch.tensor(1.0),
        torch.zeros(512),
        torch.full((512,), float("nan")),
    ],
)
def test_vectors_of_other_shapes_or_without_length_are_refused(tensor):
    with pytest.raises(InputError, match=r"expected 512|has a length"):
        as_vector(tensor, "a file")


def test_several_tensors_ask_for_a_key(tmp_path):
    torch.save({"a": unit(1), "b": unit(2)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="choose one of: a, b"):
        read_foreign(tmp_path / "x.pt")
    assert torch.equal(read_foreign(tmp_path / "x.pt", key="b").vector, unit(2))


# Strips and measurements


def test_strip_shows_each_strength_of_each_sample(generator):
    latents = generator.broadcast(generator.sample(2, seed=0))
    direction = a_direction(rows=None)
    sheet = strip(of_latents(generator, latents, 64), direction, [-40.0, 0.0, 40.0])
    assert sheet.width == 3 * 64
    pixels = np.asarray(sheet)[-128:]
    plain = generator(latents, size=64).clamp(-1, 1)[1].permute(1, 2, 0)
    expected = ((plain + 1) * 127.5).round().byte().numpy()
    assert np.array_equal(pixels[64:, 64:128], expected)
    assert not np.array_equal(pixels[64:, :64], expected)
    with pytest.raises(InputError, match="at least one strength"):
        strip(of_latents(generator, latents, 64), direction, [])


def test_strengths_span_the_range_and_hold_zero():
    assert strengths_over(a_direction(strength_range=(-4.0, 4.0))) == [-4, -2, 0, 2, 4]
    steps = strengths_over(a_direction(strength_range=(-4.0, 5.0)))
    assert steps[0] == -4
    assert steps[-1] == 5
    assert 0.0 in steps
    with pytest.raises(InputError, match="at least 2"):
        strengths_over(a_direction(), 1)


def test_measured_change_is_the_change_of_the_images(generator):
    latents = generator.broadcast(generator.sample(3, seed=1))
    direction = a_direction(rows=None)
    scorers = {"red": lambda images: images[:, 0].mean((1, 2))}
    changes = measure(generator, direction, latents, [0.0, 30.0], scorers)["red"]

    def red(w_plus):
        return generator(w_plus, size=256).clamp(-1, 1)[:, 0].mean()

    assert changes[0] == 0
    expected = red(direction.apply(latents, 30.0)) - red(latents)
    assert changes[1] == pytest.approx(float(expected), abs=1e-5)
    with pytest.raises(InputError, match="at least one sample"):
        measure(generator, direction, latents[:0], [1.0], scorers)


# The command


@pytest.fixture
def run(monkeypatch, generator):
    monkeypatch.setattr("sdic.generators.create", lambda name, checkpoint=None: generator)
    monkeypatch.setattr("sdic.runtime.backends.accelerate", lambda generator, *_: generator)

    def call(*arguments):
        result = CliRunner().invoke(cli.directions_app, [str(a) for a in arguments])
        if isinstance(result.exception, InputError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def test_list_and_show_tell_the_library(run):
    names = [entry["name"] for entry in json.loads(run("list", "--json"))]
    assert names == list(library.load_library())
    assert "smile" in run("list")
    shown = json.loads(run("show", "smile", "--json"))
    assert shown["source"] == library.get("smile").source


def test_made_directions_are_saved_and_previewed(run, tmp_path):
    out = tmp_path / "made.safetensors"
    run("ganspace", "--out", out, "--samples", 2000, "--count", 3, "--rows", "0-2,4")
    run("sefa", "--out", out, "--count", 2, "--rows", "1,2")
    made = library.load_directions(out)
    assert list(made) == ["ganspace-0", "ganspace-1", "ganspace-2", "sefa-1-2-0", "sefa-1-2-1"]
    assert made["ganspace-0"].rows == (0, 1, 2, 4)
    picture = tmp_path / "strip.png"
    run(
        *("preview", f"{out}:sefa-1-2-0", "--out", picture, "--samples", 1),
        *("--strengths=-2,0,2", "--size", 64),
    )
    assert Image.open(picture).width == 3 * 64


def test_import_takes_vectors_and_edit_tuples(run, tmp_path):
    out = tmp_path / "mine.safetensors"
    np.save(tmp_path / "pose.npy", unit(7).numpy())
    torch.save(
        {"mean": unit(1)[None], "comp": unit(2).expand(60, 1, 512), "std": torch.full((60,), 0.5)},
        tmp_path / "pca.pt",
    )
    run("import", tmp_path / "pose.npy", "--out", out)
    run(
        *("import", tmp_path / "pca.pt", "--out", out, "--name", "eyes"),
        *("--component", 54, "--first", 7, "--last", 8, "--strength", 20),
    )
    read = library.load_directions(out)
    assert torch.equal(read["pose"].vector, unit(7))
    assert read["eyes"].rows == (10,)
    assert read["eyes"].target == 10.0


@pytest.mark.parametrize(("text", "rows"), [("3", (3,)), ("0-2", (0, 1, 2)), ("8, 4-5", (4, 5, 8))])
def test_rows_are_read_and_written(text, rows):
    assert cli.parse_rows(text) == rows
    assert cli.parse_rows(cli.format_rows(rows)) == rows


@pytest.mark.parametrize("text", ["", "a", "1-", "5-3", "1,,2"])
def test_bad_rows_are_told(text):
    with pytest.raises(InputError, match="names no rows"):
        cli.parse_rows(text)
