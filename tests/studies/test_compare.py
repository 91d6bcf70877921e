"""Comparisons of runs: what is averaged, what is refused, and what the page holds."""

import copy
import json
import re
import shutil
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from mnv2_tasks.build import build_fit, build_network
from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.metrics.bootstrap import draw_images, mean_of, percentile_interval, resample, standard_deviation
from mnv2_tasks.metrics.outcomes import Hits, Pixels, save_outcomes
from mnv2_tasks.network.cost import model_cost
from mnv2_tasks.runtimes import formats
from mnv2_tasks.studies.compare import exporting
from mnv2_tasks.studies.compare.compare import compare
from mnv2_tasks.studies.compare.exporting import export_networks, format_to_time
from mnv2_tasks.studies.compare.groups import Group, differing_keys, shortest_labels
from mnv2_tasks.studies.compare.measure import MeasuredNetwork, measure_latency
from mnv2_tasks.studies.compare.options import from_command_line
from mnv2_tasks.studies.compare.plots import pareto_front, place_labels
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.whole_files import write_json

NAMES = ["disc", "ring", "star"]


def hits(seed, num_images=40, accuracy=0.7, like=None, flips=2):
    """Of a random network; or `like` another but for a few images."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images, dtype=np.int32) % len(NAMES)
    top1 = rng.random(num_images) < accuracy
    if like is not None:
        top1 = like.top1.copy()
        chosen = rng.choice(num_images, flips, replace=False)
        top1[chosen] = ~top1[chosen]
    everything = np.ones(num_images, bool)
    return Hits(np.arange(num_images), labels, top1, everything, np.array(len(NAMES)))


@cache
def composed(task):
    return compose("train", [f"task={task}", "weights=none", "workers=0"])


def make_run(folder, outcomes, *overrides, fingerprint="a" * 64, score=None, task="classification"):
    """A finished run's folder, but for its weights."""
    folder.mkdir(parents=True)
    config = OmegaConf.merge(composed(task), OmegaConf.from_dotlist(list(overrides)))
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    described = {"data_fingerprint": {name: fingerprint for name in config.tasks}}
    write_json(folder / "run.json", described | {"class_names": {name: NAMES for name in config.tasks}})
    once = np.ones(len(outcomes.image_ids), int)
    key = {Hits: "top1", Pixels: "mIoU"}[type(outcomes)]
    classes = {Hits: "top1_per_class", Pixels: "IoU"}[type(outcomes)]
    value = outcomes.score(once) if score is None else score
    metrics = {key: value, classes: dict(zip(NAMES, outcomes.class_scores(once).tolist()))}
    (folder / "metrics.json").write_text(json.dumps(metrics))  # which writes NaN, as write_json does not
    save_outcomes(folder / "per_image.npz", {next(iter(config.tasks)): outcomes})
    return folder


def compared(out, *runs, **options):
    compare(list(runs), out, repeats=0, images=0, **options)
    return json.loads((out / "compare.json").read_text())


# ---------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("seed", range(5))
def test_interval_covers_the_score(seed):
    outcomes = hits(seed)
    found = percentile_interval(resample(outcomes, draw_images(40)).scores)
    assert found.low <= outcomes.score(np.ones(40, int)) <= found.high
    assert found.low < found.high


def test_interval_has_the_width_that_theory_gives_an_accuracy():
    outcomes = hits(0, num_images=400)
    share = outcomes.top1.mean()
    found = percentile_interval(resample(outcomes, draw_images(400, resamples=4000)).scores)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 400), rel=0.1)


def test_paired_interval_of_correlated_runs_is_narrower_than_of_unrelated_draws():
    one = hits(0, num_images=200)
    other = hits(1, num_images=200, like=one, flips=10)
    draws = draw_images(200)
    paired = percentile_interval(resample(other, draws).scores - resample(one, draws).scores)
    unpaired = percentile_interval(resample(other, draw_images(200, seed=1)).scores - resample(one, draws).scores)
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)


def test_draws_are_the_same_every_time_and_keep_the_number_of_images():
    draws = draw_images(17)
    assert draws.shape == (1000, 17) and (draws.sum(axis=1) == 17).all()
    np.testing.assert_array_equal(draws, draw_images(17))


def test_mean_over_seeds_is_taken_resample_by_resample():
    draws = draw_images(40)
    one, other = (resample(hits(seed), draws) for seed in (0, 1))
    np.testing.assert_allclose(mean_of([one, other]).scores, (one.scores + other.scores) / 2)
    assert standard_deviation([0.5, 0.7]) == pytest.approx(np.sqrt(0.02))
    assert np.isnan(standard_deviation([0.5]))


def test_class_that_no_resample_has_gets_no_interval():
    assert percentile_interval(np.full(10, np.nan)) is None


