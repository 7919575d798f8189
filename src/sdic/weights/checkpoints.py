"""The restricted reader of files that a user brings: tensors and plain values, never code.

It is the only reader of PyTorch's pickles in the package. Nothing is built before its name was
found to be harmless, and nothing is allocated before its size was compared with the file's.
"""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sdic.errors import WeightsError
from sdic.files import check_readable, read_tensors

SHOWN = 10  # keys named in an error
ZIP_HEAD = b"PK\x03\x04"
PROTOCOL = 2  # of pickle, the one that PyTorch writes and its restricted reader knows
LEGACY_PICKLES = 5  # one after the other: magic number, version, system, content, storage keys
REPEATS = 32  # how often views may show each byte of a file; all 18 rows may be one vector, say
# All that a pickle may name. PyTorch's own list is longer: what makes sparse, quantised, nested and
# meta tensors is not here, nor what reserves memory of a size that the file asks for.
PLAIN = re.compile(
    r"collections\.OrderedDict|argparse\.Namespace|_codecs\.encode"
    r"|(builtins|__builtin__)\.(set|complex)"
    r"|torch\.(Size|device|b?float\d*|double|half|u?int\d+|short|long|bool|complex\d+)"
    r"|torch\.(cuda\.)?(Double|Float|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.nn\.parameter\.Parameter"
)
# What the readers stumble over in a damaged file.
DAMAGES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read named weights (a `torch.save` file or .safetensors) to the CPU; see `read_plain`.

    Raises:
        InputError: there is no such file, or it may not be read.
        WeightsError: the file is damaged, is no checkpoint, or asks to run code.
    """
    content = read_plain(path)
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds one {type(content).__name__}, not named weights; "
            "expected a file with a state dict."
        )
    return dict(content)


def read_plain(path: str | Path) -> Any:
    """Read whatever a `torch.save` or .safetensors file holds to the CPU.

    A pickle may build dense tensors, containers, plain values and `argparse.Namespace` (the options
    that training scripts keep beside their weights), and nothing else.

    Raises:
        InputError: there is no such file, or it may not be read.
        WeightsError: the file is damaged or of another kind, asks to run code, holds other tensors
            than dense ones, or is much smaller than what it holds.
    """
    path = Path(path)
    check_readable(path, "checkpoint file")
    try:
        return read_tensors(path)[0] if path.suffix == ".safetensors" else _read_pickle(path)
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a complete safetensors file ({error}). Fetch it again."
        ) from error
    except DAMAGES as error:
        raise WeightsError(
            f"{path} cannot be read as a checkpoint: it is damaged, cut short or of another kind; "
            "expected a PyTorch or .safetensors file. Fetch it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        for pickled in _pickles(file, path):
            _check_names(pickled, path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        # Without its numbers first: what they would take is known before memory is asked for.
        _check_sizes(torch.load(path, map_location="meta", weights_only=True), path)
        return torch.load(path, map_location="cpu", weights_only=True)


def _pickles(file: IO[bytes], path: Path) -> list[IO[bytes]]:
    """The pickles of a file: one in an archive of today, several in a row in an old file."""
    zipped = file.read(len(ZIP_HEAD)) == ZIP_HEAD
    file.seek(0)
    if not zipped:
        return [file] * LEGACY_PICKLES
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > path.stat().st_size:
            raise _larger(path)
        names = {member.filename.lower() for member in members}
        root = members[0].filename.partition("/")[0]
        if len(names) < len(members) or f"{root}/constants.pkl".lower() in names:
            raise ValueError("names that are there twice, or a network of TorchScript")
        return [io.BytesIO(archive.read(f"{root}/data.pkl"))]


def _check_names(pickled: IO[bytes], path: Path) -> None:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "PROTO" and argument != PROTOCOL:
            raise ValueError(f"protocol {argument} of pickle")
        if opcode.name != "GLOBAL":
            continue
        name = str(argument).replace(" ", ".")
        if PLAIN.fullmatch(name):
            continue
        if name.startswith(("torch._utils.", "torch._tensor.")) or name.endswith("Storage"):
            raise WeightsError(
                f"{path} holds tensors that are not plain ({name}): sparse, quantised, complex, "
                "nested and meta tensors are refused; save dense ones of real numbers."
            )
        raise WeightsError(
            f"{path} wants to run code ({name}) when it is read, and is refused: "
            "expected tensors and plain values only. Ask its author for a file of weights."
        )


def _check_sizes(content: Any, path: Path) -> None:
    room = path.stat().st_size
    storages: dict[int, int] = {}
    for tensor in _tensors(content):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    seen = sum(tensor.numel() * tensor.itemsize for tensor in _tensors(content))
    if sum(storages.values()) > room or seen > REPEATS * room:
        raise _larger(path)


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors in nested containers."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, argparse.Namespace):
            waiting.append(vars(value))


def _larger(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} holds more numbers than the file has room for: it is compressed, or repeats a few "
        "by views; expected a file as `torch.save` writes it. Save contiguous copies."
    )


def part_of(state: Mapping[str, Any], prefix: str, what: str) -> dict[str, Tensor]:
    """The tensors under `prefix.`, without it.

    Raises:
        WeightsError: there are none.
    """
    start = f"{prefix}."
    part = {
        key.removeprefix(start): value
        for key, value in state.items()
        if str(key).startswith(start) and isinstance(value, Tensor)
    }
    if not part:
        raise WeightsError(
            f"{what} has no weights under '{start}'; found {_names(sorted(map(str, state)))}."
        )
    return part


def load_strict(
    module: nn.Module, state: Mapping[str, Tensor], what: str, dead: Sequence[str] = ()
) -> list[str]:
    """Load a state dict that must fit the module key by key and shape by shape.

    Keys that a module names in its `OPTIONAL_KEYS` may be missing.

    Args:
        module: the network to fill.
        state: its weights by name.
        what: the name of the weights in errors.
        dead: keys, or parts of the network by their prefix, that the file may hold in surplus.

    Returns:
        The keys that were dropped for `dead`, so that the caller can say so.

    Raises:
        WeightsError: keys are missing or in surplus, or shapes differ.
    """
    dropped = check_fit(module, state, what, dead)
    known = (*module.state_dict(), *getattr(module, "OPTIONAL_KEYS", ()))
    module.load_state_dict({key: state[key] for key in known if key in state})
    return dropped


def check_fit(
    module: nn.Module, state: Mapping[str, Tensor], what: str, dead: Sequence[str] = ()
) -> list[str]:
    """Compare a state dict with a module, which may be on the device "meta"; see `load_strict`.

    Raises:
        WeightsError: see `load_strict`.
    """
    optional = getattr(module, "OPTIONAL_KEYS", ())
    expected = {key: value for key, value in module.state_dict().items() if key not in optional}
    surplus = [key for key in state if key not in expected and key not in optional]
    dropped = [key for key in surplus if any(f"{key}.".startswith(f"{d}.") for d in dead)]
    surplus = [key for key in surplus if key not in set(dropped)]
    missing = [key for key in expected if key not in state]
    shapes = [
        f"{key} is {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = [
        f"{len(names)} {kind}: {_names(names)}"
        for kind, names in (("missing", missing), ("surplus", surplus), ("of other shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{what} does not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Use the file that was made for this network."
        )
    return dropped


def _names(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
