"""Lies here so that pytest puts this folder on the import path: tests share what lies beside it."""

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test draws the same numbers, whichever others run before it."""
    torch.manual_seed(0)