# ---------------------------------------------------------------- groups and plots


def test_labels_are_the_fewest_values_that_tell_runs_apart():
    base = {"choices.task": "ssd", "choices.backbone": "mobilenet_v2", "lr": 0.1, "backbone.width": 1.0, "seed": 0}
    flat = [base, {**base, "lr": 0.2}, {**base, "choices.backbone": "resnet50", "lr": 0.2, "seed": 7}]
    assert shortest_labels(flat) == ["mobilenet_v2, lr 0.1", "mobilenet_v2, lr 0.2", "resnet50"]
    assert shortest_labels([base]) == [""]


def test_keys_that_always_go_together_share_a_row():
    flat = [{"width": 0.5, "backbone.width": 0.5, "lr": 1}, {"width": 1.0, "backbone.width": 1.0, "lr": 1}]
    assert differing_keys(flat) == [(["width", "backbone.width"], ["0.5", "1"])]


def test_key_that_only_one_kind_of_backbone_has_is_no_difference():
    flat = [{"choices.backbone": "a", "backbone.shortcut": "bottleneck"}, {"choices.backbone": "b"}]
    assert differing_keys(flat) == [(["choices.backbone"], ["a", "b"])]


def test_front_holds_what_nothing_beats_in_both():
    assert pareto_front([(3, 0.5), (1, 0.2), (2, 0.6), (2, 0.1)]) == [(1, 0.2), (2, 0.6)]
    assert pareto_front([]) == []


