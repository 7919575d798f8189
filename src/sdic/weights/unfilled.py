"""Networks that are made to be filled from a file, without their random values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class Unfilled(TorchFunctionMode):
    """While it is on, this thread makes modules without the random values of `torch.nn.init`.

    For modules that get all their weights from a file: drawing 30 million numbers that are thrown
    away takes longer than reading the right ones.

        with Unfilled():
            network = CompactDIPN()
        load_strict(network, ...)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
