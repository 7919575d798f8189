"""The name of what a module computes: it changes with its code, its settings and its weights."""

import copy
import importlib
import subprocess
import sys
from functools import cached_property

import pytest
import torch
from torch import nn

from sdic.generators.mobile import Modulation
from sdic.runtime.fingerprint import fingerprint, source_files
from tiny import tiny_generator


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose network calls a helper, which takes a number from a third file."""
    folder = tmp_path / "own_networks"
    (folder / "deep").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "unrelated.py": "",
        "net.py": "from torch import nn\nfrom own_networks.helper import scaled\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return scaled(x)\n",
        "helper.py": "def scaled(x):\n    from .deep import FACTOR\n    return FACTOR * x\n",
        "deep/__init__.py": "from ..deep.numbers import FACTOR\n",
        "deep/numbers.py": "FACTOR = 2\n",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("own_networks")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("net.py", True),
        ("helper.py", True),
        ("deep/__init__.py", True),
        ("deep/numbers.py", True),
        ("unrelated.py", False),
    ],
)
def test_all_code_that_a_network_runs_is_a_part_of_it(package, file, changes):
    network = importlib.import_module("own_networks.net").Net()
    before = fingerprint(network)
    path = package / file
    path.write_text(path.read_text() + "# another way\n")
    assert (fingerprint(network) != before) == changes


def test_the_files_of_a_network_are_those_of_its_package():
    names = {path.name for path in source_files(tiny_generator())}
    assert {"mobile.py", "base.py", "errors.py"} <= names
    assert not {"conv.py", "linear.py", "editor.py"} & names


def test_every_value_of_every_weight_counts():
    network = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300))
    before = fingerprint(network)
    assert fingerprint(copy.deepcopy(network)) == before
    for tensor in (network[0].weight, network[0].bias, network[1].running_var):
        other = copy.deepcopy(network)
        twin = dict(other.named_parameters()) | dict(other.named_buffers())
        name = next(n for n, t in network.state_dict(keep_vars=True).items() if t is tensor)
        with torch.no_grad():
            twin[name].flatten()[-2] += 1e-6
        assert fingerprint(other) != before


def test_weights_may_lie_in_memory_in_any_way():
    conv = nn.Conv2d(4, 4, 3)
    plain = conv.weight.detach().clone()
    conv.weight.data = plain.contiguous(memory_format=torch.channels_last)
    before = fingerprint(conv)
    # The same bytes in the same order are other weights in another layout.
    conv.weight.data = conv.weight.detach().permute(0, 2, 3, 1).reshape(plain.shape)
    assert fingerprint(conv) != before
    assert fingerprint(nn.ParameterList([torch.zeros(()), torch.zeros(2, dtype=torch.bfloat16)]))


def test_settings_without_weights_count():
    one, other = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3, padding=1)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) != fingerprint(other)
    weak, strong = Modulation(4, gain=1.0), Modulation(4, gain=2.0)
    strong.load_state_dict(weak.state_dict())
    assert fingerprint(weak) != fingerprint(strong)
    split = tiny_generator()
    before = fingerprint(split)
    split.feature_shape = (8, 2, 2)
    assert fingerprint(split) != before


class Lazy(nn.Linear):
    @cached_property
    def size(self):
        return self.weight.numel()


def test_what_a_network_remembers_of_itself_does_not_count():
    network = Lazy(2, 3)
    before = fingerprint(network)
    assert network.size == 6
    assert fingerprint(network) == before


def test_the_context_counts():
    network = nn.Linear(2, 2)
    assert fingerprint(network, "f32") != fingerprint(network, "bf16")


def test_another_process_gives_the_same_name():
    script = (
        "import torch; from sdic.generators.mobile import MobileStyleGAN; "
        "from sdic.runtime.fingerprint import fingerprint; torch.manual_seed(0); "
        "print(fingerprint(MobileStyleGAN((4, 4), feature_block=0)))"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.check_output(command) == subprocess.check_output(command)