def test_names_in_a_plot_cover_neither_one_another_nor_a_point():
    figure = Figure(figsize=(4, 4), dpi=100)
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    points = [tuple(point) for point in rng.normal(0.5, 0.03, (12, 2))]
    axes.plot(*np.transpose(points), "o")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    place_labels(axes, points, [f"{i} network" for i in range(12)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert not any(box.contains(*axes.transData.transform(point)) for point in points)
        assert axes.get_window_extent().contains(*box.p0) and axes.get_window_extent().contains(*box.p1)


# ---------------------------------------------------------------- latency


def group_of(number):
    config = compose("train", ["task=classification", "weights=none", "width=0.35", "imgsz=64"])
    network = build_network(config, {"classification": NAMES}).eval()
    passport = make_passport(config, {"classification": NAMES}, "a test")
    measured = MeasuredNetwork(network, passport, build_fit(config), model_cost(network, 64))
    return Group([], number, f"network {number}", network=measured)


def test_exported_network_is_timed_in_the_same_turns_and_one_that_cannot_be_is_named(tmp_path, monkeypatch):
    groups, images = [group_of(number) for number in (1, 2, 3)], [draw_scene(0, "val", i, 96).image for i in range(2)]

    def write(network, format, example, metadata, path, precision):
        if path.stem == "1":
            raise RuntimeError("Failed to decompose\x1b[0m the graph\nStack trace")
        if path.stem == "2":
            network = copy.deepcopy(network)
            [*network.parameters()][-1].data[0] += 1  # the first class's bias
        write_network(network, format, example, metadata, path, precision)

    write_network = exporting.write
    monkeypatch.setattr(exporting, "write", write)
    files, notes = export_networks(groups, "torch", images, tmp_path)
    assert files[0] and files[1:] == [None, None]
    assert notes[0] == r"network 2: has no exported latency: as torch: Failed to decompose\x1b[0m the graph"
    assert notes[1].startswith("network 3: has no exported latency: as torch: its results are not PyTorch's: class")
    measure_latency([group.network for group in groups], files, images[0], repeats=2)
    assert groups[0].network.exported_latency.repeats == groups[0].network.latency.repeats == 2
    assert groups[1].network.latency.p50 > 0 and groups[1].network.exported_latency is None


def test_onnx_is_timed_where_it_is_installed_and_else_a_line_says_how_to_have_it(monkeypatch):
    assert format_to_time("none") == (None, []) and format_to_time("torch") == ("torch", [])
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    format, (note,) = format_to_time("auto")
    assert format is None and 'pip install -e ".[onnx]"' in note
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[onnx\]"'):
        format_to_time("onnx")
    with pytest.raises(ConfigError, match="exported=tflite: unknown"):
        format_to_time("tflite")


# ---------------------------------------------------------------- whole comparisons


def test_folders_of_a_study_beside_its_runs_are_no_runs(tmp_path):
    study = tmp_path / "study"
    runs = [make_run(study / name, hits(i), f"lr=0.{i + 1}") for i, name in enumerate("ab")]
    for name in ("report", "superseded"):
        (study / name).mkdir()
    from_command_line([*map(str, sorted(study.iterdir())), f"out={tmp_path / 'out'}", "repeats=0", "images=0"])
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert len(found["subjects"][0]["entries"]) == len(runs) and found["excluded"] == {}


def test_equal_runs_differ_by_exactly_nothing(tmp_path):
    outcomes = hits(0)
    runs = [make_run(tmp_path / name, outcomes, f"lr={lr}") for name, lr in (("a", 0.1), ("b", 0.2))]
    first, second = compared(tmp_path / "out", *runs)["subjects"][0]["entries"]
    assert second["difference"] == 0 and second["difference_interval"] == [0, 0]
    assert first["difference"] is None
    assert (first["label"], second["label"]) == ("lr 0.1", "lr 0.2")


def test_runs_that_differ_only_in_the_seed_and_in_places_are_averaged(tmp_path):
    runs = [make_run(tmp_path / f"s{seed}", hits(seed), f"seed={seed}", f"runs=there{seed}") for seed in range(3)]
    runs.append(make_run(tmp_path / "other", hits(9), "lr=0.5", "seed=1"))
    group, other = compared(tmp_path / "out", *runs)["subjects"][0]["entries"]
    assert group["seeds"] == [0, 1, 2] and other["seeds"] == [1]
    assert group["score"] == pytest.approx(np.mean(group["scores"]))
    assert group["std"] == pytest.approx(np.std(group["scores"], ddof=1))
    assert group["interval"][0] < group["score"] < group["interval"][1]


def test_seed_that_was_trained_twice_does_not_count_twice(tmp_path):
    runs = [make_run(tmp_path / name, hits(0)) for name in "ab"]
    entries = compared(tmp_path / "out", *runs)["subjects"][0]["entries"]
    assert [entry["label"] for entry in entries] == ["a", "b"]


def test_single_run_is_reported(tmp_path):
    found = compared(tmp_path / "out", make_run(tmp_path / "a", hits(0)))
    assert len(found["subjects"][0]["entries"]) == 1 and found["subjects"][0]["images"] == 40


def test_run_without_metrics_is_stated_and_not_averaged_away(tmp_path):
    runs = [make_run(tmp_path / f"s{seed}", hits(seed), f"seed={seed}") for seed in range(3)]
    (runs[1] / "metrics.json").unlink()
    found = compared(tmp_path / "out", *runs, failed={"s9": "seed 9 failed: out of memory"})
    entry = found["subjects"][0]["entries"][0]
    assert entry["seeds"] == [0, 2] and entry["seeds_missing"] == ["1"]
    assert found["excluded"] == {"s1": "seed 1: has no metrics: interrupted?", "s9": "seed 9 failed: out of memory"}
    for name in ("compare.md", "compare.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "has no metrics: interrupted?" in text and "seed 9 failed: out of memory" in text
        assert "0, 2 (without 1)" in text


def test_score_that_is_a_group_of_numbers_is_stated_and_not_averaged(tmp_path):
    good, bad = make_run(tmp_path / "a", hits(0)), make_run(tmp_path / "b", hits(1), "seed=1", score={"disc": 1.0})
    found = compared(tmp_path / "out", good, bad)
    assert found["subjects"][0]["entries"][0]["seeds"] == [0]
    assert "top1 is missing" in found["excluded"]["b"]


def test_score_that_is_not_a_number_is_stated_and_not_averaged(tmp_path):
    good, bad = make_run(tmp_path / "a", hits(0)), make_run(tmp_path / "b", hits(1), "seed=1", score=float("nan"))
    found = compared(tmp_path / "out", good, bad)
    assert found["subjects"][0]["entries"][0]["seeds"] == [0]
    assert "top1 is no finite number" in found["excluded"]["b"]


def test_class_found_where_no_image_has_it_is_noted_beside_the_mean(tmp_path):
    hit = np.array([[8, 1], [4, 2]], np.int32)
    pixels = Pixels(np.arange(2), hit, 0 * hit, 0 * hit)
    run = make_run(tmp_path / "a", pixels, task="mobile_deeplabv3")
    scores = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(scores | {"mIoU_union": 0.5, "precision": "bf16-mixed"}))
    said = "a: mobile_deeplabv3: mIoU 1.0000 is over the classes of the truth; 0.5000 with those only predicted"
    notes = compared(tmp_path / "out", run)["notes"]
    assert notes[0] == "a: its scores are those of bf16-mixed" and notes[1].startswith(said)


def test_first_run_without_a_score_is_not_replaced_in_silence(tmp_path):
    runs = [make_run(tmp_path / name, hits(i), f"lr=0.{i + 1}") for i, name in enumerate("abc")]
    (runs[0] / "metrics.json").unlink()
    notes = compared(tmp_path / "out", *runs)["notes"]
    assert "The first run given has no score: b is what the others are compared with." in notes


def test_runs_without_any_score_are_an_error_that_says_why(tmp_path):
    run = make_run(tmp_path / "a", hits(0))
    (run / "metrics.json").unlink()
    with pytest.raises(DataError, match="none of the 2 runs has a score.*a: .*no metrics.*b: is not a run folder"):
        compare([run, tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="no runs to compare"):
        compare([], tmp_path / "out")


def test_runs_of_different_tasks_are_refused(tmp_path):
    pixels = Pixels(np.arange(2), *(np.ones((2, 3), np.int32) for _ in range(3)))
    runs = [make_run(tmp_path / "a", hits(0)), make_run(tmp_path / "b", pixels, task="mobile_deeplabv3")]
    with pytest.raises(DataError, match="a and b are of different tasks: classification and mobile_deeplabv3"):
        compare(runs, tmp_path / "out")


def test_runs_on_different_data_are_refused(tmp_path):
    runs = [make_run(tmp_path / "a", hits(0)), make_run(tmp_path / "b", hits(0), fingerprint="b" * 64)]
    with pytest.raises(DataError, match=r"a and b are of different data.*aaaaaaaaaaaa\).*bbbbbbbbbbbb"):
        compare(runs, tmp_path / "out")


def test_runs_validated_on_different_images_are_refused(tmp_path):
    runs = [make_run(tmp_path / "a", hits(0)), make_run(tmp_path / "b", hits(0, num_images=30), "lr=0.5")]
    with pytest.raises(DataError, match="a and b were validated on different images: 40 and 30, 30 of them the same"):
        compare(runs, tmp_path / "out")


def test_run_of_a_former_version_has_its_score_and_says_how_to_get_an_interval(tmp_path):
    runs = [make_run(tmp_path / name, hits(i), f"lr=0.{i + 1}") for i, name in enumerate("ab")]
    (runs[1] / "per_image.npz").unlink()
    found = compared(tmp_path / "out", *runs)
    entry = found["subjects"][0]["entries"][1]
    assert entry["interval"] is None and entry["difference"] is not None and entry["difference_interval"] is None
    assert any("b: has no per_image.npz" in note and f"tools/eval.py run={runs[1]}" in note for note in found["notes"])


def test_outcomes_of_another_validation_than_the_score_are_not_used(tmp_path):
    run = make_run(tmp_path / "a", hits(0), score=0.123)
    found = compared(tmp_path / "out", run)
    assert found["subjects"][0]["entries"][0]["interval"] is None
    assert any("different validations" in note for note in found["notes"])


def test_damaged_outcomes_are_stated(tmp_path):
    runs = [make_run(tmp_path / name, hits(i), f"lr=0.{i + 1}") for i, name in enumerate("ab")]
    content = (runs[1] / "per_image.npz").read_bytes()
    (runs[1] / "per_image.npz").write_bytes(content[: len(content) // 2])
    assert "per_image.npz cannot be read" in compared(tmp_path / "out", *runs)["excluded"]["b"]
    evaluated = runs[1] / "eval"
    evaluated.mkdir()
    (evaluated / "per_image.npz").write_bytes(content)
    shutil.copy(runs[1] / "metrics.json", evaluated)
    found = compared(tmp_path / "out", *runs)
    assert found["subjects"][0]["entries"][1]["interval"] is not None and not found["excluded"]  # a good one wins
    assert any("those of its eval folder: per_image.npz cannot be read" in note for note in found["notes"])


@pytest.mark.slow
def test_page_of_trained_runs_stands_alone(tiny, tmp_path):
    """A task alone and with others: one page, nothing outside it."""
    from mnv2_tasks.training.train import train

    alone = train(compose("train", ["task=ssdlite", *tiny]))
    together = train(compose("train", ["task=multitask", *tiny]))
    out = tmp_path / "out"
    compare([alone, together], out, title="Alone & together", repeats=1, images=2)
    html = (out / "compare.html").read_text()
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", re.sub(r'"data:[^"]*"', '""', html))
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) > 6 and all(source.startswith("data:image/") for source in sources)
    assert "<title>Alone &amp; together</title>" in html and "@media print" in html

    found = json.loads((out / "compare.json").read_text())
    assert [subject["kind"] for subject in found["subjects"]] == ["detection", "classification", "segmentation"]
    assert [entry["task"] for entry in found["subjects"][0]["entries"]] == ["ssdlite", "ssdlite"]
    entry = found["subjects"][0]["entries"][1]
    assert entry["params"] > found["subjects"][0]["entries"][0]["params"]
    assert entry["latency_ms"]["p95"] >= entry["latency_ms"]["p50"] > 0
    assert found["exported"] == "onnx" and entry["exported_latency_ms"]["p50"] > 0
    assert found["notes"] == [] and found["excluded"] == {}

    shutil.rmtree(out)
    assert compare([alone], out, repeats=0, images=0).is_file()
