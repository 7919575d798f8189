"""A name for what a module computes, which changes with its code, its settings and its weights."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import zlib
from functools import cache, cached_property
from importlib.util import resolve_name
from pathlib import Path

import torch
from torch import Tensor, nn

# Attributes of every module: its parts, tensors and hooks, which are no settings.
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def fingerprint(module: nn.Module, *context: object) -> str:
    """16 hexadecimal digits that stand for a module and for the context it is run in.

    They change with the source of its parts' classes and of all that these import from their own
    package, with the attributes of the parts (strides, presets, where a generator is split), and
    with any byte of a parameter or buffer.

    Args:
        module: any module, on the CPU.
        context: what else decides, e.g. versions; told by their `repr`.
    """
    digest = hashlib.blake2b(repr(context).encode(), digest_size=8)
    for file in source_files(module):
        digest.update(file.read_bytes())
    for name, part in module.named_modules():
        digest.update(f"{name} {type(part).__qualname__} {_settings(part)}".encode())
    for tensors in (module.named_parameters(), module.named_buffers()):
        for name, tensor in tensors:
            digest.update(f"{name} {_checksum(tensor)}".encode())
    return digest.hexdigest()


def source_files(module: nn.Module) -> list[Path]:
    """The files that define the parts of a module, and those that these import, however far.

    Imports are followed inside the package of the class; PyTorch's own layers are left out.
    """
    waiting = [kind.__module__ for kind in {type(part) for part in module.modules()}]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        file = None if name.partition(".")[0] == "torch" else _file_of(name)
        if file is not None and name not in found:
            found[name] = file
            waiting += _imports(name, file)
    return [found[name] for name in sorted(found)]


def _settings(part: nn.Module) -> str:
    """The attributes of a part, but for its tensors and parts, and for what was worked out once."""
    given = [
        (key, value)
        for key, value in sorted(vars(part).items())
        if key not in _OF_EVERY_MODULE
        and not isinstance(getattr(type(part), key, None), cached_property)
    ]
    return _ADDRESS.sub("", repr(given))


def _checksum(tensor: Tensor) -> str:
    """Shape, strides, type and CRC-32 of a tensor, whose bytes are taken in the order they lie."""
    by_stride = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    values = tensor.detach().permute(by_stride).contiguous().flatten()
    crc = zlib.crc32(values.view(torch.uint8).numpy().data)
    return f"{tuple(tensor.shape)} {tensor.stride()} {tensor.dtype} {crc}"


def _file_of(name: str) -> Path | None:
    """The source file of a Python module, loaded or not; None if there is none."""
    top, *rest = name.split(".")
    main = getattr(sys.modules.get(top), "__file__", None)
    if main is None:
        return None
    place = Path(main).parent.joinpath(*rest)
    candidates = (place.with_suffix(".py"), place / "__init__.py") if rest else (Path(main),)
    return next((file for file in candidates if file.suffix == ".py" and file.is_file()), None)


@cache
def _imports(name: str, file: Path) -> frozenset[str]:
    """The modules of its own package that a Python module imports, anywhere in its text."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            # What is imported is a module of its own, or a name inside of the other one.
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(base if _file_of(inner) is None else inner)
    top = name.partition(".")[0]
    return frozenset(other for other in found if other.partition(".")[0] == top)
