"""Time and peak memory of a generated image, for every way to run a generator on a CPU.

python benchmarks/generator.py --threads 2 --out docs/results/generator

Each variant and batch size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

if TYPE_CHECKING:
    from sdic.generators import Generator

BASE = "mobile, eager"
TUNED = "mobile, eager, tuned allocator"
VARIANTS = (
    BASE,
    TUNED,
    "mobile, compiled",
    "mobile, OpenVINO f32",
    "mobile, OpenVINO bf16",
    "mobile, fused, bf16",
    "StyleGAN2, eager",
)
# They keep what they made of the generator on disk: the first run makes it, the second is measured.
WARMED = ("compiled", "OpenVINO")


def build(variant: str, threads: int, quick: bool) -> Generator:
    """The generator of a variant; with `quick` a tiny one of random weights."""
    import torch

    from sdic import generators
    from sdic.generators.mobile import MobileStyleGAN
    from sdic.generators.mobile_fused import fuse, to_bfloat16
    from sdic.generators.stylegan2 import StyleGAN2
    from sdic.runtime.backends import accelerate
    from sdic.runtime.openvino import OpenVINOGenerator

    torch.manual_seed(0)
    if variant.startswith("StyleGAN2"):
        return (StyleGAN2(128, 7, 1024, 16) if quick else StyleGAN2(1024)).freeze()
    network = MobileStyleGAN((8, 8, 8, 8), 1) if quick else generators.create("mobile")
    if not isinstance(network, MobileStyleGAN):
        raise TypeError("The variants are those of the mobile generator.")
    if "compiled" in variant:
        return accelerate(network, "compiled")
    if "OpenVINO" in variant:
        return OpenVINOGenerator(network, variant.split()[-1], threads)
    if "fused" in variant:
        return to_bfloat16(fuse(network))
    return network


def measure(variant: str, batch: int, threads: int, runs: int, quick: bool) -> dict[str, float]:
    """Milliseconds of an image, and the peak memory of this process."""
    import torch

    from sdic.runtime.allocator import tune_allocator

    torch.set_num_threads(threads)
    if variant != BASE:
        tune_allocator()
    network = build(variant, threads, quick)
    with torch.inference_mode():
        latents = network.broadcast(network.sample(batch, seed=0)).contiguous()
        time = common.median_ms(lambda: network(latents), runs) / batch
    return {"ms": time, "mib": common.process_peak_mib()}


def all_variants(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each variant and batch size."""
    rows = []
    has_bfloat16 = common.cpu_has_bfloat16()
    for variant in options.variants:
        if variant.endswith("OpenVINO bf16") and not has_bfloat16:
            print(f"{variant}: left out, this CPU has no bf16 units or OpenVINO is missing")
            continue
        for batch in options.batches:
            arguments = ["--child", variant, "--batches", batch, "--threads", options.threads]
            arguments += ["--quick"] if options.quick else []
            if any(word in variant for word in WARMED):
                common.in_own_process(__file__, [*arguments, "--runs", 1])
            result = common.in_own_process(__file__, [*arguments, "--runs", options.runs])
            rows.append({"variant": variant, "batch": batch, **result})
            print(f"{variant}, batch {batch}: {result['ms']:.0f} ms", flush=True)
    return rows


def as_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each row, with its speed next to the plain eager pass."""
    base = {row["batch"]: row["ms"] for row in rows if row["variant"] == BASE}
    lines = []
    for row in rows:
        ratio = f"{base[row['batch']] / row['ms']:.2f}x" if row["batch"] in base else ""
        numbers = [str(row["batch"]), f"{row['ms']:.0f}", ratio, f"{row['mib']:.0f}"]
        lines.append([row["variant"], *numbers])
    headers = ["variant", "batch", "ms per image", f"speed against '{BASE}'", "peak memory, MiB"]
    return common.table(headers, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7, help="measured passes; the median counts")
    parser.add_argument("--out", type=Path, help="write OUT.md and OUT.json")
    parser.add_argument("--quick", action="store_true", help="tiny networks, to try the script")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        numbers = (options.batches[0], options.threads, options.runs)
        print(json.dumps(measure(options.child, *numbers, options.quick)))
        return
    rows = all_variants(options)
    data = {"machine": common.machine(options.threads), "rows": rows}
    side = 128 if options.quick else 1024
    common.report(f"Generators at {side}x{side}", as_table(rows), data, options.out)


if __name__ == "__main__":
    main()
