"""Edits of the latents: directions, where they come from, and how they are applied."""
