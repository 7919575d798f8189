"""The command line: `sdic VERB`, one thin file for each verb."""

from sdic.cli import align, demo, directions, edit, generate, info, invert, train, weights
from sdic.cli.app import app, main

__all__ = [
    "align",
    "app",
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
