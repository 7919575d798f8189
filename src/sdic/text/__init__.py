"""Edits by words."""

from sdic.text.grammar import Understood, parse

__all__ = ["Understood", "parse"]
