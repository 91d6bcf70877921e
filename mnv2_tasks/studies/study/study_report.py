"""What a study found: a comparison for each kind of task, figures and tables of its axes, and what is missing."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from mnv2_tasks.build import build_network, build_sources, class_names_of, load_network, task_kinds
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.latency import measure_alternately
from mnv2_tasks.studies.compare.compare import compare
from mnv2_tasks.studies.compare.finished_run import SCORE_NAMES
from mnv2_tasks.studies.study.jobs import Job
from mnv2_tasks.studies.study.paper_figures import Point, plot_variants, plot_widths, summary_of
from mnv2_tasks.studies.study.plan import PlannedRun, Study


def write_report(study: Study, jobs: Sequence[Job], folder: Path, console: Console) -> Path:
    """Write <folder>/report/: README.md, figures, and a comparison for each kind of task.

    What could not be trained is stated, and left out of every mean.
    """
    out = folder / "report"
    out.mkdir(exist_ok=True)
    lines = [f"# {study.title}", ""]
    done = [job for job in jobs if job.state == "done"]
    missing = {job.run.name: _reason(job) for job in jobs if job.state != "done"}
    lines += [f"{len(done)} of {len(jobs)} runs are done, in `{folder}`.", ""]
    if missing:
        lines += ["**Not done**, and in no mean below:", ""]
        lines += [f"- {name}: {_in_a_line(reason)}" for name, reason in missing.items()]
        lines += ["", "`study.log` in the folder of a run has all that it printed. The same command tries again.", ""]
    for kinds, members in _related(jobs):
        lines += _comparison(study, kinds, members, out, console)
    for section in (_variants, _widths, _joint, _evaluations):
        try:
            lines += section(study, done, out)
        except (ConfigError, DataError, OSError, KeyError) as error:
            lines += [f"{section.__name__.strip('_')}: could not be made: {error}", ""]
            console.print(lines[-2], markup=False)
    path = out / "README.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    console.print(f"report: {path}", markup=False)
    return path


def score_of(folder: Path, kind: str, task: str) -> float:
    """A finished run's score, or NaN if its metrics.json lacks it; the keys of several tasks have their names."""
    metrics = json.loads((folder / "metrics.json").read_text())
    value = metrics.get(SCORE_NAMES[kind].key, metrics.get(f"{task}/{SCORE_NAMES[kind].key}"))
    return math.nan if value is None else float(value)


def _reason(job: Job) -> str:
    return job.reason or "not run"


def _in_a_line(reason: str) -> str:
    """How the process ended, and the last it said."""
    lines = reason.splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1].strip()}"


def _related(jobs: Sequence[Job]) -> list[tuple[list[str], list[Job]]]:
    """Jobs that share kinds of task, directly or through a run of several: they can be compared."""
    groups: list[tuple[set[str], list[Job]]] = []
    for job in jobs:
        kinds, members = set(task_kinds(job.run.config).values()), [job]
        for group in [group for group in groups if group[0] & kinds]:
            groups.remove(group)
            kinds, members = kinds | group[0], group[1] + members
        groups.append((kinds, members))
    order = list(jobs)
    return [(sorted(kinds), sorted(members, key=order.index)) for kinds, members in groups]


def _comparison(study: Study, kinds: list[str], members: list[Job], out: Path, console: Console) -> list[str]:
    title = study.title if len(kinds) > 1 else f"{study.title}: {kinds[0]}"
    folders = [job.folder for job in members if job.state == "done"]
    failed = {job.run.name: _in_a_line(_reason(job)) for job in members if job.state != "done"}
    place = out / "-".join(kinds)
    if not folders:
        return [f"## {title}", "", "No run is done.", ""]
    try:
        page = compare(folders, place, title=title, failed=failed)
    except (ConfigError, DataError) as error:
        console.print(f"{title}: not compared: {error}", markup=False)
        return [f"## {title}", "", f"Not compared: {error}", ""]
    console.print(f"comparison: {page}", markup=False)
    return [f"## {title}", "", f"[Comparison of {len(folders)} runs]({page.relative_to(out)})", ""]


