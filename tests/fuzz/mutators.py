"""Changes of files: of any bytes, and of the parts that PNG, JPEG, zip, safetensors and JSON have.

All take their choices from one `random.Random`, so a seed says all.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

WORDS = (
    *("0", "-1", "1", "255", "65536", "2147483647", "4294967296", "9223372036854775808", "1e308"),
    *("1e-320", "nan", "inf", "-inf", "Infinity", "NaN", "9" * 400, "0x7f", "1_0", "true", "null"),
    *("", "[]", "{}", "''", '"x"', "../x", "/etc/passwd", "\0", "\x1b[2J", "\ud83d", "é", "-h"),
    *("x" * 300, "[" * 2000, "{'a':" * 500, "%s", "\n", "=", ":", ".", "..", "a/b", "con", "~x/y"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**6, 2**31, 2**63, 10**400, 0.5, 1e308, -1e-320),
    *(float("nan"), float("inf"), "", "x", "../x", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800"),
    *("é" * 200, [], [1], [[[[]]]], {}, {"a": 1}, [10**12], [-1], [0], [2**40, 2**40], "F64", "U8"),
)
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def mutated(data: bytes, random: Random, other: bytes = b"") -> bytes:
    """The data after one to three changes.

    Args:
        data: what is changed.
        random: where choices come from.
        other: another file, of which parts may be taken.
    """
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        by_form = [change for test, change in FORMS if test(data)]
        if other and random.random() < 0.05:
            data = splice(data, other, random)
        elif by_form and random.random() < 0.6:
            data = random.choice(by_form)(data, random)
        else:
            data = random.choice(PLAIN)(data, random)
    return data


# --- any bytes ------------------------------------------------------------------------------------


def _span(data: bytes, random: Random) -> tuple[int, int]:
    # Headers are where decisions are made.
    end = len(data) if random.random() < 0.5 else min(len(data), 600)
    start = random.randint(0, max(end - 1, 0))
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 200)))


def flip(data: bytes, random: Random) -> bytes:
    """One bit, or all of some bytes."""
    start, end = _span(data, random)
    mask = 1 << random.randint(0, 7) if random.random() < 0.5 else 0xFF
    return data[:start] + bytes(value ^ mask for value in data[start:end]) + data[end:]


def cut(data: bytes, random: Random) -> bytes:
    """The end, or a part, is missing."""
    start, end = _span(data, random)
    return data[:start] + (data[end:] if random.random() < 0.5 else b"")


def insert(data: bytes, random: Random) -> bytes:
    """A word or some zeros more."""
    start, _ = _span(data, random)
    words = random.choice(WORDS).encode("utf-8", "surrogatepass")
    return data[:start] + random.choice((words, bytes(random.choice((1, 7, 5000))))) + data[start:]


def duplicate(data: bytes, random: Random) -> bytes:
    """A part twice."""
    start, end = _span(data, random)
    return data[:end] + data[start:end] * random.choice((1, 1, 50)) + data[end:]


def number(data: bytes, random: Random) -> bytes:
    """An integer at the edge of its range, of any width and order."""
    start, _ = _span(data, random)
    width = random.choice((1, 2, 4, 8))
    value = random.choice(EDGES) & (1 << 8 * width) - 1
    written = value.to_bytes(width, random.choice(("little", "big")))
    return data[:start] + written + data[start + width :]


def splice(data: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one and the end of another."""
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


PLAIN: tuple[Mutator, ...] = (flip, cut, insert, duplicate, number)

# --- by form --------------------------------------------------------------------------------------


