"""The ways to run a generator, and the choice of the best one that is installed."""

from __future__ import annotations

import torch

from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.generators.mobile import MobileStyleGAN
from sdic.runtime import openvino
from sdic.runtime.delegating import CompiledGenerator

BACKENDS = ("auto", "eager", "compiled", "openvino")


def accelerate(generator: Generator, backend: str = "auto", device: str = "cpu") -> Generator:
    """A generator for inference: the same contract, run by a backend on a device.

    Args:
        generator: as `generators.create` makes it; it is moved to the device.
        backend: "eager" PyTorch; "compiled" by torch.compile, which takes a minute at the first
            pass; "openvino", for the CPU; "auto" is OpenVINO for the mobile generator on a CPU
            where it is installed, else eager.
        device: a torch device, e.g. "cpu" or "cuda".

    Raises:
        InputError: there is no such backend, or it cannot be used here.
    """
    if backend not in BACKENDS:
        raise InputError(f"There is no backend '{backend}'; choose one of: {', '.join(BACKENDS)}.")
    generator.to(device)
    on_cpu = torch.device(device).type == "cpu"
    if backend == "auto":
        fitting = on_cpu and isinstance(generator, MobileStyleGAN) and openvino.is_available()
        backend = "openvino" if fitting else "eager"
    if backend == "openvino":
        if not on_cpu or not openvino.is_available():
            raise InputError(
                "The backend 'openvino' runs on the CPU and needs the package of that name; "
                "install it with `pip install 'sdic[fast]'`, or choose the backend 'eager'."
            )
        return openvino.OpenVINOGenerator(generator)
    if backend == "compiled":
        return CompiledGenerator(generator)
    return generator


def resolve_device(device: str = "auto") -> str:
    """The device asked for, or the best one there is: CUDA, Apple's MPS, then the CPU.

    Raises:
        InputError: the device asked for is not there.
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if device == "auto":
        return there[0]
    kind, _, number = device.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in there or (number and not (number.isdigit() and int(number) < count)):
        raise InputError(
            f"The device '{device}' is not there; there is: {', '.join(there)}. "
            "Leave --device out to take the best one."
        )
    return device
