"""A comparison as one HTML page that needs nothing but itself, on a screen or on paper."""

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from mnv2_tasks.studies.compare.comparison import CLASS_METRICS, METRICS, Comparison, Pictures
from mnv2_tasks.studies.compare.figures import plot_classes, plot_pareto, plot_scores
from mnv2_tasks.studies.compare.samples import MIN_SCORE, Shown
from mnv2_tasks.studies.compare.subjects import Entry, Subject, class_differences
from mnv2_tasks.studies.compare.tables import HOW_TO_READ, configuration_rows, folder_rows, one_pass_line, score_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1180px; margin: 2em auto;
  padding: 0 1.5em; }
h1 { font-size: 1.7em; line-height: 1.2; } h2 { font-size: 1.25em; margin-top: 2.2em; } h3 { font-size: 1.05em; }
h1, h2, h3 { font-weight: 600; break-after: avoid; }
table { border-collapse: collapse; font-size: 0.82em; font-variant-numeric: tabular-nums; margin: 1em 0; }
th, td { padding: 0.32em 0.6em; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; font-weight: 600; }
.text { text-align: left; overflow-wrap: anywhere; } td.number { white-space: nowrap; } tr { break-inside: avoid; }
.scroll { overflow-x: auto; }
.warning { border: 1px solid #c4541c; border-left-width: 5px; padding: 0.2em 1em; margin: 1em 0; }
.warning li { overflow-wrap: anywhere; }
img { max-width: 100%; display: block; } .plot { width: 720px; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(520px, 1fr)); gap: 0.5em; align-items: start; }
.sample { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 0.8em; margin: 1.2em 0;
  padding-top: 0.6em; border-top: 1px solid #ddd; }
.sample figure { margin: 0; break-inside: avoid; } .sample img { width: 100%; }
figcaption { font-size: 0.8em; color: #444; } figcaption b { color: #222; }
.swatch { display: inline-block; width: 0.9em; height: 0.9em; margin: 0 0.3em 0 1em; vertical-align: -0.1em;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.small { font-size: 0.85em; color: #444; }
@page { size: A4 landscape; margin: 12mm; }
@media print { body { max-width: none; margin: 0; padding: 0; font-size: 10.5pt; } .scroll { overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: 0.25em 0.4em; } .plot { width: 165mm; }
  .plots { grid-template-columns: 1fr 1fr; } .sample { grid-template-columns: repeat(6, 1fr); break-inside: avoid; }
  section { break-before: page; } section:first-of-type { break-before: auto; } img { break-inside: avoid; } }
"""


def page(comparison: Comparison) -> str:
    title = escape(comparison.title)
    parts = [
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>',
        f"<h1>{title}</h1>",
        _warnings(comparison),
    ]
    for subject, pictures in zip(comparison.subjects, comparison.pictures):
        parts.append(f"<section>{_subject(comparison, subject, pictures)}</section>")
    parts += ["<section>", _end(comparison), "</section></body></html>\n"]
    return "\n".join(parts)


def _warnings(comparison: Comparison) -> str:
    lines = [f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in comparison.excluded.items()]
    if lines:
        lines = ["<b>Not in any number below</b><ul>", *lines, "</ul>"]
    if comparison.notes:
        lines += ["<b>Note</b><ul>", *(f"<li>{escape(note)}</li>" for note in comparison.notes), "</ul>"]
    return f'<div class="warning">{"".join(lines)}</div>' if lines else ""


def _subject(comparison: Comparison, subject: Subject, pictures: Pictures | None) -> str:
    parts = [f"<h2>{escape(comparison.heading(subject))}</h2>"]
    parts.append(_table(score_rows(comparison, subject), text=(1,)))
    names = [f"{comparison.number(entry)}  {entry.group.label}" for entry in subject.entries]
    metric = METRICS[subject.kind]
    parts.append(_image(plot_scores(subject.entries, names, metric), f"{metric} of each run", "plot"))
    short = len(names) <= 8 and all(len(name) <= 22 for name in names)
    beside = names if short else [str(comparison.number(entry)) for entry in subject.entries]
    built = [comparison.built_of(entry) for entry in subject.entries]
    costs = [
        ("multiply-adds (G, one image)", [b.cost.madds / 1e9 if b else None for b in built]),
        ("latency p50 (ms, one image)", [b.latency.p50 if b and b.latency else None for b in built]),
        ("parameters (M)", [b.cost.params / 1e6 if b else None for b in built]),
    ]
    if len(names) > 1:
        parts.append("<h3>What a score costs</h3>")
        parts.append(
            '<p class="small">Towards the upper left is better: more score for less. The dashed line joins those that '
            f"no other beats in both.{'' if short else ' Numbers are those of the table.'}</p>"
        )
        parts.append(_image(plot_pareto(subject.entries, beside, metric, costs), f"{metric} against costs", ""))
        parts += ["<h3>Classes won and lost</h3>", *_classes(comparison, subject)]
    if pictures is not None:
        parts += ["<h3>The same images</h3>", _samples(comparison, subject, pictures)]
    return "\n".join(parts)


def _classes(comparison: Comparison, subject: Subject) -> list[str]:
    metric, first = CLASS_METRICS[subject.kind], subject.reference
    plots = []
    for entry in subject.entries[1:]:
        found = class_differences(subject, entry)
        better, worse = sum(c.difference > 0 for c in found), sum(c.difference < 0 for c in found)
        title = f"{comparison.number(entry)}  {entry.group.label}: {better} better, {worse} worse"
        title += f", {len(found) - better - worse} equal" if better + worse < len(found) else ""
        plots.append(_image(plot_classes(found, title, metric), title, ""))
    return [
        f'<p class="small">{metric} of each class, less that of {comparison.number(first)} '
        f"({escape(first.group.label)}). Lines are 95 % intervals of the paired difference; a pale bar is one whose "
        "interval holds 0. With many classes, one in twenty stands out by chance.</p>",
        f'<div class="plots">{"".join(plots)}</div>',
    ]


def _samples(comparison: Comparison, subject: Subject, pictures: Pictures) -> str:
    swatches = "".join(
        f'<span class="swatch" style="background:{colour}"></span>{escape(name)}' for name, colour in pictures.legend
    )
    spread = "Validation images spread evenly over the split."
    spread += f" Boxes that score {MIN_SCORE} or more." if subject.kind == "detection" else ""
    parts = [f'<p class="small">{spread}{swatches}</p>']
    for row in pictures.rows:
        shown = [_figure(row.truth, f"<b>ground truth</b>, image {row.image_id}")]
        for entry, prediction in zip(subject.entries, row.predictions):
            if prediction is not None:
                shown.append(_figure(prediction, f"<b>{comparison.number(entry)}</b> {escape(_of_seed(entry))}"))
        parts.append(f'<div class="sample">{"".join(shown)}</div>')
    return "\n".join(parts)


def _of_seed(entry: Entry) -> str:
    """A picture is of one network: of several seeds, the first."""
    return entry.group.label + (f", seed {entry.group.first.seed}" if len(entry.group.runs) > 1 else "")


def _figure(shown: Shown, caption: str) -> str:
    image = "" if shown.picture is None else _image(_jpeg(shown.picture), "", "")
    words = "".join(f"<br>{escape(line)}" for line in shown.words)
    return f"<figure>{image}<figcaption>{caption}{words}</figcaption></figure>"


def _end(comparison: Comparison) -> str:
    parts = []
    if comparison.one_pass:
        parts.append("<h2>One pass for several tasks</h2>")
        parts += [f"<p>{escape(one_pass_line(comparison, found))}</p>" for found in comparison.one_pass]
    if comparison.differing:
        parts.append("<h2>What differs in the configurations</h2>")
        text = tuple(range(1 + len(comparison.groups)))
        parts.append(_table(configuration_rows(comparison), text=text))
    parts.append("<h2>Run folders</h2>")
    parts.append(_table(folder_rows(comparison), text=(1, 2)))
    parts.append("<h2>How to read this</h2>")
    parts += [f"<p>{escape(line)}</p>" for line in HOW_TO_READ]
    device = escape(comparison.device)
    parts.append(f"<p>Latency: one image, from the network's input to results, all networks in turns, on {device}.</p>")
    return "\n".join(parts)


def _table(rows: Sequence[Sequence[str]], text: Sequence[int]) -> str:
    """
    Args:
        text: columns of words; the others hold numbers.
    """

    def cells(row: Sequence[str], tag: str) -> str:
        kinds = ["text" if i in text else "number" for i in range(len(row))]
        return "".join(f'<{tag} class="{kind}">{escape(cell)}</{tag}>' for kind, cell in zip(kinds, row))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows[1:])
    head = f"<thead><tr>{cells(rows[0], 'th')}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _image(content: bytes, description: str, css: str) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    data = base64.b64encode(content).decode()
    return f'<img class="{css}" alt="{escape(description)}" src="data:image/{kind};base64,{data}">'


def _jpeg(picture: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
