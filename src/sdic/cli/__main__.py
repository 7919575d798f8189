"""`python -m sdic.cli`, where the command `sdic` is not on the path."""

from sdic.cli.app import command

command()
