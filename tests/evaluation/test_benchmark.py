"""`sdic benchmark` with a fast stand-in for methods and small generated pictures, no weights."""

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from typer.testing import CliRunner

from fakes import FakeInverter
from rounding import close
from sdic import evaluation, metrics
from sdic.cli import benchmark as command
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError
from sdic.evaluation import Benchmark, Judges, Settings, make_probe, tables
from sdic.evaluation.editing import AttributeJudge, kept_share
from sdic.evaluation.store import key_of, weights_digest
from sdic.generators.base import Generator
from sdic.losses import LossWeights
from sdic.methods.base import Inversion, Inverter
from sdic.methods.optimisation import PRESETS, Optimisation
from sdic.metrics import Metric
from tiny import tiny_generator

NAMES = ["a.png", "b.png", "c.png"]
BRIGHTER = torch.eye(512)[0]


class Painter(Generator):
    """Latents' first value is the brightness of an image of 512x512; F is a 4x4 grey picture."""

    name, num_styles, resolution, feature_shape = "painter", 2, 512, (3, 4, 4)

    def __init__(self):
        super().__init__()
        self.register_buffer("mean_latent", torch.zeros(512))

    def mapping(self, z):
        return z

    def to_features(self, w_plus):
        return w_plus[:, 0, :1, None, None].expand(-1, *self.feature_shape)

    def from_features(self, features, w_plus, size=None):
        return F.interpolate(features, size=(self.check_size(size),) * 2, mode="nearest")

    def styles(self, w_plus):
        return w_plus.flatten(1)


class Fake(Inverter):
    """Keeps the mean colour of each of 4x4 cells, and a share of what an edit does."""

    name = "fake"

    def __init__(self, gain=1.0):
        super().__init__(Painter())
        self.linear = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.linear.weight, gain)
        torch.nn.init.zeros_(self.linear.bias)
        self.gains = {"age": gain}
        self.inverted = 0

    @property
    def networks(self):
        return {"linear": self.linear}

    def invert(self, images, progress=None):
        self.inverted += 1
        latents = images.new_zeros(len(images), 2, 512)
        cells = F.adaptive_avg_pool2d(images, 4)
        made = self.generator.from_features(cells, latents, 256)
        return Inversion(self.name, "painter", latents, latents, cells, made)


def brightness(images):
    return images.mean((1, 2, 3))


def judges():
    distance = Metric(
        "id_dlib", lambda a, b: (a - b).abs().mean((1, 2, 3)), False, network="stand-in"
    )
    return Judges(
        (*(metrics.create(name) for name in ("psnr", "mse", "ms_ssim")), distance),
        (AttributeJudge("age", "years", "stand-in", lambda images: 10 * brightness(images)),),
        lambda images: F.adaptive_avg_pool2d(images, 2).flatten(1),
    )


def probes():
    direction = Direction("age", BRIGHTER, "painter")
    return [make_probe(direction, 0.1), make_probe(direction, -0.1)]


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    faces = tmp_path / "faces"
    faces.mkdir()
    for side, name in zip((256, 512, 300), NAMES, strict=True):
        cells = random.integers(40, 216, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC).save(faces / name)
    return faces


class Shelf:
    """Makes methods and keeps them; e4e does all of an edit, sdic .8 of it."""

    def __init__(self):
        self.made = {}

    def __call__(self, name):
        self.made[name] = Fake(1.0 if name == "e4e" else 0.8)
        return self.made[name]


def run(folder, out, shelf, names=("sdic", "e4e"), **settings):
    benchmark = Benchmark(folder, out, shelf, judges(), probes(), Settings(**settings))
    report = benchmark.run(names)
    return benchmark, report


def test_report_has_the_published_schema(folder, tmp_path):
    _, report = run(folder, tmp_path / "out", Shelf())
    assert report["images"] == NAMES
    assert list(report["results"]) == ["sdic", "e4e"]
    names = {"psnr", "mse", "ms_ssim", "id_dlib", "seconds", "peak_memory_mb"}
    for results in report["results"].values():
        assert set(results) == names
        for summary in results.values():
            assert len(summary["per_image"]) == 3
            assert summary["mean"] == pytest.approx(np.mean(summary["per_image"]))
            assert summary["median"] == pytest.approx(np.median(summary["per_image"]))
    assert report["failures"] == []
    assert "warm-up" in report["protocol"]["seconds"]
    assert report["sets"]["sdic"]["frechet_lite0"] > 0
    assert set(report["editing"]["sdic"]) == {"age=+0.1", "age=-0.1"}


