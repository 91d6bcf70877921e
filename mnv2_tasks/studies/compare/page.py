"""A comparison as one HTML page that needs nothing but itself, on a screen or on paper."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.studies.compare.comparison import Comparison
from mnv2_tasks.studies.compare.comparison_tables import (
    HOW_TO_READ,
    configuration_table,
    folder_table,
    latency_line,
    one_pass_line,
    score_table,
)
from mnv2_tasks.studies.compare.plots import plot_classes, plot_pareto, plot_scores
from mnv2_tasks.studies.compare.samples import MIN_SCORE
from mnv2_tasks.studies.compare.subjects import Entry, Subject, class_differences


def page_environment() -> Environment:
    """Names of classes, files and runs are strangers': whatever is written into a page is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_url"] = data_url
    return environment


def render_page(comparison: Comparison) -> str:
    return (
        page_environment()
        .get_template("page.html.jinja")
        .render(
            comparison=comparison,
            sections=[_section(subject) for subject in comparison.subjects],
            one_pass_lines=[one_pass_line(found) for found in comparison.one_pass],
            configuration=configuration_table(comparison),
            folders=folder_table(comparison),
            how_to_read=HOW_TO_READ,
            latency_line=latency_line(comparison),
            min_score=MIN_SCORE,
        )
    )


def data_url(picture: bytes | np.ndarray) -> str:
    """Of a PNG's bytes, or of (H, W, 3) uint8 RGB pixels, which become a JPEG."""
    kind = "png"
    if isinstance(picture, np.ndarray):
        kind, bgr = "jpeg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        picture = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _section(subject: Subject) -> dict[str, Any]:
    """What the page shows of a subject: its table and plots. Names too long for a plot give way to numbers."""
    entries, kind = subject.entries, KINDS[subject.kind]
    names = [f"{entry.group.number}  {entry.group.label}" for entry in entries]
    named = len(names) <= 8 and all(len(name) <= 30 for name in names)
    beside = names if named else [str(entry.group.number) for entry in entries]
    return {
        "subject": subject,
        "kind": kind,
        "table": score_table(subject),
        "score_plot": plot_scores(entries, names, kind.SCORE_TITLE),
        "cost_plot": plot_pareto(entries, beside, kind.SCORE_TITLE) if len(entries) > 1 else None,
        "named": named,
        "class_plots": [_class_plot(subject, entry) for entry in entries[1:]],
    }


def _class_plot(subject: Subject, entry: Entry) -> tuple[str, bytes]:
    """Its title and its PNG."""
    found = class_differences(subject, entry)
    better, worse = sum(c.difference > 0 for c in found), sum(c.difference < 0 for c in found)
    title = f"{entry.group.number}  {entry.group.label}: {better} better, {worse} worse"
    title += f", {len(found) - better - worse} equal" if better + worse < len(found) else ""
    return title, plot_classes(found, title, KINDS[subject.kind].CLASS_SCORE_TITLE)
