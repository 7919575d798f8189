"""The ablations of the paper: one recipe, a run for each variant, and their table.

Tables 2 and 3 of its supplement, and figure 4a and b (4c, edit before compensation, is another way
to run the same weights: the method "sdic-edit-first"). The variants are trained for the same number
of steps from the same seed; their measures are those of the validation photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdic.errors import TrainingError
from sdic.files import write_whole
from sdic.training.curve import read_curve

MEASURES = ("psnr", "l2_loss", "perceptual_loss", "identity_loss")


@dataclass(frozen=True)
class Ablation:
    """A variant of SDIC.

    Attributes:
        name: its folder, and its key on the command line.
        title: what the paper calls it.
        where: the table or figure of the paper.
        overrides: what it sets otherwise in the recipe.
    """

    name: str
    title: str
    where: str
    overrides: tuple[str, ...] = ()


_AFFINE = "components.options.dicn.attention=false"
_NO_CONTEXT = "components.options.dipn.spatial_context=false"


def _layer(layer: int) -> Ablation:
    override = f"components.options.generator.feature_layer={layer}"
    return Ablation(f"layer-{layer}", f"layer {layer}", "table 3", (override,))


ABLATIONS = {
    ablation.name: ablation
    for ablation in (
        Ablation("full", "SDIC (layer 7)", "tables 2 and 3"),
        Ablation("no-attention", "w/o Att", "table 2, figure 4b", (_AFFINE,)),
        Ablation("no-context", "w/o SC", "figure 4a", (_NO_CONTEXT,)),
        Ablation("no-context-no-attention", "w/o SC & Att", "table 2", (_NO_CONTEXT, _AFFINE)),
        Ablation(
            "no-fusion-attention",
            "DIPN w/o attention",
            "not in the paper",
            ("components.options.dipn.attention=false",),
        ),
        _layer(5),
        _layer(9),
    )
}


def choose(names: Iterable[str]) -> list[Ablation]:
    """Variants by name; none is all of them.

    Raises:
        TrainingError: no variant has this name.
    """
    chosen = list(names) or list(ABLATIONS)
    for name in chosen:
        if name not in ABLATIONS:
            known = ", ".join(ABLATIONS)
            raise TrainingError(f"There is no ablation '{name}'; choose from: {known}.")
    return [ABLATIONS[name] for name in chosen]


def run_all(
    ablations: Iterable[Ablation],
    out: Path,
    train: Callable[[tuple[str, ...], Path], bool],
) -> Path:
    """Train each variant, or go on with it, and write the table anew after each.

    Args:
        ablations: the variants.
        out: folder of the runs.
        train: overrides and the folder of a run, to whether the time is over.

    Returns:
        The table's file.
    """
    table = out / "ablations.md"
    for ablation in ablations:
        over = train(ablation.overrides, out / ablation.name)
        write_whole(table, as_table(out).encode(), TrainingError)
        if over:
            break
    return table


def as_table(out: Path) -> str:
    """Markdown: the newest validation of each variant that has one."""
    lines = [
        "| variant | in the paper | steps | " + " | ".join(MEASURES) + " |",
        "|---|---|---:|" + "---:|" * len(MEASURES),
    ]
    for ablation in ABLATIONS.values():
        rows = read_curve(out / ablation.name / "curve.csv")
        if rows:
            cells = [_number(rows[-1], name) for name in MEASURES]
            lines.append(
                f"| {ablation.title} | {ablation.where} | {rows[-1]['step']} | "
                f"{' | '.join(cells)} |"
            )
    return "\n".join(lines) + "\n"


def _number(row: Mapping[str, str], name: str) -> str:
    return f"{float(row[name]):.4g}" if row.get(name) else ""
