"""Sections of a study's report, one for each question that an axis asks. Each is [] where its axis was not varied."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from mnv2_tasks.build import task_kinds
from mnv2_tasks.drawing.table import Table
from mnv2_tasks.kinds.kinds import KINDS
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.network.latency import measure_alternately
from mnv2_tasks.stored.run_files import read_scores
from mnv2_tasks.studies.compare.measure import device_name, rebuild_network
from mnv2_tasks.studies.study.jobs import Job
from mnv2_tasks.studies.study.paper_figures import Point, plot_variants, plot_widths, summary_of
from mnv2_tasks.studies.study.plan import Study, build_on_meta


def compare_ablations(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Figure 6: the mean of each ablation over its seeds. At several widths each is a curve of `compare_widths`."""
    if len(study.ablations) < 2 or len(study.widths) > 1:
        return []
    parts = []
    for title, task, kind, jobs in _jobs_by_task(done):
        score = KINDS[kind].SCORE
        scores: dict[str, list[float]] = {name: [] for name in study.ablations}
        for job in jobs:
            if job.run.ablation:
                scores[job.run.ablation].append(score_of(job.folder, task, kind))
        picture = out / f"ablations-{title}.png"
        plot_variants(scores, score, picture)
        table = Table("", ["variant", f"{score}, mean", "95 % interval", "standard deviation", "seeds"])
        for name, values in scores.items():
            found = summary_of(values)
            table.rows.append([name, f"{found.mean:.4f}", f"± {found.margin:.4f}", f"{found.std:.4f}", found.count])
        table.notes = ["Intervals are Student's t over seeds; `nan` where there are too few."]
        parts += [f"## Ablations of {title}", f"![{score} of each variant]({picture.name})", table.to_markdown()]
    return parts


