"""The ways to run generators and networks, and the choice of the best one that is installed."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sdic.errors import InputError
from sdic.generators.base import Generator
from sdic.generators.mobile import MobileStyleGAN
from sdic.generators.mobile_fused import fuse, to_bfloat16
from sdic.runtime import openvino
from sdic.runtime.delegating import CompiledGenerator, original

BACKENDS = ("auto", "eager", "compiled", "openvino", "openvino-bf16")
_PRECISIONS = {"openvino": "f32", "openvino-bf16": "bf16"}


def resolve_backend(generator: Generator, backend: str = "auto", device: str = "cpu") -> str:
    """The backend asked for, or the best one that is installed.

    Args:
        generator: what is to be run.
        backend: "eager" PyTorch; "compiled" by torch.compile, which takes a minute at the first
            pass; "openvino", for the CPU; "openvino-bf16", the same with half the digits, faster
            on CPUs with bf16 units; "auto" is OpenVINO for the mobile generator on a CPU where it
            is installed, else eager.
        device: see `resolve_device`.

    Raises:
        InputError: there is no such backend, or it cannot be used here, or the device is not there.
    """
    if backend not in BACKENDS:
        raise InputError(f"There is no backend '{backend}'; choose one of: {', '.join(BACKENDS)}.")
    possible = resolve_device(device).startswith("cpu") and openvino.is_available()
    if backend == "auto":
        return "openvino" if possible and isinstance(generator, MobileStyleGAN) else "eager"
    if backend in _PRECISIONS and not possible:
        raise InputError(
            f"The backend '{backend}' runs on the CPU and needs the package openvino; "
            "install it with `pip install 'sdic[fast]'`, or choose the backend 'eager'."
        )
    return backend


def accelerate(generator: Generator, backend: str = "auto", device: str = "cpu") -> Generator:
    """A generator for inference: the same contract, run by a backend on a device.

    Args:
        generator: as `generators.create` makes it; it is moved to the device.
        backend: see `resolve_backend`.
        device: see `resolve_device`.

    Raises:
        InputError: see `resolve_backend`.
    """
    device = resolve_device(device)
    backend = resolve_backend(generator, backend, device)
    generator.to(device)
    if backend in _PRECISIONS:
        return openvino.OpenVINOGenerator(generator, _PRECISIONS[backend])
    if backend == "compiled":
        return CompiledGenerator(generator)
    return generator


def differentiable(generator: Generator) -> Generator:
    """The generator whose gradients a descent follows.

    That is the PyTorch generator behind an accelerated one; behind one in bf16 it is a copy of the
    mobile generator in bf16 with merged convolutions, which takes half to two thirds of the time on
    CPUs with bf16 units.
    """
    plain = original(generator)
    in_bf16 = isinstance(generator, openvino.OpenVINOGenerator) and generator.precision == "bf16"
    if in_bf16 and isinstance(plain, MobileStyleGAN):
        return to_bfloat16(fuse(copy.deepcopy(plain)))
    return plain


def accelerate_network(network: nn.Module, backend: str, device: str = "cpu") -> nn.Module:
    """A network for inference, with the signature it has.

    Args:
        network: in eval mode; its inputs have one shape for each image, always. It is moved to the
            device.
        backend: what `resolve_backend` gave; only OpenVINO takes networks over.
        device: see `resolve_device`.
    """
    network.to(resolve_device(device))
    if backend in _PRECISIONS and next(network.parameters(), None) is not None:
        return openvino.OpenVINONetwork(network, _PRECISIONS[backend])
    return network


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
    if kind not in there or (
        number and not (number.isdigit() and len(number) < 5 and int(number) < count)
    ):
        raise InputError(
            f"The device '{device}' is not there; there is: {', '.join(there)}. "
            "Leave --device out to take the best one."
        )
    return device
