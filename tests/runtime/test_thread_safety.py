"""Several threads on one accelerated generator or network: each gets its own results."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import nn

from sdic.runtime import openvino
from sdic.runtime.backends import BACKENDS, accelerate, accelerate_network
from tiny import tiny_generator

THREADS, RENDERS = 4, 200


@pytest.fixture(params=[name for name in BACKENDS if name != "auto"])
def backend(request, tmp_path, monkeypatch):
    monkeypatch.setenv("SDIC_CACHE", str(tmp_path))
    if request.param.startswith("openvino") and not openvino.is_available():
        pytest.skip("needs openvino")
    # The compiler of C++ takes a minute, and is not what threads could mix up.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    return request.param


def results_in_threads(call, inputs):
    """What `call` makes of RENDERS inputs in turn, begun in all threads at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(call, [inputs[i % len(inputs)] for i in range(RENDERS)]))


def check_threads(call, inputs, make_call):
    """Each result in threads is bit for bit that of one thread; `call` has not been used yet."""
    found = results_in_threads(call, inputs)
    expected = [make_call()(x) for x in inputs]
    assert not torch.equal(expected[0], expected[1])
    wrong = sum(not torch.equal(found[i], expected[i % len(inputs)]) for i in range(RENDERS))
    assert wrong == 0, f"{wrong} of {RENDERS} results were another thread's, or a mixture"


@torch.no_grad()
def test_each_thread_gets_its_own_face(backend):
    network = tiny_generator(channels=(8, 8, 8))
    faces = network.sample(THREADS, seed=5)
    faces = list(network.broadcast(faces).contiguous().split(1))
    check_threads(accelerate(network, backend), faces, lambda: accelerate(network, backend))


@torch.no_grad()
def test_each_thread_gets_its_own_result_of_a_network(backend):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 3, 3)).eval()
    inputs = list(torch.randn(THREADS, 3, 64, 64).split(1))
    check_threads(
        accelerate_network(network, backend), inputs, lambda: accelerate_network(network, backend)
    )


def test_compiled_halves_are_called_one_at_a_time(monkeypatch):
    """PyTorch refuses a call of compiled code while another thread compiles."""
    busy = threading.Lock()

    def alone(function):
        def call(*args):
            assert busy.acquire(blocking=False), "another thread is in compiled code"
            time.sleep(0.01)
            busy.release()
            return function(*args)

        return call

    monkeypatch.setattr(torch, "compile", alone)
    networks = [accelerate(tiny_generator(channels=(8, 8)), "compiled") for _ in range(2)]
    latents = torch.zeros(1, networks[0].num_styles, 512)
    with ThreadPoolExecutor(THREADS) as pool:
        assert len(list(pool.map(lambda i: networks[i % 2](latents), range(20)))) == 20
