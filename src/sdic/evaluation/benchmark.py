"""Inversion methods over a folder of aligned faces: fidelity, speed, memory, and editing.

    judges = load_judges(edits)
    report = Benchmark(folder, out, create, judges, edits).run(["sdic", "e4e"])

Each image under each method is one file of results in the output folder, so a run that was stopped
goes on where it was; what was made with other settings, weights or photos is made again.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdic import __version__, images, metrics
from sdic.domains import FACES
from sdic.errors import InputError, SdicError, printable
from sdic.evaluation import editing, timing
from sdic.evaluation.editing import AttributeJudge, MeasuredEdit
from sdic.evaluation.gallery import GalleryImage
from sdic.evaluation.report import IDENTITY_PREFIX, MethodOutcome, Report, assemble
from sdic.evaluation.store import EditResult, ImageResult, Store, key_of, method_digest
from sdic.losses.perceptual import PerceptualLoss
from sdic.methods.base import INVERSION_SIZE, Inversion, Inverter
from sdic.metrics import Metric, Protocol

METRICS = ("psnr", "ssim", "ms_ssim", "mse", "st_lpips", *FACES.identity_metrics)
PROTOCOL = Protocol(INVERSION_SIZE)

# Called before each image: (method, name of the image, images done, images in all).
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Judges:
    """Who measures.

    Attributes:
        metrics: of pairs of images; those whose name begins with "id_" also judge edits.
        attributes: readers of the attributes that edits change.
        frechet: features [N,D] of images [N,3,256,256] for the Fréchet distance, or None.
    """

    metrics: tuple[Metric, ...]
    attributes: tuple[AttributeJudge, ...] = ()
    frechet: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run.

    Attributes:
        device: a torch device, on which the methods lie.
        limit: only the first so many images by name; None is all.
        pictures: images that are shown in the HTML report.
        notes: texts that the protocol states too, e.g. the generator.
        files: names of the files that methods were loaded from, by method, for the report. What is
            in them decides whether a kept result counts, not their names.
    """

    device: str = "cpu"
    limit: int | None = None
    pictures: int = 8
    notes: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def load_judges(edits: Sequence[MeasuredEdit] = (), lpips: PerceptualLoss | None = None) -> Judges:
    """All metrics, the readers of the edited attributes, and the features of the Fréchet distance.

    Args:
        edits: the edits that will be measured.
        lpips: plain LPIPS from the user's own files; without it that metric is left out.

    Raises:
        InputError: dlib is wanted and not installed.
        WeightsError: weights cannot be fetched.
    """
    chosen = [metrics.create(name) for name in METRICS]
    if lpips is not None:
        chosen.append(metrics.create("lpips", lpips))
    return Judges(
        tuple(chosen), editing.load_attribute_judges(edits), metrics.FeatureNetwork.pretrained()
    )


