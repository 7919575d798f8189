"""Edit a real photograph of a face and keep the person.

import sdic
editor = sdic.load()
editor.edit("portrait.jpg", smile=2).save("smiling.jpg")
"""

from sdic.editing.direction import Direction, Edit
from sdic.editor import Editor, load
from sdic.errors import InputError, NoFaceError, SdicError, TrainingError, WeightsError
from sdic.methods import Inversion, load_inversion, save_inversion
from sdic.methods import names as list_methods

__version__ = "0.1.0"

__all__ = [
    "Direction",
    "Edit",
    "Editor",
    "InputError",
    "Inversion",
    "NoFaceError",
    "SdicError",
    "TrainingError",
    "WeightsError",
    "list_methods",
    "load",
    "load_inversion",
    "save_inversion",
]
