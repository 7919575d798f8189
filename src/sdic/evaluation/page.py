"""The report as one HTML file with everything in it: tables, plots, pictures, error maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sdic.evaluation import tables
from sdic.evaluation.editing import EQUAL_CHANGES, REFERENCE
from sdic.evaluation.gallery import ERROR_SCALE, GalleryImage, data_uri, error_map
from sdic.evaluation.plots import Axis, Point, plot
from sdic.evaluation.report import TRADE_OFF, Report

_QUALITY = ("psnr", "st_lpips", "id_dlib")
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;display:block;overflow-x:auto}
th,td{padding:.3em .7em;text-align:right;border-bottom:1px solid #8886;white-space:nowrap}
th:first-child,td:first-child,.plain td{text-align:left}
.plots{display:flex;flex-wrap:wrap;gap:1em}
svg{font:11px system-ui,sans-serif;max-width:100%;height:auto}
svg text{fill:currentColor} svg .heading{font-size:13px;font-weight:600}
svg .axis{stroke:currentColor;fill:none} svg .curve{fill:none;stroke-width:1.5}
svg .guide{stroke:currentColor;stroke-dasharray:2 4;opacity:.6}
.row{display:flex;overflow-x:auto;gap:6px;margin:4px 0}
figure{margin:0;flex:none} img{width:160px;height:160px;display:block}
figcaption{font-size:12px}
"""


def page(report: Report, gallery: Sequence[GalleryImage]) -> str:
    """The whole page; it refers to no other file."""
    parts = [
        f"<h1>{tables.TITLE}</h1>",
        "<h2>Reconstruction</h2>",
        _table(*tables.reconstruction_table(report)),
        f'<div class="plots">{"".join(_time_plots(report))}</div>',
    ]
    if any(report["editing"].values()):
        parts += ["<h2>Editing</h2>", _table(*tables.editing_table(report))]
        if any(report["kept_of_e4e"].values()):
            parts += [
                f"<h3>Share of {REFERENCE}'s attribute change</h3>",
                _table(*tables.kept_table(report)),
            ]
        if any(report["equal_change"].values()):
            parts += [
                f"<h3>{tables.EQUAL_TITLE}</h3>",
                _table(*tables.equal_change_table(report)),
            ]
        parts.append(f'<div class="plots">{"".join(_editing_plots(report))}</div>')
    parts += ["<h2>Failures</h2>", _failures(report)]
    if gallery:
        parts += [
            "<h2>Pictures</h2>",
            "<p>Error maps show the mean absolute difference of the channels from the photo: black "
            f"is none, then red, yellow, and white from {ERROR_SCALE} of 255 on.</p>",
            *map(_shown, gallery),
        ]
    protocol = "".join(f"<li>{escape(line)}</li>" for line in tables.protocol_lines(report))
    parts += ["<h2>Protocol</h2>", f"<ul>{protocol}</ul>"]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{tables.TITLE}</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _time_plots(report: Report) -> Iterable[str]:
    """Quality against time, for each metric of quality that was measured."""
    for name in _QUALITY:
        if name in report["protocol"]["metrics"]:
            points = []
            for series, (method, results) in enumerate(report["results"].items()):
                seconds, quality = results["seconds"]["median"], results[name]["mean"]
                if seconds is not None and quality is not None:
                    points.append(Point(seconds, quality, method, series))
            axis = Axis("seconds an image (median)", logarithmic=True)
            yield plot(f"Quality against time: {name}", axis, _metric_axis(report, name), points)


def _editing_plots(report: Report) -> Iterable[str]:
    """Fidelity against editability: over all attributes, and identity for each attribute."""
    shares = report["kept_of_e4e"]
    for name in _QUALITY:
        if name not in report["protocol"]["metrics"]:
            continue
        points = []
        for series, (method, results) in enumerate(report["results"].items()):
            kept = [share for share in shares.get(method, {}).values() if share is not None]
            if kept and results[name]["mean"] is not None:
                share = sum(kept) / len(kept)
                points.append(Point(share, results[name]["mean"], method, series))
        axis = Axis(f"share of {REFERENCE}'s attribute change (mean of attributes)")
        yield plot(
            f"Fidelity against editability: {name}", axis, _metric_axis(report, name), points
        )
    yield from _curve_plots(report)
    on_curves = {direction for curves in report["curves"].values() for direction in curves}
    for attribute in report["protocol"].get("attributes", {}):
        points = []
        for series, (method, edits) in enumerate(report["editing"].items()):
            for label, entry in edits.items():
                direction = report["protocol"]["edits"][label]["direction"]
                if entry["attribute"] != attribute or TRADE_OFF not in entry:
                    continue
                if direction in on_curves:
                    continue
                change, identity = entry["change"]["mean"], entry[TRADE_OFF]["mean"]
                if change is not None and identity is not None:
                    points.append(Point(change, identity, f"{method} {label}", series))
        axis = Axis(f"change of {attribute},{tables.unit_of(report, attribute)}")
        fidelity = Axis(f"{TRADE_OFF} after the edit, lower is better")
        yield plot(f"Identity after the edit: {attribute}", axis, fidelity, points)


def _curve_plots(report: Report) -> Iterable[str]:
    """Fidelity against change, one curve a method, of each direction of several strengths."""
    directions = {name: curve for c in report["curves"].values() for name, curve in c.items()}
    for direction, any_curve in directions.items():
        attribute, points = any_curve["attribute"], []
        for series, (method, curves) in enumerate(report["curves"].items()):
            curve = curves.get(direction, {})
            places = list(zip(curve.get("change", ()), curve.get(TRADE_OFF, ()), strict=False))
            points += [Point(*place, "", series) for place in places[:-1]]
            points += [Point(*place, method, series) for place in places[-1:]]
        size = EQUAL_CHANGES.get(attribute)
        dashed = "" if size is None else f" (dashed: ±{size:g})"
        yield plot(
            f"Fidelity against change: {direction}",
            Axis(f"change of {attribute},{tables.unit_of(report, attribute)}{dashed}"),
            Axis(f"{TRADE_OFF} after the edit, lower is better"),
            points,
            joined=True,
            guides=() if size is None else (-size, size),
        )


def _metric_axis(report: Report, name: str) -> Axis:
    metric = report["protocol"]["metrics"][name]
    unit = f" in {metric['unit']}" if metric["unit"] else ""
    return Axis(f"{name}{unit}, {metric['better']} is better")


def _failures(report: Report) -> str:
    failures = [[f["method"], f["image"], f["reason"]] for f in report["failures"]]
    if not failures:
        return "<p>None.</p>"
    return _table(["method", "image", "reason"], failures, "plain")


def _shown(shown: GalleryImage) -> str:
    rows = [f"<h3>{escape(shown.image)}</h3>"]
    for method, pictures in shown.made.items():
        reconstruction = pictures[""]
        figures = [
            ("photo", shown.photo),
            (method, reconstruction),
            ("error", error_map(reconstruction, shown.photo)),
            *((label, pixels) for label, pixels in pictures.items() if label),
        ]
        content = "".join(
            f'<figure><img src="{data_uri(pixels)}" alt="{escape(caption)}" loading="lazy">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for caption, pixels in figures
        )
        rows.append(f'<div class="row">{content}</div>')
    return "".join(rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<table class="{kind}"><tr>{first}</tr>{body}</table>'
