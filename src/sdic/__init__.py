"""Edit a real photograph of a face and keep the person.

import sdic
editor = sdic.load()
editor.edit("portrait.jpg", smile=2).save("smiling.jpg")

What is named here is imported when it is first used, since PyTorch takes a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdic.errors import InputError, NoFaceError, SdicError, TrainingError, WeightsError

if TYPE_CHECKING:
    from sdic.editing.direction import Direction, Edit
    from sdic.editor import Editor, load
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

_HOMES = {
    "Direction": "sdic.editing.direction",
    "Edit": "sdic.editing.direction",
    "Editor": "sdic.editor",
    "Inversion": "sdic.methods",
    "list_methods": "sdic.methods",
    "load": "sdic.editor",
    "load_inversion": "sdic.methods",
    "save_inversion": "sdic.methods",
}
_ROOMS = {
    *("alignment", "editing", "encoders", "generators", "images", "losses", "methods"),
    *("recognition", "runtime", "text", "weights"),
}


if (
    not TYPE_CHECKING
):  # a checker of types sees the names above, and misses those that are not there

    def __getattr__(name: str) -> Any:
        """A public name, or a room such as `sdic.weights`, imported now."""
        if name in _HOMES:
            home = import_module(_HOMES[name])
            value = getattr(home, "names" if name == "list_methods" else name)
        elif name in _ROOMS:
            value = import_module(f"sdic.{name}")
        else:
            raise AttributeError(f"module 'sdic' has no attribute '{name}'")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
