"""The command line: `sdic VERB`, one thin file for each verb."""

from sdic.cli import (
    align,
    animate,
    benchmark,
    demo,
    directions,
    edit,
    generate,
    info,
    invert,
    train,
    weights,
)
from sdic.cli.app import app, main

__all__ = [
    "align",
    "animate",
    "app",
    "benchmark",
    "demo",
    "directions",
    "edit",
    "generate",
    "info",
    "invert",
    "main",
    "train",
    "weights",
]
