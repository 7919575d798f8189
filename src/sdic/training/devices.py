"""Devices, precision and processes, through Lightning Fabric."""

from __future__ import annotations

import atexit
import gc
import logging
from typing import Literal

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from sdic.errors import TrainingError
from sdic.runtime.backends import resolve_device

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
}


def fabric(
    device: str = "auto",
    precision: str = "bf16",
    processes: int = 1,
    skips_parameters: bool = False,
) -> Fabric:
    """A launched Fabric.

    Args:
        device: see `resolve_device`; one GPU is "cuda:1".
        precision: "fp32" or "bf16" (mixed: weights stay fp32).
        processes: one each on a device of its own, or all of them on the CPU (gloo).
        skips_parameters: whether a step may leave parameters without a gradient.

    Raises:
        InputError: the device is not there.
        TrainingError: there are fewer devices than processes.
    """
    kind, _, number = resolve_device(device).partition(":")
    there = {"cpu": processes, "cuda": torch.cuda.device_count(), "mps": 1}[kind]
    if processes > (1 if number else there):
        raise TrainingError(
            f"{processes} processes were asked for on the device '{device}', which has room for "
            f"{1 if number else there}; ask for fewer with --devices."
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of each default
    made = Fabric(
        accelerator=kind,
        devices=[int(number)] if number else processes,
        strategy=DDPStrategy(find_unused_parameters=skips_parameters) if processes > 1 else "auto",
        precision=_PRECISIONS[precision],
    )
    made.launch()
    if processes > 1:
        atexit.register(_leave_group)
    return made


def _leave_group() -> None:
    """End the threads between the processes while there is an interpreter to end them in.

    Gloo's threads may hold a tensor of the last exchange a little longer than the exchange takes;
    one that frees it while the interpreter shuts down aborts the process.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # the threads end with the last reference to the group
