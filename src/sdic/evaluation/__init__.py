"""Evaluation: methods under one protocol, and reports of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sdic.evaluation import page, tables
from sdic.evaluation.benchmark import Benchmark, Judges, Settings, load_judges
from sdic.evaluation.editing import MeasuredEdit, edits_of_range
from sdic.evaluation.gallery import GalleryImage
from sdic.evaluation.refined import Refined, parse_method
from sdic.evaluation.report import Report
from sdic.files import write_whole

__all__ = [
    "Benchmark",
    "GalleryImage",
    "Judges",
    "MeasuredEdit",
    "Refined",
    "Report",
    "Settings",
    "edits_of_range",
    "load_judges",
    "parse_method",
    "write_json",
    "write_reports",
]


def write_json(report: Report, path: Path) -> None:
    """Write a report as JSON, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, text.encode())


def write_reports(report: Report, gallery: Sequence[GalleryImage], out: Path) -> None:
    """Write report.json, report.md, report.csv and report.html into a folder.

    Args:
        report: see `report.assemble`.
        gallery: pictures for the page; it shows faces, so mind who may see it.
        out: the folder.

    Raises:
        InputError: a file cannot be written.
    """
    write_json(report, out / "report.json")
    write_whole(out / "report.md", tables.markdown(report).encode())
    write_whole(out / "report.csv", tables.csv_text(report).encode())
    write_whole(out / "report.html", page.page(report, gallery).encode())
