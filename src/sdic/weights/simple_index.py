"""Source packages from pip's registry, without pip: it would run the package's own setup.py.

The registry is the one that pip is configured with, by its files and by the environment: index-url,
extra-index-url, find-links (folders), no-index, proxy, cert, trusted-host, timeout; passwords stand
in the addresses or in the file .netrc. Pages are read as the simple repository API (PEP 503) says.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import netrc
import os
import re
import ssl
import subprocess
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener, url2pathname

from sdic.weights.registry import Archive

LARGEST_PAGE = 50_000_000  # bytes
BLOCK = 1 << 20  # bytes
SECTIONS = ("global", "download", ":env:")  # of pip's configuration; the later win
BROKEN = (URLError, TimeoutError, ConnectionError, HTTPException)  # what a transfer ends with


class NotOfferedError(Exception):
    """No registry has the file; its cause is the error of one that could not be asked."""


def pip_settings(command: list[str], folder: Path) -> dict[str, str]:
    """What pip is configured with, by the names of its options.

    Args:
        command: how pip is called.
        folder: where it is run.
    """
    values: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    listed = _output([*command, "config", "list"], folder)
    for section, key, text in re.findall(r"^([\w:]+)\.([\w-]+)=(.*)$", listed, re.MULTILINE):
        with contextlib.suppress(ValueError, SyntaxError):
            values.setdefault(section, {})[key] = str(ast.literal_eval(text))
    settings = {key: value for section in SECTIONS for key, value in values[section].items()}
    if "index-url" not in settings:
        help_text = _output([*command, "download", "--help"], folder)
        if found := re.search(r"\(default (https?://\S+?)\)", help_text):
            settings["index-url"] = found[1]
    return settings


def fetch(
    archive: Archive, settings: Mapping[str, str], file: Path, show: Callable[[int], None]
) -> None:
    """Bring an archive as it is; nothing in it is run, and little more than its size is read.

    Args:
        archive: what to fetch; whether the file is the right one is for the caller to check.
        settings: of pip.
        file: where it is written.
        show: called with the number of bytes that have come.

    Raises:
        NotOfferedError: no registry has it.
        URLError, TimeoutError, ConnectionError, HTTPException: the transfer broke.
        OSError: the file cannot be written.
    """
    failure: Exception | None = None
    for place in _places(archive, settings):
        try:
            link = _link(place, archive, settings)
        except (*BROKEN, ValueError) as error:  # noqa: PERF203  ValueError: no address at all
            if not isinstance(error, HTTPError) or error.code != 404:
                failure = error
        else:
            if link is not None:
                return _copy(link, archive, settings, file, show)
    raise NotOfferedError from failure


def _places(archive: Archive, settings: Mapping[str, str]) -> list[str]:
    """Folders and pages that may name the archive."""
    places = [
        place if "://" in place else Path(place).expanduser().absolute().as_uri()
        for place in settings.get("find-links", "").split()
    ]
    if settings.get("no-index", "").lower() in ("", "0", "false", "no", "off"):
        name = re.sub(r"[-_.]+", "-", archive.package).lower()
        indexes = f"{settings.get('index-url', '')} {settings.get('extra-index-url', '')}"
        places += [f"{index.rstrip('/')}/{name}/" for index in indexes.split()]
    return places


def _link(place: str, archive: Archive, settings: Mapping[str, str]) -> str | None:
    """The address of the archive in a folder or on a page, if that has it."""
    if place.startswith("file:"):
        path = Path(url2pathname(urlsplit(place).path))
        if (path / archive.file).is_file():
            return (path / archive.file).as_uri()
        if path.is_dir():
            path, place = path / "index.html", f"{place.rstrip('/')}/index.html"
        if not path.is_file():
            return None
    with _open(place, settings) as page:
        links = _Links()
        links.feed(page.read(LARGEST_PAGE).decode(errors="replace"))
        base = getattr(page, "url", place)
    for link in links.found:
        address, fragment = urldefrag(urljoin(base, link))
        if unquote(urlsplit(address).path.rpartition("/")[2]) != archive.file:
            continue
        if address.startswith("file:") and not place.startswith("file:"):
            continue
        if not fragment.startswith("sha256=") or fragment == f"sha256={archive.sha256}":
            return address
    return None


def _copy(
    link: str,
    archive: Archive,
    settings: Mapping[str, str],
    file: Path,
    show: Callable[[int], None],
) -> None:
    came = 0
    with _open(link, settings) as source, file.open("wb") as target:
        while came <= archive.size and (block := source.read(BLOCK)):
            target.write(block)
            came += len(block)
            show(came)


def _open(address: str, settings: Mapping[str, str]) -> IO[bytes]:
    """What lies at an address, by pip's proxy, certificates, patience and passwords."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "file"):
        raise URLError(f"an address of the kind {parts.scheme}: is not read")
    host, _, port = parts.netloc.rpartition("@")[2].partition(":")
    request = Request(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))  # noqa: S310  checked above
    request.add_header("Accept", "application/vnd.pypi.simple.v1+html, text/html;q=0.5, */*;q=0.1")
    if known := _password(parts.username, parts.password, host):
        token = base64.b64encode(":".join(known).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    proxy = settings.get("proxy")
    trusted = {host, f"{host}:{port}"} & set(settings.get("trusted-host", "").split())
    opener = build_opener(
        ProxyHandler({"http": proxy, "https": proxy} if proxy else None),
        HTTPSHandler(context=_certificates(settings.get("cert"), bool(trusted))),
    )
    timeout = float(settings.get("timeout") or settings.get("default-timeout") or 15)
    opened: IO[bytes] = opener.open(request, timeout=timeout)
    return opened


def _password(user: str | None, password: str | None, host: str) -> tuple[str, str] | None:
    """Name and password for a host: those of the address, else those of .netrc."""
    if user is not None:
        return unquote(user), unquote(password or "")
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        if entry := netrc.netrc(os.environ.get("NETRC")).authenticators(host):
            return entry[0], entry[2]
    return None


def _certificates(cert: str | None, trusted: bool) -> ssl.SSLContext:
    cert = cert or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if trusted:
        context = ssl._create_unverified_context()  # noqa: S323  the user's pip trusts this host
    elif cert:
        folder = os.path.isdir(cert)
        context = ssl.create_default_context(
            cafile=None if folder else cert, capath=cert if folder else None
        )
    else:
        context = ssl.create_default_context()
        with contextlib.suppress(ImportError):  # what pip itself trusts
            from pip._vendor import certifi

            context.load_verify_locations(certifi.where())
    return context


def _output(command: list[str], folder: Path) -> str:
    environment = os.environ | {"COLUMNS": "1000"}  # else the help is broken into short lines
    finished = subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, env=environment
    )
    return finished.stdout.decode(errors="replace")


class _Links(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]
