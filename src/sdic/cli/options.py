"""Options and arguments that several verbs share, and what is made of them.

Importing this loads no PyTorch, so that --help is there at once.
"""

from __future__ import annotations

import inspect
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from sdic.cli.outputs import INVERSION_SUFFIX
from sdic.errors import InputError

if TYPE_CHECKING:
    from sdic.alignment import Which
    from sdic.editor import Editor
    from sdic.generators import Generator

DEFAULT_GENERATOR = "mobile"  # as of `generators.create`, which is slow to import

MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        help="Inversion method; `sdic info` lists them. Default: sdic; of an inversion, its own.",
    ),
]
GeneratorName = Annotated[str, typer.Option("--generator", help="mobile or stylegan2.")]
GeneratorOfFile = Annotated[
    str | None,
    typer.Option("--generator", help="mobile or stylegan2; default: the checkpoint's, or mobile."),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        readable=False, help="A file of `sdic train export`; or a published one, for stylegan2."
    ),
]
GeneratorFile = Annotated[
    Path | None,
    typer.Option("--checkpoint", readable=False, help="Weights of a generator that has none."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Backend = Annotated[str, typer.Option(help="auto, eager, compiled, openvino or openvino-bf16.")]
Detector = Annotated[str, typer.Option(help="mtcnn, or dlib (frontal faces only).")]
Refine = Annotated[
    int, typer.Option(min=0, help="Optimisation steps on top of the method's own inversion.")
]
# What may not be read is told in the words of this program: hence no check by typer.
Photos = Annotated[list[Path], typer.Argument(readable=False, help="Photos, or folders of photos.")]
Sources = Annotated[
    list[Path],
    typer.Argument(
        readable=False, help=f"Photos, folders of photos, or inversions (*{INVERSION_SUFFIX})."
    ),
]
OneSource = Annotated[
    Path,
    typer.Argument(readable=False, help=f"A photo, or an inversion (*{INVERSION_SUFFIX})."),
]
Face = Annotated[str, typer.Option(help="largest, all, or an index: 0 is the largest face.")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The photos are FFHQ crops already.")]
Release = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Change of features at which compensation gives way to the edit: smaller changes more "
        "and keeps less of the person; 0 never gives way. Default: the method's own.",
    ),
]
Age = Annotated[float | None, typer.Option(help="Years: 15 is 15 older. Short for -e age=15y.")]
Smile = Annotated[
    float | None,
    typer.Option(min=-1, max=1, help="-1 (serious) to 1 (the most). Short for -e smile=100%."),
]
Yaw = Annotated[float | None, typer.Option(help="Degrees to the side. Short for -e yaw=20deg.")]
Text = Annotated[
    str | None,
    typer.Option(help='In words, e.g. "ten years older, a slight smile"; see docs/WORDS.md.'),
]
Detail = Annotated[
    bool, typer.Option(help="Keep the photo's fine structure; paste the change only.")
]
OnePhoto = Annotated[
    Path | None,
    typer.Option("--photo", readable=False, help="The photo of an inversion, if renamed."),
]
FolderOfPhotos = Annotated[
    Path, typer.Option("--photos", help="Where photos of inversions are, if not beside them.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that are there already, never a photo.")
]
Strip = Annotated[
    str | None,
    typer.Option(
        metavar="location|all",
        help="Leave the place (GPS), or all that describes the photo, out of the results.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line for each photo.")]


@dataclass(frozen=True)
class Engine:
    """The options of verbs that invert photos: what inverts, on what, and how; see `expand`."""

    method: MethodName = None
    refine: Refine = 0
    generator: GeneratorOfFile = None
    checkpoint: Checkpoint = None
    detector: Detector = "mtcnn"
    device: Device = "auto"
    backend: Backend = "auto"


def make_editor(engine: Engine, method: str) -> Editor:
    """The editor of a method, as the options describe it.

    Raises:
        SdicError: see `editor.load`.
    """
    from sdic import editor

    if engine.checkpoint is not None:
        check_regular(engine.checkpoint)
    return editor.load(
        method,
        engine.generator,
        checkpoint=engine.checkpoint,
        backend=engine.backend,
        device=engine.device,
        detector=engine.detector,
        refine=engine.refine,
    )


def make_generator(
    name: str, checkpoint: Path | None, device: str, backend: str = "auto"
) -> Generator:
    """A generator, run by a backend on a device.

    Raises:
        SdicError: see `generators.create` and `runtime.backends`.
    """
    from sdic import generators
    from sdic.runtime.backends import accelerate, resolve_device

    if checkpoint is not None:
        check_regular(checkpoint)
    return accelerate(generators.create(name, checkpoint), backend, resolve_device(device))


def expand(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose parameters that are dataclasses, such as `Engine`, are an option for each field.

    So a verb names its own options only. The fields stand in the help where the parameter stands.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for parameter in inspect.signature(verb).parameters.values():
        kind = groups.get(parameter.name)
        if kind is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        of_fields = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=one.default,
                annotation=of_fields[one.name],
            )
            for one in fields(kind)
        ]

    @wraps(verb)
    def flat(**values: Any) -> None:
        made = {
            name: kind(**{one.name: values.pop(one.name) for one in fields(kind)})
            for name, kind in groups.items()
        }
        verb(**values, **made)

    keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    flat.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    return flat


def check_regular(path: Path) -> None:
    """Raise InputError if a path leads to anything but a plain file that may be read.

    Where nothing lies, nothing is said: who reads it tells what was expected there.

    Raises:
        InputError: it is a folder, a pipe, a socket or a device, or may not be read.
    """
    check_kind(path)
    if path.exists() and not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read; check its permissions.")