def _variants(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Figure 6: the mean of each ablation over its seeds."""
    if len(study.ablations) < 2:
        return []
    lines = []
    for title, kind, jobs in _by_task(done):
        scores: dict[str, list[float]] = {name: [] for name in study.ablations}
        for job in jobs:
            if job.run.ablation:
                scores[job.run.ablation].append(score_of(job.folder, kind, job.run.config.choices.task))
        picture = out / f"ablations-{title}.png"
        plot_variants(scores, SCORE_NAMES[kind].key, picture)
        lines += [f"## Ablations of {title}", "", f"![{SCORE_NAMES[kind].key} of each variant]({picture.name})", ""]
        lines += [
            f"| variant | {SCORE_NAMES[kind].key}, mean | 95 % interval | standard deviation | seeds |",
            "|---|---|---|---|---|",
        ]
        for name, values in scores.items():
            found = summary_of(values)
            lines += [f"| {name} | {found.mean:.4f} | ± {found.margin:.4f} | {found.std:.4f} | {found.count} |"]
        lines += ["", "Intervals are Student's t over seeds; `nan` where there are too few.", ""]
    return lines


def _widths(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Figure 5: score against multiply-adds, a curve for each input size."""
    if len(study.widths) < 2 and len(study.sizes) < 2:
        return []
    lines = []
    for title, kind, jobs in _by_task(done):
        points: dict[tuple[float, int, str], Point] = {}
        for job in jobs:
            config = job.run.config
            key = (float(config.width), int(config.imgsz), job.run.ablation)
            if key not in points:
                madds = model_cost(_network_of(job.run), config.imgsz).madds
                points[key] = Point(width=key[0], size=key[1], madds=madds, scores=[])
            points[key].scores.append(score_of(job.folder, kind, config.choices.task))
        picture = out / f"widths-{title}.png"
        ordered = sorted(points.values(), key=lambda point: (point.size, point.width))
        plot_widths(ordered, SCORE_NAMES[kind].key, picture)
        lines += [
            f"## Widths and sizes of {title}",
            "",
            f"![{SCORE_NAMES[kind].key} against multiply-adds]({picture.name})",
            "",
        ]
        lines += [f"| size | width | multiply-adds (M) | {SCORE_NAMES[kind].key} | seeds |", "|---|---|---|---|---|"]
        for point in ordered:
            found = summary_of(point.scores)
            lines += [
                f"| {point.size} | {point.width:g} | {point.madds / 1e6:.1f} | {found.mean:.4f} | {found.count} |"
            ]
        lines += [""]
    return lines


def _joint(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Each task of a run of several beside the run of it alone, and one pass through them beside a pass for each."""
    alone, together = {}, {}
    for job in done:
        kinds = task_kinds(job.run.config)
        key = (job.run.ablation, job.run.config.choices.backbone, job.run.config.seed)
        if len(kinds) > 1:
            together[key] = job
        else:
            alone[key, next(iter(kinds))] = job
    rows, timings = [], []
    for key, job in together.items():
        singles = {name: alone.get((key, name)) for name in task_kinds(job.run.config)}
        for name, kind in task_kinds(job.run.config).items():
            single = singles[name]
            if single is None:
                continue
            before, after = score_of(single.folder, kind, name), score_of(job.folder, kind, name)
            change = f"{after - before:+.4f} | {after / before if before else math.nan:.3f}"
            rows.append(f"| {name} | {SCORE_NAMES[kind].key} | {key[2]} | {before:.4f} | {after:.4f} | {change} |")
        if all(singles.values()) and not timings:
            timings = _passes(job, [single for single in singles.values() if single])
    if not rows:
        return []
    head = ["| task | score | seed | alone | together | difference | share kept |", "|---|---|---|---|---|---|---|"]
    return ["## Alone and together", "", *head, *rows, "", *timings]


def _passes(joint: Job, singles: Sequence[Job]) -> list[str]:
    """Latency of one image through the shared network, and through each task's own, one after the other."""
    shared = load_network(str(joint.folder / "weights.safetensors"))[0]
    own = [load_network(str(job.folder / "weights.safetensors"))[0] for job in singles]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for network in [shared, *own]:
        network.to(device)
    sizes = [job.run.config.imgsz for job in [joint, *singles]]
    images = [torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device) for size in sizes]
    found = measure_alternately(
        {
            "together": lambda: shared(images[0]),
            "apart": lambda: [network(image) for network, image in zip(own, images[1:])],
        }
    )
    one, several = found["together"], found["apart"]
    params = [sum(p.numel() for p in network.parameters()) / 1e6 for network in [shared, *own]]
    madds = [model_cost(network, size).madds / 1e6 for network, size in zip([shared, *own], sizes)]
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {one.threads} threads"
    return [
        f"| one image, {where} | one shared pass | {len(own)} passes | share |",
        "|---|---|---|---|",
        f"| latency p50 (ms) | {one.p50:.2f} | {several.p50:.2f} | {one.p50 / several.p50:.3f} |",
        f"| latency p95 (ms) | {one.p95:.2f} | {several.p95:.2f} | {one.p95 / several.p95:.3f} |",
        f"| multiply-adds (M) | {madds[0]:.1f} | {sum(madds[1:]):.1f} | {madds[0] / sum(madds[1:]):.3f} |",
        f"| parameters (M) | {params[0]:.3f} | {sum(params[1:]):.3f} | {params[0] / sum(params[1:]):.3f} |",
        "",
        "Passes end at what the heads return; choosing boxes and resizing masks is the same work in both.",
        "",
    ]


def _evaluations(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Table 7: the same weights, evaluated in several ways."""
    if not study.evaluations:
        return []
    head = ["run", "score", "as trained", *study.evaluations]
    lines = ["## Evaluations of the same weights", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for job in done:
        for name, kind in task_kinds(job.run.config).items():
            folders = [job.folder, *(job.folder / evaluation for evaluation in study.evaluations)]
            values = [f"{score_of(folder, kind, name):.4f}" for folder in folders]
            lines.append(f"| {job.run.name} | {SCORE_NAMES[kind].key} | {' | '.join(values)} |")
    return [*lines, ""]


def _by_task(done: Sequence[Job]) -> list[tuple[str, str, list[Job]]]:
    """(task and backbone, kind, jobs) of the runs of one task."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in done:
        kinds = task_kinds(job.run.config)
        if len(kinds) == 1:
            choices = job.run.config.choices
            groups.setdefault((f"{choices.task}-{choices.backbone}", *kinds.values()), []).append(job)
    return [(title, kind, jobs) for (title, kind), jobs in groups.items()]


def _network_of(run: PlannedRun) -> torch.nn.Module:
    with torch.device("meta"):
        return build_network(run.config, class_names_of(build_sources(run.config)))