class Benchmark:
    """One protocol, one folder of faces, any methods.

    Args:
        folder: aligned square faces of at least 256 pixels.
        out: folder for results, pictures and reports; a run that was stopped there goes on.
        create: makes a method by its key, on the device of the settings.
        judges: who measures.
        edits: edits to be measured.
        settings: see there.

    Raises:
        InputError: the folder has no pictures, a setting is out of range, or an edit comes twice.
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        create: Callable[[str], Inverter],
        judges: Judges,
        edits: Sequence[MeasuredEdit] = (),
        settings: Settings = Settings(),
    ) -> None:
        if settings.limit is not None and settings.limit < 1:
            raise InputError(f"The limit is {settings.limit} images; give 1 or more.")
        editing.check_edits(edits)
        if not folder.is_dir():
            raise InputError(
                f"{printable(folder)} is not a folder; give a folder of aligned faces."
            )
        self.paths = images.list_images([folder])[: settings.limit]
        self.store = Store(out)
        self.create = create
        self.judges = judges
        self.edits = tuple(edits)
        self.settings = settings
        self.device = torch.device(settings.device)
        self.protocol = describe_protocol(judges, self.edits, settings)

    def run(self, method_names: Sequence[str], progress: Progress | None = None) -> Report:
        """Measure all images under all methods, or read what was measured before.

        Returns:
            The report, see `report.assemble`.

        Raises:
            InputError: a method is named twice or not known, or results cannot be written.
            WeightsError: the weights of a method cannot be fetched or read.
        """
        if not method_names or len(set(method_names)) < len(method_names):
            raise InputError(
                f"The methods are '{','.join(method_names)}'; name at least one, and each once."
            )
        outcomes = {}
        for position, name in enumerate(method_names):
            outcomes[name] = self._run_method(name, position, len(method_names), progress)
        distances = {name: self._frechet(name, outcome) for name, outcome in outcomes.items()}
        files = {"checkpoints": dict(self.settings.files)} if self.settings.files else {}
        return assemble(
            self.protocol | files,
            [printable(path.name) for path in self.paths],
            outcomes,
            self.edits,
            [metric.name for metric in self.judges.metrics],
            [judge.attribute for judge in self.judges.attributes],
            distances,
        )

    def gallery(self, report: Report) -> list[GalleryImage]:
        """Pictures of the first images, for the HTML report."""
        failed = {(failure["method"], failure["image"]) for failure in report["failures"]}
        shown = []
        for path in self.paths[: self.settings.pictures]:
            made = {
                method: {
                    label: images.read(self._picture(method, path, edit)).rgb
                    for label, edit in self._labels().items()
                }
                for method in report["methods"]
                if (method, printable(path.name)) not in failed
            }
            if made:
                photo = images.to_uint8(load_face(path))[0]
                shown.append(GalleryImage(printable(path.name), photo, made))
        return shown

    def _run_method(
        self, name: str, position: int, num_methods: int, progress: Progress | None
    ) -> MethodOutcome:
        inverter = self.create(name)
        digest = method_digest(inverter)
        method_run = _MethodRun(self, name, inverter, digest)
        results: list[ImageResult | str] = []
        for index, path in enumerate(self.paths):
            if progress is not None:
                done = position * len(self.paths) + index
                progress(name, printable(path.name), done, num_methods * len(self.paths))
            try:
                results.append(method_run.image(path, index < self.settings.pictures))
            except (SdicError, OSError) as error:
                results.append(str(error))
            except RuntimeError as error:  # what PyTorch raises, out of memory included
                lines = str(error).splitlines() or ["no message"]
                results.append(f"{type(error).__name__}: {lines[0]}")
        return MethodOutcome(digest, results)

    def _frechet(self, method: str, outcome: MethodOutcome) -> float | None:
        """Distance of the photos and their reconstructions; None for fewer than two images."""
        network = self.judges.frechet
        good = [
            path
            for path, result in zip(self.paths, outcome.results, strict=True)
            if isinstance(result, ImageResult)
        ]
        if network is None or len(good) < 2:
            return None
        with torch.no_grad():
            photos = torch.cat([network(load_face(path)) for path in good])
            made = torch.cat([network(load_face(self._picture(method, path))) for path in good])
        return metrics.frechet_distance(photos, made)

    def _labels(self) -> dict[str, MeasuredEdit | None]:
        return {"": None, **{edit.label: edit for edit in self.edits}}

    def _picture(self, method: str, path: Path, edit: MeasuredEdit | None = None) -> Path:
        return self.store.picture(method, path.name, "" if edit is None else edit.file_label)


class _MethodRun:
    """One method, image by image."""

    def __init__(self, benchmark: Benchmark, name: str, inverter: Inverter, digest: str) -> None:
        self.benchmark = benchmark
        self.store = benchmark.store
        self.name = name
        self.inverter = inverter
        self.settings = {"method": name, "weights": digest, "protocol": benchmark.protocol}
        self.warm = False

    def image(self, path: Path, shown: bool) -> ImageResult:
        """The result of one image: the one kept, or a new one that is kept.

        Raises:
            SdicError, OSError, RuntimeError: the image failed.
        """
        key = key_of(self.settings, path.read_bytes())
        kept = self.store.load(self.name, path.name, key)
        edits = self.benchmark.edits
        pictures = [self.store.picture(self.name, path.name)]
        if shown:
            labels = [edit.file_label for edit in edits]
            pictures += [self.store.picture(self.name, path.name, label) for label in labels]
        if kept is not None and all(picture.is_file() for picture in pictures):
            return kept
        face = load_face(path)
        inversion, cost = self._invert(face)
        made = rounded_to_8_bits(inversion.reconstruction)
        values: dict[str, float | None] = dict(
            measure_pair(made, face, self.benchmark.judges.metrics)
        )
        values |= {"seconds": cost.seconds, "peak_memory_mb": cost.peak_memory_mb}
        self.store.write_picture(pictures[0], images.to_uint8(made)[0])
        edit_results = {}
        edited_pictures: list[Path] | list[None] = pictures[1:] or [None] * len(edits)
        for edit, picture in zip(edits, edited_pictures, strict=True):
            edited = rounded_to_8_bits(
                self.inverter.synthesize(inversion, edit.edit, INVERSION_SIZE)
            )
            edit_results[edit.label] = self._judge_edit(edited, made, face)
            if picture is not None:
                self.store.write_picture(picture, images.to_uint8(edited)[0])
        result = ImageResult(values, edit_results)
        self.store.save(self.name, path.name, key, result)
        return result

    def _invert(self, face: Tensor) -> tuple[Inversion, timing.Cost]:
        """The inversion, with what it and the image at full resolution cost."""
        crop = face.to(self.benchmark.device)

        def work() -> Inversion:
            inversion = self.inverter.invert(crop)
            self.inverter.synthesize(inversion)
            return inversion

        # Of many steps, the first warms up the others.
        if not self.warm and not self.inverter.iterates:
            work()
        self.warm = True
        return timing.measure_cost(work, self.benchmark.device)

    def _judge_edit(self, edited: Tensor, unedited: Tensor, face: Tensor) -> EditResult:
        judges = self.benchmark.judges
        identity = [m for m in judges.metrics if m.name.startswith(IDENTITY_PREFIX)]
        with torch.no_grad():
            changes = {
                judge.attribute: float(judge.score(edited) - judge.score(unedited))
                for judge in judges.attributes
            }
        return EditResult(measure_pair(edited, face, identity), changes)


def load_face(path: Path) -> Tensor:
    """An aligned face as the protocol wants it: [1,3,256,256] in [-1,1].

    Raises:
        InputError: the file cannot be read, is not square, or smaller than 256 pixels.
    """
    return PROTOCOL.prepare(images.to_tensor(images.read(path).rgb))


def rounded_to_8_bits(made: Tensor) -> Tensor:
    """An image [1,3,H,W] on the CPU, clamped to [-1,1] and rounded to 8 bits.

    Raises:
        InputError: values are not finite, which rounding would hide.
    """
    if not torch.isfinite(made).all():
        raise InputError("The method made an image that is not finite; check its weights.")
    return images.to_tensor(images.to_uint8(made)[0])


def measure_pair(made: Tensor, face: Tensor, chosen: Sequence[Metric]) -> dict[str, float]:
    """Metrics of one pair [1,3,256,256].

    Raises:
        InputError: a value is not finite.
    """
    values = {}
    for name, value in metrics.measure(made, face, chosen, PROTOCOL).values.items():
        values[name] = float(value)
        if not math.isfinite(values[name]):
            raise InputError(
                f"The metric {name} is {values[name]} for this image; a finite value was expected. "
                "Check the weights of its network."
            )
    return values


def describe_protocol(
    judges: Judges, edits: Sequence[MeasuredEdit], settings: Settings
) -> dict[str, Any]:
    """Everything that has to be known to read the numbers; it is part of every report."""
    device = torch.device(settings.device)
    protocol: dict[str, Any] = {
        "images": f"aligned square photos, brought to {PROTOCOL}",
        "reconstruction": "the inversion at 256x256, clamped to [-1,1] and rounded to 8 bits, as "
        "a PNG would hold it",
        "seconds": "wall time of one image: encoder and whole inversion, then synthesis at full "
        "resolution; device synchronised; one image as warm-up for each method that does "
        "not iterate; reading files and judging not counted; the median is what tables show",
        "peak_memory_mb": f"MiB; {timing.memory_kind(device)}; tables show the maximum",
        "metrics": {
            metric.name: {
                "better": "higher" if metric.higher_is_better else "lower",
                "unit": metric.unit,
                "network": metric.network,
                "note": metric.note,
            }
            for metric in judges.metrics
        },
        "failures": "a failed image counts in no mean; it is named with its reason",
    }
    if judges.frechet is not None:
        protocol["frechet_lite0"] = (
            "Fréchet distance of all photos and their reconstructions on EfficientNet-lite0 "
            "features; self-consistent, not comparable with FID, and only for equal numbers of "
            "images"
        )
    if edits:
        protocol["editing"] = (
            "identity compares the edited image with the photo; change is the attribute after the "
            "edit less that of the method's own reconstruction, read by a network that labelled "
            "no direction; kept_of_e4e is the sum of changes in the direction asked for, over "
            "that of e4e on the same images; id_dlib_per_change is mean id_dlib after the edit "
            "over mean change in the direction asked for"
        )
        protocol["edits"] = {edit.label: edit.describe() for edit in edits}
        protocol["attributes"] = {
            judge.attribute: {"unit": judge.unit, "network": judge.network}
            for judge in judges.attributes
        }
    return protocol | {
        **settings.notes,
        "device": timing.device_name(device),
        "versions": f"sdic {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    }
