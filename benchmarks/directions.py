"""What each direction changes, and what it costs in identity, by networks that judge.

    python -P benchmarks/directions.py --out FOLDER [--file FILE] [--samples 40] [--seeds 1]

Samples are rendered at 256x256 by the fused generator in bfloat16 and kept as numbers in FOLDER,
one file for each sample, so that a run that was stopped goes on where it was. The table at the end
has, for each direction: slope of its own attribute by least squares through 0 with its standard
error over the samples, changes of all attributes (log-odds for expressions and gender), the
distance between descriptors of dlib before and after the edit, and the strengths at which that
distance passes dlib's own limit (0.6) and the mean between different people.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdic import generators, recognition
from sdic.editing import library
from sdic.editing.direction import Direction
from sdic.editing.samples import SIZE
from sdic.generators.mobile_fused import fuse, to_bfloat16

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
ATTRIBUTE_OF = {"smile": "happiness"}
IDENTITY = "identity"
SAME_PERSON_LIMIT = 0.6  # distance below which dlib calls two faces one person
BATCH = 4


def measure_sample(
    generator: generators.Generator,
    latents: Tensor,
    directions: Mapping[str, Direction],
    strengths: Sequence[float],
    scorers: Mapping[str, recognition.AttributeScorer],
    recogniser: recognition.Recogniser,
) -> dict[str, list[list[float]]]:
    """For each score: a row for each direction with the value at 0 and at each strength."""
    edited = [latents]
    for direction in directions.values():
        edited += [direction.apply(latents, strength) for strength in strengths]
    parts = torch.cat(edited).split(BATCH)
    images = torch.cat([generator(part, SIZE).float().clamp(-1, 1) for part in parts])
    scores = {name: scorer.margin(images) for name, scorer in scorers.items()}
    scores[IDENTITY] = recogniser.compare(images[:1].expand_as(images), images)
    count = len(strengths)
    rows = [[0, *range(1 + row * count, 1 + (row + 1) * count)] for row in range(len(directions))]
    return {name: values[torch.tensor(rows)].tolist() for name, values in scores.items()}


def summarise(
    samples: Sequence[Mapping[str, list[list[float]]]],
    names: Sequence[str],
    strengths: Sequence[float],
    different_people: float,
) -> list[dict[str, object]]:
    """One row of the table for each direction."""
    values = {key: np.array([sample[key] for sample in samples]) for key in samples[0]}
    changes = {key: value[..., 1:] - value[..., :1] for key, value in values.items()}
    steps = np.array(strengths)
    table: list[dict[str, object]] = []
    for row, name in enumerate(names):
        own = ATTRIBUTE_OF.get(name.split("-by-")[0], name)
        mean = {key: change[:, row].mean(0) for key, change in changes.items()}
        entry: dict[str, object] = {"direction": name, "samples": len(samples)}
        if own in mean:
            slopes = changes[own][:, row] @ steps / (steps @ steps)
            entry["slope"] = float(slopes.mean())
            if len(samples) > 1:
                entry["standard error"] = float(slopes.std(ddof=1) / len(samples) ** 0.5)
            entry["right way"] = float((changes[own][:, row] * steps > 0).mean())
        entry["changes"] = {
            key: {
                f"{step:+g}": round(float(value), 3)
                for step, value in zip(steps, mean[key], strict=True)
            }
            for key in mean
        }
        for sign, end in ((1, "+"), (-1, "-")):
            distances = zip(steps, mean[IDENTITY], strict=True)
            side = sorted((abs(s), d) for s, d in distances if s * sign > 0)
            entry[f"limit at {end}"] = crossing(side, SAME_PERSON_LIMIT)
            entry[f"other person at {end}"] = crossing(side, different_people)
        table.append(entry)
    return table


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
    parser.add_argument("--truncation", type=float, default=0.7)
    parser.add_argument("--strengths", default="-4,-2,2,4")
    options = parser.parse_args()
    known = library.load_library() if options.file is None else None
    directions = known or library.load_directions(options.file)
    if options.only:
        directions = {name: directions[name] for name in options.only.split(",")}
    strengths = [float(text) for text in options.strengths.split(",")]
    options.out.mkdir(parents=True, exist_ok=True)
    generator = generators.create("mobile")
    latents = {
        f"{seed}-{number:04d}": w
        for seed in map(int, options.seeds.split(","))
        for number, w in enumerate(generator.sample(options.samples, seed, options.truncation))
    }
    generator = to_bfloat16(fuse(generator))
    scorers = recognition.create_scorers(ATTRIBUTES, "judging")
    recogniser = recognition.create("dlib")
    samples = []
    for name, w in latents.items():
        path = options.out / f"{name}.json"
        if not path.is_file():
            with torch.inference_mode():
                measured = measure_sample(
                    generator,
                    generator.broadcast(w[None]),
                    directions,
                    strengths,
                    scorers,
                    recogniser,
                )
            path.write_text(json.dumps(measured))
        samples.append(json.loads(path.read_text()))
        table = summarise(samples, list(directions), strengths, recogniser.different_people)
        (options.out / "table.json").write_text(json.dumps(table, indent=1))
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
