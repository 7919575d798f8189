"""The protocol of a measurement, and the measurement that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdic.errors import InputError
from sdic.images import resize_area
from sdic.metrics.registry import Metric


@dataclass(frozen=True)
class Protocol:
    """How images are brought to one form before they are measured; printed with every number.

    Attributes:
        size: side of the measured images in pixels. Identity needs 256.
        value_range: values are clamped to it; metrics are defined on [-1,1].
        resize_filter: "area", the mean of the pixels that fall on one.
        networks: names of the networks that judged.
    """

    size: int = 256
    value_range: tuple[float, float] = (-1.0, 1.0)
    resize_filter: str = "area"
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.value_range != (-1.0, 1.0) or self.resize_filter != "area" or self.size < 1:
            raise InputError(
                "A protocol has a positive size, values in [-1,1] and the filter 'area', not"
                f" {self.size}, {list(self.value_range)} and '{self.resize_filter}'."
            )

    def prepare(self, images: Tensor) -> Tensor:
        """Images [N,3,H,W] to [N,3,size,size], clamped and area-resized.

        Raises:
            InputError: not square images of at least the protocol's size.
        """
        if images.ndim != 4 or images.shape[-1] != images.shape[-2] or images.shape[-1] < self.size:
            raise InputError(
                f"Square images of at least {self.size} pixels were expected, not"
                f" {tuple(images.shape)}: align the photos at a larger size."
            )
        return resize_area(images.clamp(*self.value_range), self.size)

    def __str__(self) -> str:
        low, high = self.value_range
        text = f"{self.size}x{self.size}, values in [{low:g},{high:g}], {self.resize_filter} resize"
        return f"{text}; networks: {', '.join(self.networks)}" if self.networks else text


@dataclass(frozen=True)
class Measurement:
    """Values of several metrics on the same pairs, with their protocol.

    Attributes:
        protocol: what was done to the images, and which networks judged.
        metrics: the metrics, in order.
        values: [N] for each metric by its name, on the CPU.
    """

    protocol: Protocol
    metrics: tuple[Metric, ...]
    values: dict[str, Tensor]

    def mean(self, name: str) -> float:
        """Mean of a metric over the pairs."""
        return float(self.values[name].mean())

    def __str__(self) -> str:
        lines = [f"protocol: {self.protocol}"]
        for metric in self.metrics:
            values = self.values[metric.name]
            better = "higher" if metric.higher_is_better else "lower"
            unit = f" {metric.unit}" if metric.unit else ""
            note = f"; {metric.note}" if metric.note else ""
            lines.append(
                f"{metric.name}: {values.mean():.4f}{unit} (n={len(values)}, {better} is"
                f" better{note})"
            )
        return "\n".join(lines)


def measure(
    images: Tensor, references: Tensor, metrics: Sequence[Metric], protocol: Protocol | None = None
) -> Measurement:
    """Bring both batches [N,3,H,W] to the protocol and measure every pair by every metric.

    Raises:
        InputError: the batches do not suit the protocol or a metric.
    """
    protocol = protocol or Protocol()
    networks = tuple(metric.network for metric in metrics if metric.network is not None)
    with torch.no_grad():
        prepared = protocol.prepare(images), protocol.prepare(references)
        values = {metric.name: metric(*prepared).cpu() for metric in metrics}
    return Measurement(replace(protocol, networks=networks), tuple(metrics), values)
