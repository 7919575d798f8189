"""The command line: `sdic VERB`, one thin file for each verb, imported when it is called."""

from sdic.cli.app import app, command, main

__all__ = ["app", "command", "main"]
