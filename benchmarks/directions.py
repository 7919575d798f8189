"""What each direction changes, and what it costs in identity, by networks that judge.

    python benchmarks/directions.py --out FOLDER [--file FILE] [--samples 40] [--seeds 1]
    python benchmarks/directions.py --out FOLDER --faces DIR

Samples are rendered at 256x256, aligned photos are inverted and edited by the default method, both
with OpenVINO in bfloat16. Each is kept as numbers in FOLDER, one file for each, so that a run that
was stopped goes on where it was; another choice of directions or strengths wants another folder.
The table at the end has, for each direction: slope of its own attribute by least squares through 0
with its standard error over the samples, changes of all attributes (log-odds for expressions and
gender), the distance between descriptors of dlib before and after the edit, and the strengths at
which that distance passes dlib's own limit (0.6) and the mean between different people. Beards,
glasses and the measures of pixels (`editing/scorers.py`) are their own judge.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import table
from torch import Tensor

from sdic import generators, images, methods, recognition
from sdic.editing import library, scorers
from sdic.editing.direction import Direction, Edit
from sdic.editing.samples import SIZE, Scorer
from sdic.evaluation.benchmark import load_face
from sdic.runtime.backends import accelerate

ATTRIBUTES = (
    "gender",
    "age",
    "happiness",
    "surprise",
    "anger",
    "yaw",
    "pitch",
    "mouth-open",
    "eyes-open",
)
OWN_JUDGES = ("beard", "glasses", "brightness", "light-side", "warmth")
BACKEND = "openvino-bf16"
HAPPINESS = "happiness"
ATTRIBUTE_OF = {"smile": HAPPINESS}
# Happiness below the one and above the other counts as clear; of the probability, not its log-odds.
UNHAPPY, HAPPY = 0.2, 0.8
IDENTITY = "identity"
SAME_PERSON_LIMIT = 0.6  # distance below which dlib calls two faces one person
NO_EDIT = Edit(())

Strengths = Mapping[str, Sequence[float]]  # of each direction
Render = Callable[[Edit], Tensor]  # an edit to the edited image [1,3,256,256]


def samples(count: int, seeds: Sequence[int], truncation: float) -> Iterator[tuple[str, Render]]:
    """Generated faces by name."""
    generator = accelerate(generators.create("mobile"), BACKEND)
    for seed in seeds:
        for number, w in enumerate(generator.sample(count, seed, truncation)):
            latents = generator.broadcast(w[None])
            name = f"{seed}-{number:04d}"
            yield name, lambda edit, latents=latents: generator(edit.apply(latents), SIZE)


def photos(folder: Path) -> Iterator[tuple[str, Render]]:
    """The aligned photos of a folder by name, inverted when their first image is asked for."""
    inverter = methods.create(backend=BACKEND)
    for path in images.list_images([folder]):
        inverted: list[methods.Inversion] = []

        def render(
            edit: Edit, path: Path = path, inverted: list[methods.Inversion] = inverted
        ) -> Tensor:
            if not inverted:
                inverted.append(inverter.invert(load_face(path)))
            return inverter.synthesize(inverted[0], edit, SIZE)

        yield path.stem, render


def measure(
    render: Render,
    directions: Mapping[str, Direction],
    strengths: Strengths,
    judges: Mapping[str, Scorer],
    recogniser: recognition.Recogniser,
) -> dict[str, list[list[float]]]:
    """For each score: a row for each direction with the value at 0 and at each strength."""
    edits, rows = [NO_EDIT], []
    for name, direction in directions.items():
        rows.append([0, *range(len(edits), len(edits) + len(strengths[name]))])
        edits += [Edit.of(direction, strength) for strength in strengths[name]]
    made = torch.cat([render(edit).float().clamp(-1, 1) for edit in edits])
    scores = {name: judge(made) for name, judge in judges.items()}
    scores[IDENTITY] = recogniser.compare(made[:1].expand_as(made), made)
    return {name: [values[row].tolist() for row in rows] for name, values in scores.items()}


def summarise(
    samples: Sequence[Mapping[str, list[list[float]]]],
    strengths: Strengths,
    different_people: float,
) -> list[dict[str, object]]:
    """One row of the table for each direction."""
    summary: list[dict[str, object]] = []
    for row, name in enumerate(strengths):
        steps = np.array(strengths[name])
        values = {key: np.array([sample[key][row] for sample in samples]) for key in samples[0]}
        changes = {key: value[:, 1:] - value[:, :1] for key, value in values.items()}
        own = ATTRIBUTE_OF.get(name.split("-by-")[0], name)
        mean = {key: change.mean(0) for key, change in changes.items()}
        entry: dict[str, object] = {"direction": name, "samples": len(samples)}
        if own in mean:
            slopes = changes[own] @ steps / (steps @ steps)
            entry["slope"] = float(slopes.mean())
            if len(samples) > 1:
                entry["standard error"] = float(slopes.std(ddof=1) / len(samples) ** 0.5)
            entry["right way"] = float((changes[own] * steps > 0).mean())
            levels = np.median(values[own], axis=0)
            labels = ["0", *(label(step) for step in steps)]
            entry["levels"] = {k: round(float(v), 3) for k, v in zip(labels, levels, strict=True)}
            if own == HAPPINESS:
                happy = 1 / (1 + np.exp(-values[own]))
                for side, there in (("unhappy", happy < UNHAPPY), ("happy", happy > HAPPY)):
                    entry[side] = dict(zip(labels, there.mean(0).tolist(), strict=True))
        entry["per strength"] = {
            key: float(change.mean(0) @ steps / (steps @ steps))
            for key, change in changes.items()
            if key != IDENTITY
        }
        entry["changes"] = {
            key: {
                label(step): round(float(value), 3)
                for step, value in zip(steps, mean[key], strict=True)
            }
            for key in mean
        }
        for sign, end in ((1, "+"), (-1, "-")):
            distances = zip(steps, mean[IDENTITY], strict=True)
            side = sorted((abs(s), d) for s, d in distances if s * sign > 0)
            entry[f"limit at {end}"] = crossing(side, SAME_PERSON_LIMIT)
            entry[f"other person at {end}"] = crossing(side, different_people)
        summary.append(entry)
    return summary


def label(strength: float) -> str:
    """A strength as the tables show it."""
    return f"{strength:+g}" if strength else "0"


def markdown(measured: Sequence[Mapping[str, Any]], strengths: Strengths) -> str:
    """The table in two parts: what a direction is for with what it costs, and all that it changes.

    Levels are medians of the direction's own attribute, unedited among them; distances are means of
    dlib's. Both are in the order of the strengths. Below are the shares of faces that are clearly
    happy or not.
    """
    rows = []
    for entry in measured:
        edited = [label(step) for step in sorted(strengths[entry["direction"]])]
        every = [label(step) for step in sorted([*strengths[entry["direction"]], 0.0])]
        levels = entry.get("levels", {})
        distances = entry["changes"][IDENTITY]
        slope = f"{entry['slope']:+.3g}" if "slope" in entry else "-"
        error = f" ± {entry['standard error']:.2g}" if "standard error" in entry else ""
        right = f"{entry['right way']:.0%}" if "right way" in entry else "-"
        shown = ", ".join(f"{levels[at]:.3g}" for at in every if at in levels)
        far = ", ".join(f"{distances[at]:.2f}" for at in edited)
        cells = [slope + error, right, ", ".join(every), shown or "-", far]
        rows.append([entry["direction"], *cells])
    head = ["direction", "per strength", "right way", "strengths", "levels", "distances"]
    first = table(head, rows)
    names = list(measured[0]["per strength"])
    effects = [
        [entry["direction"], *(f"{entry['per strength'][name]:+.2g}" for name in names)]
        for entry in measured
    ]
    clear = [
        f"\n{entry['direction']}: happiness is {word} for "
        + ", ".join(f"{share:.1%} at {at}" for at, share in entry[side].items())
        for entry in measured
        for side, word in (("unhappy", f"below {UNHAPPY}"), ("happy", f"above {HAPPY}"))
        if side in entry
    ]
    return "\n".join([first, "", table(["direction", *names], effects), *clear]) + "\n"


def crossing(distances: Sequence[tuple[float, float]], limit: float) -> float | None:
    """Strength at which the distance passes the limit, between measured points; None: nowhere."""
    before = (0.0, 0.0)
    for strength, distance in distances:
        if distance >= limit:
            share = (limit - before[1]) / (distance - before[1])
            return before[0] + share * (strength - before[0])
        before = (strength, distance)
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", type=Path, help="a file of directions; default: the library")
    parser.add_argument("--only", help="names, e.g. smile,age; default: all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--seeds", default="1", help="each gives that many samples")
    parser.add_argument("--faces", type=Path, help="a folder of aligned photos, for samples")
    parser.add_argument("--truncation", type=float, default=0.7)
    parser.add_argument("--strengths", default="-4,-2,2,4")
    parser.add_argument(
        "--ends", action="store_true", help="take the ends of each direction's range as strengths"
    )
    options = parser.parse_args()
    known = library.load_directions(options.file) if options.file else library.load_library()
    names = options.only.split(",") if options.only else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no direction '{unknown[0]}'; known are: {', '.join(known)}")
    directions = {name: known[name] for name in names}
    steps = [float(text) for text in options.strengths.split(",")]
    strengths = {
        name: [end for end in directions[name].strength_range if end] if options.ends else steps
        for name in names
    }
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    subjects = (
        photos(options.faces)
        if options.faces
        else samples(options.samples, seeds, options.truncation)
    )
    networks = recognition.create_scorers(ATTRIBUTES, "judging")
    judges = {name: network.margin for name, network in networks.items()}
    judges |= {name: scorers.create(name) for name in OWN_JUDGES}
    recogniser = recognition.create("dlib")
    done = []
    for name, render in subjects:
        path = options.out / f"{name}.json"
        if not path.is_file():
            with torch.inference_mode():
                measured = measure(render, directions, strengths, judges, recogniser)
            path.write_text(json.dumps(measured))
        done.append(json.loads(path.read_text()))
        summary = summarise(done, strengths, recogniser.different_people)
        (options.out / "table.json").write_text(json.dumps(summary, indent=1))
    text = markdown(summary, strengths)
    (options.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