def test_numbers_are_those_of_the_picture_as_a_file_holds_it(folder, tmp_path):
    _, report = run(folder, tmp_path / "out", Shelf())
    photo = np.asarray(Image.open(folder / "b.png")).astype(float) / 127.5 - 1
    photo = photo.reshape(256, 2, 256, 2, 3).mean((1, 3))
    made = np.asarray(Image.open(tmp_path / "out/pictures/e4e/b.png.png")).astype(float) / 127.5 - 1
    expected = ((photo - made) ** 2).mean()
    assert report["results"]["e4e"]["mse"]["per_image"][1] == pytest.approx(expected, rel=1e-4)
    psnr = 10 * np.log10(4 / expected)
    assert report["results"]["e4e"]["psnr"]["per_image"][1] == pytest.approx(psnr, abs=1e-3)


def test_edits_are_measured_against_the_own_reconstruction(folder, tmp_path):
    _, report = run(folder, tmp_path / "out", Shelf())
    for label, sign in (("age=+0.1", 1), ("age=-0.1", -1)):
        entry = report["editing"]["sdic"][label]
        assert entry["attribute"] == "age"
        assert entry["change"]["mean"] == pytest.approx(sign * 10 * 0.08, abs=0.02)
        assert entry["id_dlib_per_change"] == pytest.approx(
            entry["id_dlib"]["mean"] / (sign * entry["change"]["mean"])
        )
        assert entry["kept_of_e4e"] == pytest.approx(0.8, abs=0.02)
    assert report["kept_of_e4e"]["sdic"]["age"] == pytest.approx(0.8, abs=0.02)
    assert report["kept_of_e4e"]["e4e"]["age"] == 1


def test_a_run_that_was_stopped_goes_on_and_reports_the_same(folder, tmp_path):
    class Stopped(Fake):
        def invert(self, images, progress=None):
            if self.inverted == 3:  # warm-up and two images
                raise KeyboardInterrupt
            return super().invert(images)

    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", lambda name: Stopped(0.8), ["sdic"])
    shelf = Shelf()
    _, resumed = run(folder, tmp_path / "out", shelf, ["sdic"])
    assert shelf.made["sdic"].inverted == 2  # warm-up and the third image
    shelf = Shelf()
    _, again = run(folder, tmp_path / "out", shelf, ["sdic"])
    assert shelf.made["sdic"].inverted == 0
    assert again == resumed
    _, fresh = run(folder, tmp_path / "fresh", Shelf(), ["sdic"])
    for report in (resumed, fresh):
        del report["results"]["sdic"]["seconds"], report["results"]["sdic"]["peak_memory_mb"]
    assert resumed == fresh


def test_a_method_that_iterates_is_not_run_twice_to_warm_up(folder, tmp_path):
    class Descent(Fake):
        iterates = True

    made = Descent()
    run(folder, tmp_path / "out", lambda name: made, ["sdic"])
    assert made.inverted == 3


@pytest.mark.parametrize("change", ["photo", "weights", "settings", "picture"])
def test_what_was_made_otherwise_is_made_again(folder, tmp_path, change):
    shelf = Shelf()
    run(folder, tmp_path / "out", shelf, ["sdic"])
    settings = {}
    if change == "photo":
        Image.new("RGB", (256, 256), (90, 80, 70)).save(folder / "a.png")
    elif change == "weights":
        shelf = lambda name: shelf_made.setdefault(name, Fake(0.7))  # noqa: E731
        shelf_made = {}
    elif change == "settings":
        settings = {"notes": {"generator": "another"}}
    else:
        (tmp_path / "out/pictures/sdic/a.png.png").unlink()
    run(folder, tmp_path / "out", shelf, ["sdic"], **settings)
    made = shelf_made if change == "weights" else shelf.made
    expected = {"photo": 2, "weights": 4, "settings": 4, "picture": 2}
    assert made["sdic"].inverted == expected[change]  # the warm-up counts


def test_a_failed_image_is_named_and_counts_in_no_mean(folder, tmp_path):
    Image.new("RGB", (300, 256)).save(folder / "b.png")

    class Fails(Fake):
        def invert(self, images, progress=None):
            if self.inverted == 2:
                raise RuntimeError("out of memory\nand more")
            return super().invert(images)

    shelf = {"sdic": Fails(0.8), "e4e": Fake()}
    benchmark, report = run(folder, tmp_path / "out", shelf.__getitem__)
    failures = [(f["method"], f["image"]) for f in report["failures"]]
    assert failures == [("sdic", "b.png"), ("sdic", "c.png"), ("e4e", "b.png")]
    assert report["failures"][1]["reason"] == "RuntimeError: out of memory"
    assert "Square images" in report["failures"][0]["reason"]
    psnr = report["results"]["sdic"]["psnr"]
    assert psnr["per_image"] == [psnr["mean"], None, None]
    assert report["sets"]["sdic"]["frechet_lite0"] is None
    assert report["kept_of_e4e"]["sdic"]["age"] == pytest.approx(0.8, abs=0.02)
    evaluation.write_reports(report, benchmark.gallery(report), tmp_path / "out")
    for name in ("report.md", "report.csv", "report.html"):
        text = (tmp_path / "out" / name).read_text("utf-8")
        assert "RuntimeError: out of memory" in text
        assert "c.png" in text


