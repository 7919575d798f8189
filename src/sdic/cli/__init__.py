"""The command line: `sdic VERB`, one thin file for each verb."""

from sdic.cli.app import main

__all__ = ["main"]
