"""Time and peak memory of SDIC and of each of its parts, for one photo on a CPU.

python benchmarks/inversion.py --threads 2 --out docs/results/inversion

"published" is StyleGAN2 1024x1024 with the networks of the published code and random weights,
which do not change the time; "paper" has the networks as the paper describes them. "compact" is
what ships: the embedded generator with the compact networks. Each configuration runs in a process
of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

if TYPE_CHECKING:
    from torch import nn

    from sdic.methods.sdic import SDIC

CONFIGURATIONS = (
    "published, f32",
    "published, compiled",
    "published, OpenVINO f32",
    "published, OpenVINO bf16",
    "paper, f32",
    "paper, OpenVINO bf16",
    "compact, f32",
    "compact, compiled",
    "compact, OpenVINO f32",
    "compact, OpenVINO bf16",
)
DEFAULT = tuple(name for name in CONFIGURATIONS if "compiled" not in name)
PARTS = (
    "encoder",
    "first half",
    "initial reconstruction",
    "DIPN",
    "DICN",
    "second half",
    "whole pass",
    "invert",
    "edit",
)


def build(configuration: str, threads: int, quick: bool) -> SDIC:
    """SDIC as the configuration says; with `quick` on a tiny generator of random weights."""
    import torch

    from sdic import methods
    from sdic.generators.stylegan2 import StyleGAN2
    from sdic.methods.sdic import SDIC
    from sdic.runtime.openvino import OpenVINOGenerator, OpenVINONetwork

    torch.manual_seed(0)
    networks, _, way = configuration.partition(", ")
    if networks != "compact":
        generator = StyleGAN2(256, 7, 1024, 16) if quick else StyleGAN2(1024)
        method = SDIC.create(generator.freeze(), networks).for_inference()
    elif quick:
        method = tiny()
    else:
        shipped = methods.create("sdic", backend="eager")
        if not isinstance(shipped, SDIC):
            raise TypeError("The method 'sdic' is another one.")
        method = shipped
    for network in method.networks.values():
        network.requires_grad_(False)
    if way.startswith("OpenVINO"):
        precision = way.split()[-1]
        method.generator = OpenVINOGenerator(method.generator, precision, threads)

        def run(network: nn.Module) -> nn.Module:
            plain = not network.state_dict()
            return network if plain else OpenVINONetwork(network, precision, threads)

        for name, network in method.networks.items():
            setattr(method, name, run(network))
        method.carry_over = method.carry_over.with_transfer(run)
    if way == "compiled":
        compile_parts(method)
    return method


def tiny() -> SDIC:
    """A compact SDIC of random weights that is over in no time."""
    import torch

    from sdic.encoders.compact import CompactEncoder
    from sdic.generators.mobile import MobileStyleGAN
    from sdic.methods.sdic import SDIC
    from sdic.methods.sdic.compact import CompactDICN, CompactDIPN

    generator = MobileStyleGAN((8,) * 5, 3)
    torch.nn.init.normal_(generator.constant)
    dipn = CompactDIPN(8, 1).eval()
    dicn = CompactDICN(generator.num_styles, generator.feature_shape[0], 8, 1).eval()
    return SDIC(generator, CompactEncoder(generator.num_styles).eval(), dipn, dicn)


def compile_parts(method: SDIC) -> None:
    """Compile the generator and all networks, each at its first call."""
    import torch

    from sdic.runtime.delegating import CompiledGenerator

    method.generator = CompiledGenerator(method.generator)
    for network in (*method.networks.values(), method.carry_over.transfer):
        network.compile()
    torch.set_grad_enabled(False)


def calls(method: SDIC) -> dict[str, Callable[[], object]]:
    """A call for each part, on inputs that were computed before, and for the whole."""
    import torch

    from sdic.editing.direction import Direction, Edit
    from sdic.methods.sdic.method import SDIC_PRESETS, initial_reconstruction

    preset = SDIC_PRESETS[method.preset]
    random = torch.Generator().manual_seed(1)
    photo = torch.rand(1, 3, 256, 256, generator=random) * 2 - 1
    generator = method.generator
    made = method.compensate(photo, method.encoder(photo))
    inversion = method.invert(photo)
    vector = torch.randn(512, generator=random) / 512**0.5
    edit = Edit.of(Direction("random", vector, generator.name), 1.0)
    enhanced = (made.new_features, made.new_latents)
    every = (
        lambda: method.encoder(photo),
        lambda: generator.to_features(made.latents),
        lambda: initial_reconstruction(generator, made.features, made.latents, 256, preset),
        lambda: method.dipn(photo, made.initial),
        lambda: method.dicn(made.discrepancy, made.features, made.latents),
        lambda: generator.from_features(*enhanced),
        lambda: generator(made.latents),
        lambda: method.invert(photo),
        lambda: method.synthesize(inversion, edit),
    )
    return dict(zip(PARTS, every, strict=True))


def measure(configuration: str, threads: int, runs: int, quick: bool) -> dict[str, Any]:
    """Milliseconds and peak memory of each part."""
    import torch

    from sdic.runtime.allocator import tune_allocator

    torch.set_num_threads(threads)
    tune_allocator()
    method = build(configuration, threads, quick)
    result = {}
    with torch.no_grad():
        for part, call in calls(method).items():
            time = common.median_ms(call, runs)
            result[part] = {"ms": time, "mib": common.peak_mib_of(call)}
    return {"parts": result}


def as_table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line for each part, a column for each configuration."""
    lines = []
    for part in PARTS:
        cells = [row["parts"][part] for row in rows.values()]
        lines.append([part, *(f"{cell['ms']:.0f} ms, {cell['mib']:.0f} MiB" for cell in cells)])
    return common.table(["part", *rows], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", nargs="+", choices=CONFIGURATIONS, default=DEFAULT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5, help="measured calls; the median counts")
    parser.add_argument("--out", type=Path, help="write OUT.md and OUT.json")
    parser.add_argument("--quick", action="store_true", help="tiny generators, to try the script")
    parser.add_argument("--child", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        numbers = (options.threads, options.runs)
        print(json.dumps(measure(options.child, *numbers, options.quick)))
        return
    rows = {}
    for configuration in options.configurations:
        arguments = ["--child", configuration, "--threads", options.threads]
        arguments += ["--runs", options.runs, *(["--quick"] if options.quick else [])]
        rows[configuration] = common.in_own_process(__file__, arguments)
        total = rows[configuration]["parts"]["invert"]["ms"]
        print(f"{configuration}: invert {total:.0f} ms", flush=True)
    data = {"machine": common.machine(options.threads), "rows": rows}
    common.report("SDIC by parts, one photo", as_table(rows), data, options.out)


if __name__ == "__main__":
    main()
