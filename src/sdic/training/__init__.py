"""Training: one loop for every method (`loop`), what it trains (`tasks`), and recipes.

    from sdic.training import Trainer, launch, recipe

The command is `sdic train`; see docs/TRAINING.md.
"""