def check_kind(path: Path) -> None:
    """Raise InputError if what lies at a path is no plain file, so that reading might never end.

    Raises:
        InputError: as said, or nobody may look there.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise InputError(f"{path} may not be read ({error}); check it.") from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise InputError(f"{path} is {kind}; expected a file. Save what it gives as one first.")


def list_photos(paths: Sequence[Path]) -> list[Path]:
    """All photos that the arguments name: files, and those in folders; see `images.list_images`.

    A file that may not be read is among them: it is one failure of the batch.

    Raises:
        InputError: a path is not there, or is a pipe or device; a folder has no picture in it, or
            may not be read.
    """
    from sdic import images

    try:
        for path in paths:
            if not path.is_dir():
                check_kind(path)
        return images.list_images(paths)
    except OSError as error:
        raise InputError(
            f"{error.filename} may not be read ({error.strerror}); check its permissions."
        ) from error


def list_sources(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photos, those in folders included, and inversions, which are told by their suffix.

    Raises:
        InputError: see `list_photos`.
    """
    inversions = [path for path in dict.fromkeys(paths) if path.name.endswith(INVERSION_SUFFIX)]
    for path in inversions:
        check_kind(path)
    others = [path for path in paths if path not in inversions]
    return (list_photos(others) if others else []), inversions


def picture_suffix(text: str) -> str:
    """The suffix of a format of pictures, e.g. ".png" for "png" or ".png".

    Raises:
        InputError: no such pictures can be written.
    """
    from sdic.images.files import FORMAT_OF_SUFFIX

    suffix = f".{text.lower().removeprefix('.')}"
    if suffix not in FORMAT_OF_SUFFIX:
        known = ", ".join(one.removeprefix(".") for one in FORMAT_OF_SUFFIX)
        raise InputError(
            f"'{text}' is no format that pictures are written in; choose from: {known}."
        )
    return suffix


def parse_face(text: str) -> Which:
    """The value of --face: "largest", "all" or an index from 0 on.

    Raises:
        InputError: it is none of these.
    """
    if text == "largest":
        return "largest"
    if text == "all":
        return "all"
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    raise InputError(f"The face is '{text}'; expected largest, all, or an index from 0 on.")


def parse_strip(text: str | None) -> Literal["location", "all"] | None:
    """The value of --strip: "location", "all", or None where it is not given.

    Raises:
        InputError: it is none of these.
    """
    if text is None:
        return None
    if text == "location":
        return "location"
    if text == "all":
        return "all"
    raise InputError(f"--strip is '{text}'; expected location or all.")


def all_edits(
    edits: list[str] | None,
    age: float | None,
    smile: float | None,
    yaw: float | None,
    text: str | None = None,
) -> list[str]:
    """`NAME=VALUE` texts of all edits, with those that have an option of their own.

    What was understood of `text` is told on standard error.

    Raises:
        InputError: there are none, or the text is not understood.
    """
    texts = list(edits or ())
    texts += [f"age={age:+g}y"] if age is not None else []
    texts += [f"smile={100 * smile:+g}%"] if smile is not None else []
    texts += [f"yaw={yaw:+g}deg"] if yaw is not None else []
    if text is not None:
        from sdic.editing.catalogue import library_file, read_descriptions
        from sdic.text import parse

        understood = parse(text, read_descriptions(library_file()))
        typer.echo(f"understood: {understood.sentence}", err=True)
        texts += [f"{name}={amount}" for name, amount in understood.steps]
    if not texts:
        raise InputError(
            "There is nothing to edit; say what with --edit NAME=STRENGTH, --text, --age, --smile "
            "or --yaw. `sdic directions list` shows the names."
        )
    return texts


def parse_amounts(texts: list[str]) -> dict[str, float | str]:
    """`NAME=AMOUNT` texts as a dictionary for `Editor.make_edit`.

    Raises:
        InputError: a text has another form, or a direction is named twice.
    """
    amounts: dict[str, float | str] = {}
    for text in texts:
        name, value = split_edit(text)
        if name in amounts:
            raise InputError(f"The direction '{name}' is given twice; give it once.")
        amounts[name] = float(value) if _is_number(value) else value
    return amounts


def parse_strengths(texts: list[str], generator: str = "mobile") -> dict[str, float]:
    """`NAME=STRENGTH` texts as a dictionary, e.g. smile=2, age=+15y or yaw=80%.

    Units are those of `units.to_strength`; for them the direction of this generator is looked up.

    Raises:
        InputError: a text has another form, a direction is named twice, or it is not known or not
            calibrated in the unit.
    """
    strengths: dict[str, float] = {}
    for text in texts:
        name, value = split_edit(text)
        if name in strengths:
            raise InputError(f"The direction '{name}' is given twice; give it once.")
        strengths[name] = parse_strength(name, value, generator)
    return strengths


def split_edit(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as name and value.

    Raises:
        InputError: the text has another form, or the value has no digit.
    """
    name, _, value = text.rpartition("=")
    if not name or not (_is_number(value) or any(map(str.isdigit, value))):
        raise InputError(
            f"The edit is '{text}'; expected NAME=STRENGTH, e.g. smile=2, age=+15y or yaw=80%."
        )
    return name, value


def parse_strength(name: str, value: str, generator: str) -> float:
    """The strength that a text stands for; only for a unit is the direction looked up."""
    if _is_number(value):
        return float(value)
    from sdic.editing import library, units

    return units.to_strength(library.get(name, generator), value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
