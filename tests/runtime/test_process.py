"""How a command's process waits, and when it collects garbage."""

import json
import os
import subprocess
import sys

import pytest
import torch

from sdic.runtime import process
from sdic.runtime.process import PASSIVE, wait_passively

SCRIPT = """
import json, os, runpy, sys
chosen = runpy.run_path(sys.argv[1])["wait_passively"]()
print(json.dumps([chosen, "torch" in sys.modules, dict(os.environ)]))
"""


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, True),
        ({"OMP_NUM_THREADS": "2"}, True),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, False),
        ({"GOMP_SPINCOUNT": "1000"}, False),
        ({"KMP_BLOCKTIME": "200"}, False),
    ],
)
def test_threads_wait_passively_unless_the_user_says_how(given, chosen):
    """In a process of its own, where PyTorch is not loaded, and is not loaded by this."""
    names = {*PASSIVE, *process.OTHERS}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", SCRIPT, process.__file__]
    printed = json.loads(subprocess.check_output(command, env=environment | given))
    assert printed[:2] == [chosen, False]
    expected = given | (PASSIVE if chosen else {})
    assert {name: printed[2].get(name) for name in names} == dict.fromkeys(names) | {
        name: value for name, value in expected.items() if name in names
    }


def test_nothing_is_chosen_once_pytorch_is_loaded(monkeypatch):
    for name in (*PASSIVE, *process.OTHERS):
        monkeypatch.delenv(name, raising=False)
    assert torch.__name__ in sys.modules
    assert not wait_passively()
    assert not set(PASSIVE) & set(os.environ)


COLLECTIONS = """
import gc, runpy, sys
module = runpy.run_path(sys.argv[1])
usual, counts = gc.get_threshold(), []
gc.collect()
gc.callbacks.append(lambda phase, info: counts.append(phase))
module["spare_imports"]()
kept = [[] for _ in range(module["IMPORTED"] - 50_000)]
assert counts == [] and gc.get_freeze_count() == 0
kept += [[] for _ in range(100_000)]
assert counts and gc.get_threshold() == usual
assert gc.get_freeze_count() > module["IMPORTED"] - 50_000
circle = []
circle.append(circle)
del circle
assert gc.collect() > 0
"""


def test_imports_are_spared_and_later_garbage_is_not():
    subprocess.run([sys.executable, "-c", COLLECTIONS, process.__file__], check=True)