def test_an_image_that_is_not_finite_is_a_failure(folder, tmp_path):
    class Broken(Fake):
        def invert(self, images, progress=None):
            inversion = super().invert(images)
            return replace(inversion, reconstruction=inversion.reconstruction * float("nan"))

    (folder / "c.png").unlink()
    _, report = run(folder, tmp_path / "out", lambda name: Broken(), ["sdic"])
    assert len(report["failures"]) == 2
    assert "not finite" in report["failures"][0]["reason"]


def test_all_reports_hold_the_protocol_and_the_page_is_self_contained(folder, tmp_path):
    benchmark, report = run(folder, tmp_path / "out", Shelf(), pictures=2)
    evaluation.write_reports(report, benchmark.gallery(report), tmp_path / "out")
    assert json.loads((tmp_path / "out/report.json").read_text("utf-8")) == report
    for name in ("report.md", "report.csv", "report.html"):
        text = (tmp_path / "out" / name).read_text("utf-8")
        assert "rounded to 8 bits" in text
        assert "stand-in" in text
    page = (tmp_path / "out/report.html").read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    # Of 2 images under 2 methods: photo, reconstruction, error map and two edits.
    assert len(sources) == 2 * 2 * 5
    assert all(source.startswith("data:image/webp") for source in sources)
    assert {"Quality against time: psnr", "Fidelity against editability: psnr"} <= set(
        re.findall(r"<svg[^>]*><title>([^<]*)", page)
    )


def test_csv_holds_every_value(folder, tmp_path):
    _, report = run(folder, tmp_path / "out", Shelf())
    rows = list(csv.DictReader(io.StringIO(tables.csv_text(report))))
    assert set(rows[0]) == set(tables.CSV_COLUMNS)
    found = [
        float(row["value"])
        for row in rows
        if (row["kind"], row["method"], row["metric"]) == ("reconstruction", "e4e", "psnr")
        and row["image"]
    ]
    assert found == report["results"]["e4e"]["psnr"]["per_image"]
    kept = [row for row in rows if row["metric"] == "kept_of_e4e" and row["method"] == "sdic"]
    assert [float(row["value"]) for row in kept] == pytest.approx([0.8, 0.8], abs=0.02)


def test_kept_share_by_hand():
    # Towards +: 1 of 2 and 3 of 4; towards -: the change of -2 against -4 counts as 2 of 4.
    changes = [[1.0, 3.0, None], [-2.0, 9.0, 1.0]]
    reference = [[2.0, 4.0, 5.0], [-4.0, None, 0.0]]
    assert kept_share(changes, reference, [2, -2]) == pytest.approx((1 + 3 + 2 - 1) / (2 + 4 + 4))
    assert kept_share([[1.0]], [[0.0]], [1]) is None


def test_keys_depend_on_settings_and_photo_and_digests_on_weights():
    assert len({key_of({"a": 1}, b"x"), key_of({"a": 2}, b"x"), key_of({"a": 1}, b"y")}) == 3
    assert weights_digest(Fake(0.5)) == weights_digest(Fake(0.5)) != weights_digest(Fake(0.6))


def test_wrong_requests_are_told(folder, tmp_path):
    with pytest.raises(InputError, match="each once"):
        run(folder, tmp_path / "out", Shelf(), ["sdic", "sdic"])
    with pytest.raises(InputError, match="give 1 or more"):
        run(folder, tmp_path / "out", Shelf(), limit=0)
    with pytest.raises(InputError, match="asked for twice"):
        Benchmark(folder, tmp_path, Shelf(), judges(), probes() + probes()[:1])
    with pytest.raises(InputError, match="not a folder"):
        run(folder / "a.png", tmp_path / "out", Shelf())
    with pytest.raises(InputError, match="other than 0"):
        make_probe(Direction("age", BRIGHTER, "painter"), 0)
    with pytest.raises(InputError, match="no place"):
        command.results_folder(None, None)


