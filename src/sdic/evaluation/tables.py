"""The report as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sdic.evaluation.editing import REFERENCE
from sdic.evaluation.report import COSTS, IDENTITY_PREFIX, TRADE_OFF, Report

CSV_COLUMNS = ("kind", "method", "edit", "image", "metric", "value", "note")
# Which of its statistics stands for a metric in tables; the mean for all others.
STATISTICS = {"seconds": "median", "peak_memory_mb": "max"}
EQUAL_TITLE = "Identity at equal attribute change"
TITLE = "Benchmark of inversion methods"


def markdown(report: Report) -> str:
    """The report as one Markdown text, protocol first."""
    parts = [f"# {TITLE}", "## Protocol", _bullets(protocol_lines(report))]
    parts += ["## Reconstruction", _grid(*reconstruction_table(report))]
    if any(report["editing"].values()):
        parts += ["## Editing", _grid(*editing_table(report))]
    if any(report["kept_of_e4e"].values()):
        parts += [f"## Share of {REFERENCE}'s attribute change", _grid(*kept_table(report))]
    if any(report["equal_change"].values()):
        parts += [f"## {EQUAL_TITLE}", _grid(*equal_change_table(report))]
    failures = [f"{f['method']}, {f['image']}: {f['reason']}" for f in report["failures"]]
    parts += ["## Failures", _bullets(failures) if failures else "None."]
    return "\n\n".join(parts) + "\n"


def csv_text(report: Report) -> str:
    """The report as CSV, one value in a row, the protocol in the first rows.

    The columns are kind, method, edit, image, metric, value, note. Kinds: protocol,
    reconstruction, set, editing, equal change, failure. A failed image has no value rows but one of
    failure.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(_csv_rows(report))
    return buffer.getvalue()


def protocol_lines(report: Report) -> list[str]:
    """The protocol in lines of text, `name: value`, nested tables flattened."""
    return [f"{name}: {value}" for name, value in _flat(report["protocol"])]


def reconstruction_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: methods by metrics; an arrow tells which way is better."""
    metrics = report["protocol"]["metrics"]
    names = [*metrics, *COSTS]
    head = ["method", "images"]
    for name in names:
        better = metrics[name]["better"] if name in metrics else "lower"
        unit = f" ({metrics[name]['unit']})" if name in metrics and metrics[name]["unit"] else ""
        head.append(f"{name}{unit} {'↑' if better == 'higher' else '↓'}")
    head.append("frechet_lite0 ↓")
    rows = []
    for method, results in report["results"].items():
        done = sum(value is not None for value in results["seconds"]["per_image"])
        statistics = [results[name][STATISTICS.get(name, "mean")] for name in names]
        statistics.append(report["sets"][method]["frechet_lite0"])
        rows.append([method, f"{done} of {len(report['images'])}", *map(number, statistics)])
    return head, rows


def editing_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row for each method and edit."""
    shares = REFERENCE in report["editing"]
    first = next(iter(next(iter(report["editing"].values())).values()))
    identities = [name for name in report["protocol"]["metrics"] if name in first]
    head = ["method", "edit", "attribute", "change", *identities, f"{TRADE_OFF} per change ↓"]
    head += [f"share of {REFERENCE}'s change"] * shares
    rows = []
    for method, edits in report["editing"].items():
        for label, entry in edits.items():
            change = entry["change"]
            row = [method, label, entry["attribute"] or "-"]
            row.append(number(change and change["mean"]) + unit_of(report, entry["attribute"]))
            row += [number(entry[name]["mean"]) for name in identities]
            row.append(number(entry[f"{TRADE_OFF}_per_change"]))
            row += [number(entry.get(f"kept_of_{REFERENCE}"))] * shares
            rows.append(row)
    return head, rows


def kept_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: how much of e4e's change of each attribute a method keeps."""
    shares: Mapping[str, Mapping[str, float | None]] = report["kept_of_e4e"]
    attributes = list(next(iter(shares.values())))
    rows = [[method, *(number(kept[a]) for a in attributes)] for method, kept in shares.items()]
    return ["method", *attributes], rows


def equal_change_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: identity where a direction changes its attribute by a fixed amount."""
    names = [name for name in report["protocol"]["metrics"] if name.startswith(IDENTITY_PREFIX)]
    rows = [
        [
            method,
            row["direction"],
            _wanted(report, row),
            *(number(row[name]) for name in names),
            row["reason"],
        ]
        for method, equal in report["equal_change"].items()
        for row in equal
    ]
    return ["method", "direction", "change", *names, "note"], rows


def number(value: float | None) -> str:
    """A number with four digits that count, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def unit_of(report: Report, attribute: str | None) -> str:
    """The unit of an attribute with a blank before it; empty where there is none."""
    entry = report["protocol"].get("attributes", {}).get(attribute)
    return f" {entry['unit']}" if entry else ""


def _wanted(report: Report, row: Mapping[str, Any]) -> str:
    return f"{row['change']:+g}{unit_of(report, row['attribute'])}"


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}, ")
        elif value not in (None, ""):
            yield prefix + name, str(value)


def _csv_rows(report: Report) -> Iterator[Sequence[object]]:
    for name, text in _flat(report["protocol"]):
        yield "protocol", "", "", "", name, "", text
    for method, metrics in report["results"].items():
        for name, summary in metrics.items():
            yield from _values(report, ("reconstruction", method, ""), name, summary)
    for method, values in report["sets"].items():
        yield from (("set", method, "", "", name, _plain(v), "") for name, v in values.items())
    for method, edits in report["editing"].items():
        for label, entry in edits.items():
            start = ("editing", method, label)
            summaries = {f"change of {k}": v for k, v in entry["side_effects"].items()}
            if entry["change"]:
                summaries[f"change of {entry['attribute']}"] = entry["change"]
            summaries |= {k: v for k, v in entry.items() if k in report["protocol"]["metrics"]}
            for name, summary in summaries.items():
                yield from _values(report, start, name, summary)
            for name in (f"{TRADE_OFF}_per_change", f"kept_of_{REFERENCE}"):
                yield *start, "", name, _plain(entry.get(name)), ""
    for method, equal in report["equal_change"].items():
        for row in equal:
            start = ("equal change", method, f"{row['direction']} by {_wanted(report, row)}")
            for name in (name for name in row if name in report["protocol"]["metrics"]):
                yield *start, "", name, _plain(row[name]), row["reason"]
    for failure in report["failures"]:
        yield "failure", failure["method"], "", failure["image"], "", "", failure["reason"]


def _values(
    report: Report, start: tuple[str, str, str], name: str, summary: Mapping[str, Any]
) -> Iterator[Sequence[object]]:
    for statistic in ("mean", "median", "min", "max"):
        yield *start, "", name, _plain(summary[statistic]), statistic
    for image, value in zip(report["images"], summary["per_image"], strict=True):
        if value is not None:
            yield *start, image, name, _plain(value), ""


def _plain(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join("- " + line.replace("\n", " ") for line in lines)
