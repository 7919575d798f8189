"""A folder with good files, what `sdic` is asked to do with changed ones, and what must hold then.

The networks are tiny and without training (`fakes`), nothing is fetched.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import io
import json
import logging
import os
import pickle
import shlex
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from fakes import FakeDetector, fake_editor, noise_photo, write_directions
from sdic import methods
from sdic.cli import main
from sdic.encoders.compact import CompactEncoder
from sdic.errors import SdicError, WeightsError
from sdic.images.metadata import xmp_packet
from sdic.methods.sdic.compact import CompactDICN, CompactDIPN
from sdic.training import checkpoint
from sdic.training import recipe as recipes
from sdic.weights.checkpoints import read_checkpoint
from sdic.weights.exported import FORMAT
from tiny import tiny_generator

from .mutators import WORDS, mutated

HANG = 30  # seconds; the slowest good input takes one
SMALL = {"dipn": {"channels": 4, "blocks": 1, "cell": 8}, "dicn": {"channels": 4, "blocks": 1}}


class BrokenError(AssertionError):
    """What must hold does not."""


class HangError(BaseException):
    """It takes too long; no command may survive it."""


@dataclass
class World:
    """Good files in `root/in`; results go to `root/out`, and nothing may be written elsewhere.

    Attributes:
        root: a folder of its own.
        seeds: good files for each kind of input.
    """

    root: Path
    seeds: dict[str, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inputs, self.out = self.root / "in", self.root / "out"
        for folder in (self.inputs, self.root / "cwd", self.root / "seeds"):
            folder.mkdir(parents=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._make_seeds()

    def _make_seeds(self) -> None:
        self.photo = self.inputs / "good.png"
        self.directions = write_directions(self.inputs / "good-directions.safetensors")
        Image.fromarray(noise_photo()).save(self.photo)
        self.detector = FakeDetector((70, 60, 24))
        self.editor = fake_editor(self.detector)
        self.inversion = self.inputs / "good.sdic.safetensors"
        methods.save_inversion(self.editor.invert(self.photo), self.inversion)
        self.seeds = {
            "picture": list(self._pictures()),
            "inversion": [self.inversion],
            "direction": list(self._directions()),
            "checkpoint": list(self._checkpoints()),
            "recipe": list(self._recipes()),
            "run": list(self._run()),
        }
        self.kept = self.state()

    # --- good files -------------------------------------------------------------------------------

    def _seed(self, name: str) -> Path:
        return self.root / "seeds" / name

    def _pictures(self) -> Iterator[Path]:
        picture = Image.fromarray(noise_photo(100, 120, 3))
        exif = Image.Exif()
        exif[0x010E], exif[0x0112], exif[0x8825] = "a title", 6, {1: "N", 2: (1.0, 2.0, 3.0)}
        more = {"exif": exif.tobytes(), "xmp": xmp_packet(b"", "digitalCapture"), "dpi": (300, 300)}
        for name, options in {
            "p.png": {"exif": exif.tobytes(), "dpi": (300, 300)},
            "p.jpg": {**more, "quality": 70},
            "progressive.jpg": {"quality": 50, "progressive": True},
            "p.webp": {"exif": exif.tobytes(), "quality": 60},
            "p.tiff": {"compression": "tiff_lzw", "dpi": (300, 300)},
        }.items():
            picture.save(self._seed(name), **options)
            yield self._seed(name)
        Image.fromarray(noise_photo(100, 120)[..., 0].astype(np.uint16) * 257).save(
            self._seed("grey.png")
        )
        picture.quantize(16).save(self._seed("palette.png"), transparency=3)
        picture.convert("CMYK").save(self._seed("cmyk.jpg"))
        yield from map(self._seed, ("grey.png", "palette.png", "cmyk.jpg"))

    def _directions(self) -> Iterator[Path]:
        yield self.directions
        vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
        np.save(self._seed("d.npy"), vector)
        np.savez(self._seed("d.npz"), smile=vector)
        torch.save({"smile": torch.from_numpy(vector)}, self._seed("d.pt"))
        yield from map(self._seed, ("d.npy", "d.npz", "d.pt"))

    def _checkpoints(self) -> Iterator[Path]:
        self.generator = generator = tiny_generator()
        parts = {
            "encoder": CompactEncoder(generator.num_styles, generator.mean_latent),
            "dipn": CompactDIPN(**SMALL["dipn"]),
            "dicn": CompactDICN(generator.num_styles, generator.feature_shape[0], **SMALL["dicn"]),
        }
        for task, names in {"encoder": ["encoder"], "compensation": ["dipn", "dicn"]}.items():
            tensors = {
                f"{name}.{key}": value.half() if value.ndim > 1 else value
                for name in names
                for key, value in parts[name].state_dict().items()
            }
            table = recipes.load("sdic-compact").to_dict() | {"task": task}
            table["components"] = {"options": SMALL, "encoder_weights": "encoder.safetensors"}
            texts = {"format": FORMAT, "recipe": json.dumps(table), "step": "5"}
            save_file(tensors, self._seed(f"{task}.safetensors"), texts)
        (self.inputs / "encoder.safetensors").write_bytes(
            self._seed("encoder.safetensors").read_bytes()
        )
        yield self._seed("compensation.safetensors")
        content = {"state_dict": {"encoder.a": torch.ones(40), "DIP.b": torch.ones(3, 4)}, "n": 7}
        torch.save(content, self._seed("new.pt"))
        torch.save(content, self._seed("old.pt"), _use_new_zipfile_serialization=False)
        self._seed("plain.pkl").write_bytes(pickle.dumps({"a": [1.0, "x"]}, protocol=2))
        yield from map(self._seed, ("new.pt", "old.pt", "plain.pkl"))

    def _recipes(self) -> Iterator[Path]:
        for name in recipes.shipped():
            path = self._seed(f"{name}.toml")
            path.write_text(recipes._read(name))
            yield path

    def _run(self) -> Iterator[Path]:
        self.run = self.root / "run"
        extra = {"recipe": recipes.load("sdic-compact").to_dict()}
        made = checkpoint.save(self.run, 3, {"networks.dipn.a": torch.ones(30)}, extra)
        for file in sorted(made.iterdir()):
            self._seed(file.name).write_bytes(file.read_bytes())
            yield self._seed(file.name)
        self.step = made

    # --- one input --------------------------------------------------------------------------------

    def attack(self, kind: str, random: Random) -> str:
        """Change a good file of a kind, let `sdic` use it, and check what came of it.

        Returns:
            "works" or "refused".

        Raises:
            BrokenError: something does not hold.
        """
        shutil.rmtree(self.out, ignore_errors=True)
        if kind == "command line":
            return self._judged(self._line(random), {})
        files = self.seeds[kind]
        file, other = random.choice(files), random.choice(files)
        data = mutated(file.read_bytes(), random, other.read_bytes())
        target = self.inputs / f"bad{SUFFIXES.get(kind, file.suffix)}"
        if kind == "run":
            target = self.step / file.name
        words = shlex.split(random.choice(COMMANDS[kind]))
        line = [self._filled(word, target) for word in words]
        good = target.read_bytes() if target.exists() else None
        target.write_bytes(data)
        try:
            return self._judged(line, {target: data})
        finally:
            target.unlink(missing_ok=True)
            if good is not None:
                target.write_bytes(good)

    def _line(self, random: Random) -> list[str]:
        """A command line: one that works with a few words more or less, or any words."""
        files = [str(path) for path in (self.photo, self.inversion, self.directions)]
        words = [
            *(file for file in files for _ in range(5)),
            *(f"{self.directions}:smile={word}" for word in ("1", "nan", "1e9", "0:1", "", "1%")),
            *("smile=1", "age=-1", "all", "largest", "cpu", "png", "w+", "/dev/null", ".", ".."),
            *(word for word in WORDS if "\0" not in word and len(word) < 400),
        ]
        line = random.choice(VERBS).split()
        if random.random() < 0.7:
            line = shlex.split(random.choice(COMMANDS[random.choice(("picture", "inversion"))]))
            line = [self._filled(word, self.inversion) for word in line]
            if random.random() < 0.3:
                line[random.randrange(1, len(line))] = random.choice(words)
        for _ in range(random.randint(0, 4)):
            new = [random.choice(OPTIONS), random.choice(words)]
            place = random.randint(1, len(line)) if line else 0
            line[place:place] = random.choice((new, new, new[:1], new[1:]))
        # A result elsewhere is what the user asked for: here it is only asked for in `out`.
        for i, word in enumerate(line[:-1]):
            if word == "--out" and not line[i + 1].startswith(str(self.out)):
                line[i + 1] = str(self.out / random.choice(("", "x.png", "x.gif", "x.safetensors")))
            if word == "--frames" and len(line[i + 1]) > 1:
                line[i + 1] = "3"  # many are no hang, but take their time
        return [word for word in line if not word.startswith("--out=")]

    def _filled(self, word: str, bad: Path) -> str:
        names = {
            "{bad}": bad,
            "{photo}": self.photo,
            "{directions}": self.directions,
            "{inversion}": self.inversion,
            "{out}": self.out,
            "{run}": self.run,
        }
        for name, path in names.items():
            word = word.replace(name, str(path))
        return word

    def _judged(self, line: list[str], there: dict[Path, bytes]) -> str:
        """Run `sdic`, or a function of the library where the line begins with a bracket."""
        output, errors = io.StringIO(), io.StringIO()
        code = 0
        with self.sealed(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                code = call(line)
            except (SystemExit, KeyboardInterrupt) as end:
                code = end.code if isinstance(end, SystemExit) else 130
            except HangError as error:
                raise BrokenError(f"hangs: {traceback.format_exc()}") from error
            except BaseException as error:
                raise BrokenError(f"it escaped: {traceback.format_exc()}") from error
        self._check(line, 0 if code is None else code, output.getvalue(), errors.getvalue(), there)
        return "refused" if code else "works"

    def _check(
        self, line: list[str], code: object, output: str, errors: str, there: dict[Path, bytes]
    ) -> None:
        said = f"{shlex.join(line)}\nexit {code}\n{output[-3000:]}\n{errors[-6000:]}"
        if code not in (0, 1, 2):
            raise BrokenError(f"the exit code is none of its own: {said}")
        if "Traceback" in output + errors or "defect of the program" in errors:
            raise BrokenError(f"a traceback, or a defect: {said}")
        if "Warning" in errors:
            raise BrokenError(f"a warning of a library: {said}")
        if code == 1 and not errors.strip():
            raise BrokenError(f"not a word: {said}")
        if any(len(sentence) > 3000 for sentence in errors.splitlines()):
            raise BrokenError(f"a sentence that nobody reads: {said[:3000]}")
        if any(ord(sign) < 32 and sign not in "\n\t" for sign in output + errors):
            raise BrokenError(f"a name that steers the terminal: {said!r}")
        kept = {path: digest for path, digest in self.kept.items() if path not in there}
        if {path: d for path, d in self.state().items() if path not in there} != kept:
            raise BrokenError(f"files outside the output folder changed: {said}")
        if any(path.read_bytes() != data for path, data in there.items()):
            raise BrokenError(f"the input itself changed: {said}")
        for path in self.out.rglob("*") if self.out.is_dir() else []:
            check_whole(path, said)

    def state(self) -> dict[Path, str]:
        """Digests of all files but results."""
        return {
            path: hashlib.blake2b(path.read_bytes()).hexdigest()
            for folder in ("in", "cwd", "run")
            for path in (self.root / folder).rglob("*")
            if path.is_file()
        }

    @contextlib.contextmanager
    def sealed(self) -> Iterator[None]:
        """Fake networks, no fetching, a working folder of its own, and an end to all waiting."""

        def refuse(archive: object, *_: object, **__: object) -> None:
            raise WeightsError("There is no network here; connect to one.")

        def too_late(*_: object) -> None:
            raise HangError

        settings = {
            "SDIC_CACHE": str(self.root / "cache"),
            "HOME": str(self.root / "cwd"),
            "COLUMNS": "400",
        }
        before, folder = signal.signal(signal.SIGALRM, too_late), Path.cwd()
        faulthandler.dump_traceback_later(4 * HANG, exit=True, file=sys.__stderr__)
        signal.alarm(HANG)
        os.chdir(self.root / "cwd")
        try:
            with (
                mock.patch.dict(os.environ, settings),
                mock.patch("sdic.cli.options.make_editor", self._editor),
                mock.patch("sdic.generators.create", return_value=self.generator),
                mock.patch("sdic.recognition.detection.load_detector", return_value=self.detector),
                mock.patch("sdic.weights.fetching.download", refuse),
                mock.patch("sdic.cli.app.tune_allocator"),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("default")
                yield
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, before)
            os.chdir(folder)
            logging.shutdown()

    def _editor(self, engine: object, name: str) -> object:
        given = getattr(engine, "checkpoint", None)
        if given is None:
            return self.editor
        editor = fake_editor(self.detector)
        editor.inverter = methods.open_checkpoint(given, backend="eager")
        return editor


COMMANDS = {
    "picture": [
        "align {bad} --out {out}",
        "edit {bad} -e {directions}:smile=1 --out {out}",
        "edit {bad} -e {directions}:smile=1 --out {out} --format jpg",
        "invert {bad} --aligned --out {out}",
        "edit {inversion} --photo {bad} -e {directions}:smile=1 --out {out}",
    ],
    "inversion": [
        "edit {bad} -e {directions}:smile=2 --photo {photo} --out {out}",
        "edit {bad} -e {directions}:smile=2 --out {out}",
        "edit {bad} -e {directions}:smile=2 --crop --out {out}",
        "animate {bad} -e {directions}:smile=0:1 --frames 2 --out {out}/a.gif",
    ],
    "direction": [
        "edit {inversion} -e {bad}:smile=1 --crop --out {out}",
        "edit {inversion} -e {bad}=1 --crop --out {out}",
        "directions list --file {bad}",
        "directions import {bad} --name x --out {out}/d.safetensors",
    ],
    "checkpoint": [
        "[open] {bad}",
        "[read] {bad}",
        "invert {photo} --checkpoint {bad} --out {out}",
        "weights convert {bad} --out {out}/w.safetensors",
        "directions import {bad} --component 1 --out {out}/d.safetensors",
    ],
    "run": ["train export {run} --out {out}/x.safetensors"],
    "recipe": ["[recipe] {bad}", "train {bad} --out {out}/run --set steps=0"],
}
KINDS = [*COMMANDS, "command line"]
SUFFIXES = {"inversion": ".sdic.safetensors"}
VERBS = (
    *("align", "edit", "edit", "edit", "invert", "animate", "generate", "info", "x", ""),
    *("directions list", "directions import", "directions preview", "directions sefa"),
    *("weights list", "weights fetch", "weights path", "weights verify", "weights convert"),
    *("train", "train export", "train run", "benchmark", "-h", "--debug edit", "demo --out x"),
)
OPTIONS = (
    *("-e", "-e", "-e", "--edit", "--crop", "--face", "--photo", "--photos", "--format", "--json"),
    *("--checkpoint", "--method", "--generator", "--overwrite", "--aligned", "--frames", "--size"),
    *("--seed", "--device", "--backend", "--strip", "--set", "--steps", "--name", "--fps"),
    *("--refine", "--release", "--quality", "--component", "--rows", "--data", "--file", "--help"),
)
FUNCTIONS: dict[str, Callable[[Path], object]] = {
    "[open]": lambda path: methods.open_checkpoint(path, backend="eager"),
    "[read]": read_checkpoint,
    "[recipe]": recipes.load,
}


def call(line: list[str]) -> object:
    """Run `sdic`, or a function where the line begins with its name; the exit code, if it says."""
    if line and line[0] in FUNCTIONS:
        try:
            FUNCTIONS[line[0]](Path(line[1]))
        except SdicError as error:
            print(f"error: {error}".encode("unicode_escape").decode(), file=sys.stderr)
            return 1
        return 0
    with mock.patch("sys.argv", ["sdic", *line]):
        main()
    return 0


def check_whole(path: Path, said: str) -> None:
    """Raise unless a result can be read to its end by another reader.

    Raises:
        BrokenError: as said.
    """
    if path.is_dir():
        return
    if path.name.endswith(".part"):
        raise BrokenError(f"{path} was left: {said}")
    try:
        if path.suffix in (".png", ".jpg", ".webp", ".tif", ".gif"):
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                assert all(file.get_tensor(key) is not None for key in file.keys())  # noqa: SIM118
        elif path.suffix == ".json":
            json.loads(path.read_text())
    except Exception as error:
        raise BrokenError(f"{path} is half-written ({error}): {said}") from error