def test_options(tmp_path, monkeypatch):
    assert evaluation.parse_method("sdic", 3) == ("sdic", 3)
    assert evaluation.parse_method("optimisation-w++50") == ("optimisation-w+", 50)
    assert evaluation.parse_method("optimisation-w+") == ("optimisation-w+", 0)
    direction = Direction("smile", BRIGHTER, "mobile", strength_range=(-3.0, 0.0))
    monkeypatch.setattr(command.library, "get", lambda name, generator: direction)
    found = command.make_probes("smile=+2,smile=-2", editing=False, generator="mobile")
    assert [(p.label, p.attribute) for p in found] == [
        ("smile=+2", "happiness"),
        ("smile=-2", "happiness"),
    ]
    assert [p.label for p in evaluation.probes_of_range([direction])] == ["smile=-3"]


def test_checkpoints_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("e.pt", "o.st", "all.pt"):
        (tmp_path / name).touch()
    files = command.parse_checkpoints(["e4e=e.pt", "own=o.st", "all.pt"], ["sdic", "own+5"])
    assert {k: str(v) for k, v in files.items()} == {"e4e": "e.pt", "own": "o.st", "": "all.pt"}
    with pytest.raises(InputError, match="Two checkpoints"):
        command.parse_checkpoints(["e.pt", "all.pt"], ["sdic"])
    with pytest.raises(InputError, match=r"no checkpoint file at gone\.st"):
        command.parse_checkpoints(["own=gone.st"], ["own"])
    with pytest.raises(InputError, match=r"'onw=o\.st' belongs to none of the methods; add 'onw'"):
        command.parse_checkpoints(["onw=o.st"], ["sdic"])
    with pytest.raises(InputError, match="no method 'own'"):
        command.parse_checkpoints([], ["sdic", "own"])


def test_a_file_of_the_users_is_a_method_under_its_name(folder, tmp_path, monkeypatch):
    (tmp_path / "o.st").touch()
    monkeypatch.setattr(Painter, "name", "mobile")
    opened = Fake(0.5)
    monkeypatch.setattr(command.methods, "create", lambda name, *_, **__: Fake())
    monkeypatch.setattr(command.methods, "open_checkpoint", lambda path, **_: opened)
    monkeypatch.setattr(command.evaluation, "load_judges", lambda *_: judges())
    app = typer.Typer()
    app.command()(command.benchmark)

    def call(*more):
        options = ["--json", str(tmp_path / "r.json"), "--device", "cpu", "--limit", "2", *more]
        named = ["--checkpoint", f"own={tmp_path / 'o.st'}", "--methods", "e4e,own"]
        return CliRunner().invoke(app, [str(folder), *named, *options])

    assert call().exit_code == 0
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert list(report["results"]) == ["e4e", "own"]
    assert report["protocol"]["checkpoints"] == {"own": "o.st"}
    assert opened.inverted == 3  # the warm-up counts
    opened.generator.name = "cars"
    result = call()
    assert isinstance(result.exception, InputError)
    assert "measure it by a run with --generator cars" in str(result.exception)


def test_a_refined_method_comes_closer_and_edits_by_the_methods_own_rule():
    inverter = FakeInverter(tiny_generator())
    inverter.release = 0.3
    images = 0.5 * torch.tanh(torch.randn(1, 3, 1, 1, generator=torch.manual_seed(4)))
    images = images.expand(1, 3, 256, 256).contiguous()
    settings = replace(PRESETS["optimisation-f"], weights=LossWeights(1.0, 0.0, 0.0, 0.0, 0.0))
    refined = evaluation.Refined(inverter, Optimisation(inverter.generator, settings), 15)
    before, after = inverter.invert(images), refined.invert(images)
    errors = [(v.reconstruction - images).square().mean() for v in (before, after)]
    assert errors[1] < 0.8 * errors[0]
    assert after.metadata["refined_steps"] == "15"
    edit = Edit.of(Direction("age", BRIGHTER, "mobile"), 2.0)
    close(refined.synthesize(after, edit, 256), inverter.synthesize(after, edit, 256))
    assert (refined.release, refined.networks) == (0.3, inverter.networks)


def test_command(folder, tmp_path, monkeypatch):
    shelf = Shelf()
    monkeypatch.setattr(Painter, "name", "mobile")
    monkeypatch.setattr(command.methods, "create", lambda name, *_, **__: shelf(name))
    monkeypatch.setattr(command.evaluation, "load_judges", lambda *_: judges())
    app = typer.Typer()
    app.command()(command.benchmark)

    def call():
        options = ["--json", str(tmp_path / "r.json"), "--device", "cpu", "--limit", "2"]
        return CliRunner().invoke(app, [str(folder), *options], catch_exceptions=False)

    result = call()
    assert result.exit_code == 0
    assert "## Protocol" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["images"] == NAMES[:2]
    assert report["protocol"]["generator"] == "mobile"
    assert (tmp_path / "r" / "report.html").is_file()
    Image.new("RGB", (10, 10)).save(folder / "a.png")
    assert call().exit_code == 1
