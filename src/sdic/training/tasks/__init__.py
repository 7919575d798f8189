"""Tasks: what is trained, and by which losses. Each obeys `sdic.training.task.Task`."""

from sdic.training.tasks.compensation import CompensationTask
from sdic.training.tasks.editing import EditingTask
from sdic.training.tasks.encoder import EncoderTask

__all__ = ["CompensationTask", "EditingTask", "EncoderTask"]
