"""An ordinary user meets what may not be read or written: one sentence, each time."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fakes import noise_photo, write_directions

TESTS = Path(__file__).parents[1]
CAPABILITIES = 1, 2  # by which root reads and writes everything: DAC_OVERRIDE, DAC_READ_SEARCH
PR_CAPBSET_DROP = 24

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")

# Runs every command of a list in one process, with the fake editor and detector of the tests.
CHILD = """
import contextlib, io, json, sys
from fakes import FakeDetector, fake_editor
from sdic.cli import main, options
import sdic.recognition.detection as detection

options_make, editor = options.make_editor, fake_editor()
options.make_editor = lambda one, name: options_make(one, name) if one.checkpoint else editor
detection.load_detector = lambda name: FakeDetector((70, 60, 24))
results = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["sdic", *arguments]
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    results.append((code, out.getvalue(), error.getvalue()))
print(json.dumps(results))
"""


def drop_capabilities():
    if os.geteuid() == 0:
        for capability in CAPABILITIES:
            if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                os._exit(77)


def as_ordinary_user(folder, commands):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        "SDIC_CACHE": str(folder / "cache"),
        "SDIC_DEBUG": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(commands)],
        preexec_fn=drop_capabilities,
        capture_output=True,
        env=environment,
        timeout=300,
    )
    if done.returncode == 77:
        pytest.skip("capabilities cannot be dropped here")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


# What is read or written, the command, and words of its sentence; {} is the user's folder.
TABLE = {
    "a photo": ("align {}/good.png {}/secret.png --out {}/out", "secret.png may not be read"),
    "a folder": ("align {}/locked --out {}/out", "locked may not be read"),
    "a photo in a folder": ("align {}/closed/me.png --out {}/out", "may not be read"),
    "an inversion": (
        "edit {}/me.sdic.safetensors -e {}/d.safetensors:smile=1 --out {}/out",
        "may not be read",
    ),
    "a direction": (
        "edit {}/good.png -e {}/secret.safetensors:smile=1 --out {}/new",
        "secret.safetensors may not be read",
    ),
    "directions": ("directions list --file {}/secret.safetensors", "may not be read"),
    "a vector": ("directions import {}/pose.npy --out {}/new.safetensors", "may not be read"),
    "a checkpoint": ("invert {}/good.png --checkpoint {}/a.pt --out {}/new", "may not be read"),
    "an export": (
        "invert {}/good.png --checkpoint {}/a.safetensors --out {}/new",
        "may not be read",
    ),
    "a file to convert": (
        "weights convert {}/a.pt --out {}/new.safetensors",
        "a.pt may not be read",
    ),
    "a folder of results": ("align {}/good.png --out {}/closed", "may not be written to"),
    "a new folder of results": ("generate --out {}/closed/new", "may not be written to"),
    "the cache": ("weights fetch mtcnn", "cannot be written to; make it writable, or set SDIC_"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Exit code, output and error of each command of the table."""
    base = tmp_path_factory.mktemp("user")
    for name in ("locked", "closed", "cache/weights"):
        (base / name).mkdir(parents=True)
    for name in ("good.png", "secret.png", "locked/me.png", "closed/me.png"):
        Image.fromarray(noise_photo()).save(base / name)
    for name in ("d.safetensors", "secret.safetensors"):
        write_directions(base / name)
    for name in ("me.sdic.safetensors", "pose.npy", "a.pt", "a.safetensors"):
        (base / name).write_bytes(b"no matter what")
    for path in base.iterdir():
        if path.name not in ("good.png", "d.safetensors", "cache", "closed"):
            path.chmod(0)
    (base / "closed").chmod(0o600)
    (base / "cache" / "weights").chmod(0)
    commands = [text.replace("{}", str(base)).split() for text, _ in TABLE.values()]
    yield dict(zip(TABLE, as_ordinary_user(base, commands), strict=True))
    for name in ("locked", "closed", "cache/weights"):
        (base / name).chmod(0o700)


@pytest.mark.parametrize("name", TABLE)
def test_one_sentence(name, results):
    code, output, error = results[name]
    assert code == 1
    assert TABLE[name][1] in error
    assert "Traceback" not in error
    assert "defect" not in error
    assert error.count("\n") == (2 if "files failed" in error else 1)
    assert output.count("good.png: crops") == (name == "a photo")