def compare_widths(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Figure 5: score against multiply-adds, a curve for each input size and ablation."""
    if len(study.widths) < 2 and len(study.sizes) < 2:
        return []
    parts = []
    for title, task, kind, jobs in _jobs_by_task(done):
        score = KINDS[kind].SCORE
        points: dict[tuple[int, float, str], Point] = {}
        for job in jobs:
            config = job.run.config
            size, width = int(config.imgsz), float(config.width)
            key = (size, width, job.run.ablation)
            if key not in points:
                madds = model_cost(build_on_meta(config), size).madds
                points[key] = Point(width=width, size=size, madds=madds, scores=[], ablation=job.run.ablation)
            points[key].scores.append(score_of(job.folder, task, kind))
        names = ["", *study.ablations]
        ordered = sorted(points.values(), key=lambda point: (point.size, names.index(point.ablation), point.width))
        picture = out / f"widths-{title}.png"
        plot_widths(ordered, score, picture)
        variant = ["variant"] if study.ablations else []
        columns = ["size", *variant, "width", "multiply-adds (M)", score, "seeds"]
        table = Table("", columns, text_columns=1 + len(variant))
        for point in ordered:
            found = summary_of(point.scores)
            numbers = [f"{point.width:g}", f"{point.madds / 1e6:.1f}", f"{found.mean:.4f}", found.count]
            table.rows.append([str(point.size), *([point.ablation] if variant else []), *numbers])
        picture_line = f"![{score} against multiply-adds]({picture.name})"
        parts += [f"## Widths and sizes of {title}", picture_line, table.to_markdown()]
    return parts


def compare_joint(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Each task of a run of several beside the run of it alone, and one pass through them beside a pass for each."""
    alone = {}  # (task, *what else decides about a run) -> job
    for job in done:
        if len(task_kinds(job.run.config)) == 1:
            alone[*task_kinds(job.run.config), *_conditions(job)] = job
    columns = ["task", "score", "seed", "alone", "together", "difference", "share kept"]
    table, passes = Table("Alone and together", columns, text_columns=2), None
    for job in done:
        kinds = task_kinds(job.run.config)
        if len(kinds) == 1:
            continue
        singles = {task: alone[key] for task in kinds if (key := (task, *_conditions(job))) in alone}
        for task, single in singles.items():
            before, after = (score_of(one.folder, task, kinds[task]) for one in (single, job))
            share = after / before if before else math.nan
            numbers = [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}", f"{share:.3f}"]
            table.rows.append([task, KINDS[kinds[task]].SCORE, str(job.run.config.seed), *numbers])
        if len(singles) == len(kinds) and passes is None:
            passes = _pass_costs(job, list(singles.values()))
    return [part.to_markdown() for part in (table, passes) if part and part.rows]


def compare_evaluations(study: Study, done: Sequence[Job], out: Path) -> list[str]:
    """Table 7: the same weights, evaluated in several ways."""
    if not study.evaluations:
        return []
    columns = ["run", "score", "as trained", *study.evaluations]
    table = Table("Evaluations of the same weights", columns, text_columns=2)
    for job in done:
        for task, kind in task_kinds(job.run.config).items():
            folders = [job.folder, *(job.folder / name for name in study.evaluations)]
            scores = [f"{score_of(folder, task, kind):.4f}" for folder in folders]
            table.rows.append([job.run.name, KINDS[kind].SCORE, *scores])
    return [table.to_markdown()]


SECTIONS = {
    "ablations": compare_ablations,
    "widths": compare_widths,
    "joint": compare_joint,
    "evaluations": compare_evaluations,
}


def score_of(folder: Path, task: str, kind: str) -> float:
    """A finished run's score, or NaN if its metrics.json lacks it; the keys of several tasks have their names."""
    metrics, key = read_scores(folder / "metrics.json"), KINDS[kind].SCORE
    value = metrics.get(key, metrics.get(f"{task}/{key}"))
    return math.nan if value is None else float(value)


def _jobs_by_task(done: Sequence[Job]) -> list[tuple[str, str, str, list[Job]]]:
    """(<task>-<backbone>, task, kind, jobs) of the runs of one task."""
    groups: dict[tuple[str, str, str], list[Job]] = {}
    for job in done:
        choices, kinds = job.run.config.choices, list(task_kinds(job.run.config).values())
        if len(kinds) == 1:
            groups.setdefault((f"{choices.task}-{choices.backbone}", choices.task, kinds[0]), []).append(job)
    return [(*key, jobs) for key, jobs in groups.items()]


def _conditions(job: Job) -> tuple[str, str, int]:
    """What runs of a task alone and of several have in common where they can be held against each other."""
    return job.run.ablation, job.run.config.choices.backbone, job.run.config.seed


def _pass_costs(shared: Job, singles: Sequence[Job]) -> Table:
    """Costs of one image through the shared network, and through each task's own, one after the other."""
    networks = [
        rebuild_network(job.folder / "weights.safetensors", trust=job.run.config.trust) for job in (shared, *singles)
    ]
    calls = []
    for measured in networks:
        side, device = measured.fit.size, next(measured.network.parameters()).device
        calls.append(partial(measured.network, torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)))
    latencies = measure_alternately({"together": calls[0], "alone": lambda: [call() for call in calls[1:]]})
    together, alone = latencies["together"], latencies["alone"]
    params, madds = [one.cost.params / 1e6 for one in networks], [one.cost.madds / 1e6 for one in networks]
    table = Table("", [f"one image, {device_name()}", "one shared pass", f"{len(singles)} passes", "share"])
    for quantity, digits, one, several in [
        ("latency p50 (ms)", 2, together.p50, alone.p50),
        ("latency p95 (ms)", 2, together.p95, alone.p95),
        ("multiply-adds (M)", 1, madds[0], sum(madds[1:])),
        ("parameters (M)", 3, params[0], sum(params[1:])),
    ]:
        table.rows.append([quantity, f"{one:.{digits}f}", f"{several:.{digits}f}", f"{one / several:.3f}"])
    table.notes = ["Passes end at what the heads return; choosing boxes and resizing masks is the same work in both."]
    return table