def png(data: bytes, random: Random) -> bytes:
    """A chunk changed, dropped or doubled, with the right checksum."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        chunks.append((kind, data[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return flip(data, random)
    chosen = random.randrange(len(chunks))
    kind, content = chunks[chosen]
    if kind == b"IDAT" and random.random() < 0.5:
        try:
            content = zlib.compress(mutated(zlib.decompress(content), random))
        except zlib.error:
            content = flip(content, random)
    new = [(kind, random.choice(PLAIN)(content, random))]
    new = random.choice((new, new, [], [(kind, content)] * 2, [(b"eXIf", content)]))
    chunks[chosen : chosen + 1] = new
    out = data[:8]
    for kind, content in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        out += struct.pack(">I", len(content)) + kind + content + checksum
    return out


def jpeg(data: bytes, random: Random) -> bytes:
    """A segment before the scan changed, dropped or doubled, with the right length."""
    segments, place = [], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, place + 2)
        segments.append((data[place + 1], data[place + 4 : place + 2 + size]))
        place += 2 + size
    if not segments:
        return flip(data, random)
    chosen = random.randrange(len(segments))
    marker, content = segments[chosen]
    new = [(marker, random.choice(PLAIN)(content, random))]
    segments[chosen : chosen + 1] = random.choice((new, new, new, [], [(marker, content)] * 2))
    out = data[:2]
    for marker, content in segments:
        content = content[:65_533]
        out += struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
    return out + data[place:]


def archive(data: bytes, random: Random) -> bytes:
    """A member of a zip file changed, renamed, doubled or compressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            members = [(info.filename, zipped.read(info)) for info in zipped.infolist()]
    except Exception:
        return flip(data, random)
    if not members:
        return flip(data, random)
    chosen = random.randrange(len(members))
    name, content = members[chosen]
    name = random.choice((name, name, name, "../x", "x/" + name, name.upper()))
    new = [(name, mutated(content, random))]
    members[chosen : chosen + 1] = random.choice((new, new, new, [], new * 2))
    packed = io.BytesIO()
    kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(packed, "w", kind) as zipped, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in members:
            zipped.writestr(name, content)
    return packed.getvalue()


def safetensors(data: bytes, random: Random) -> bytes:
    """The header's JSON, or the JSON in its texts, changed; the length is right."""
    (size,) = struct.unpack_from("<Q", data)
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError):
        return flip(data, random)
    texts = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(texts, dict) and texts and random.random() < 0.7:
        name = random.choice(sorted(texts))
        texts[name] = _text(str(texts[name]), random)
    else:
        header = _node(header, random)
    try:
        written = json.dumps(header).encode()
    except (ValueError, TypeError):
        return flip(data, random)
    return struct.pack("<Q", len(written)) + written + data[8 + size :]


def text(data: bytes, random: Random) -> bytes:
    """JSON changed in one place; a word of any other text replaced."""
    return _text(data.decode(errors="replace"), random).encode("utf-8", "surrogatepass")


def _text(words: str, random: Random) -> str:
    try:
        return json.dumps(_node(json.loads(words), random))
    except (ValueError, RecursionError, TypeError):
        parts = words.split(" ")
        parts[random.randrange(len(parts))] = random.choice(WORDS)
        return " ".join(parts)


def _node(tree: Any, random: Random) -> Any:
    """A tree of JSON with one node replaced, renamed or dropped; it is changed in place."""
    inner = (isinstance(tree, dict | list) and tree) and random.random() < 0.85
    if not inner:
        return random.choice(VALUES)
    key = random.choice(sorted(tree)) if isinstance(tree, dict) else random.randrange(len(tree))
    chance = random.random()
    if chance < 0.1:
        del tree[key]
    elif chance < 0.2 and isinstance(tree, dict):
        tree[random.choice(WORDS)] = tree.pop(key)
    else:
        tree[key] = _node(tree[key], random)
    return tree


def _is_text(data: bytes) -> bool:
    return bool(data) and b"\0" not in data[:200] and data[:200].isascii()


def _is_safetensors(data: bytes) -> bool:
    return len(data) > 10 and data[8:9] == b"{" and struct.unpack_from("<Q", data)[0] < len(data)


FORMS: tuple[tuple[Callable[[bytes], bool], Mutator], ...] = (
    (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), png),
    (lambda data: data.startswith(b"\xff\xd8"), jpeg),
    (lambda data: data.startswith(b"PK\x03\x04"), archive),
    (_is_safetensors, safetensors),
    (_is_text, text),
)
