import inspect
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from pycocotools import mask as run_length
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mnv2_tasks.data.class_lists import VOC_SEGMENTATION, coco_categories
from mnv2_tasks.data.coco import coco
from mnv2_tasks.data.reading.coco_json import read_coco_json
from mnv2_tasks.data.reading.outlines import compressed_outline, outline_mask
from mnv2_tasks.data.reading.records import Texts
from mnv2_tasks.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
ASSETS = ROOT.parent / "shared" / "assets" / "coco"
CATEGORIES = [{"id": number, "name": name} for number, name in coco_categories().items()]
PERSON, DOG, KITE = 1, 18, 38  # official ids; VOC has no kite
HEIGHT, WIDTH = 40, 60
SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]  # x, y: columns and rows 10 to 19


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path / "cache"))


def image(number, file=None, **more):
    return {"id": number, "file_name": file or f"{number:012}.jpg", "height": HEIGHT, "width": WIDTH, **more}


def thing(number, image_id, category=DOG, bbox=(5, 6, 20, 10), **more):
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": list(bbox), **more}


def content(images, annotations, **more):
    return {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}


def picture(path, seed, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def write(root, split, of, *, pictures=True):
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(of if isinstance(of, str) else json.dumps(of))
    if pictures:
        for row in of["images"]:
            picture(root / f"{split}2017" / row["file_name"], row["id"] + 1000 * (split == "val"))
    return path


def source(root, kind="detection", on_bad="refuse"):
    return coco(root=str(root), kind=kind, on_bad=on_bad)


# ---------------------------------------------------------------- detection


def test_boxes_labels_and_ids_are_those_of_the_file(tmp_path):
    annotations = [thing(7, 42, DOG), thing(0, 9, PERSON, (1, 2, 3, 4), area=5.5), thing(8, 42, 90, iscrowd=1)]
    write(tmp_path, "val", content([image(9), image(42)], annotations))
    data = source(tmp_path)
    assert data.class_names == list(coco_categories().values()) and len(data.class_names) == 80
    first, second = data.sample("val", 0, 0), data.sample("val", 0, 1)
    assert (first.image_id, second.image_id) == (9, 42)
    assert first.image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(first.boxes, [[1, 2, 4, 6]])
    assert first.boxes.dtype == np.float32
    np.testing.assert_array_equal(second.boxes, [[5, 6, 25, 16]])  # the crowd is left out
    assert [data.class_names[i] for i in (*first.box_labels, *second.box_labels)] == ["person", "dog"]
    truth = data.coco_ground_truth()["annotations"]
    assert [(a["image_id"], a["category_id"], a["iscrowd"], a["area"]) for a in truth] == [
        (9, PERSON, 0, 5.5), (42, DOG, 0, 200.0), (42, 90, 1, 200.0),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
@pytest.mark.parametrize("said", ["images", "annotations", "categories"])
def test_numbers_that_are_written_as_text_are_those_numbers(tmp_path, said, kind):
    rows = content([image(0), image(12)], [thing(1, 12, DOG, segmentation=SQUARE), thing(2, 0, segmentation=SQUARE)])
    path = write(tmp_path, "train", rows)
    texts = [{k: str(v) if k in ("id", "image_id", "category_id") else v for k, v in row.items()} for row in rows[said]]
    path.write_text(json.dumps({**rows, said: texts}))
    data = source(tmp_path, kind)
    assert data.length("train") == 2 and data.sample("train", 0, 1).image_id == 12
    if kind == "detection":
        assert [data.class_names[i] for i in data.sample("train", 0, 1).box_labels] == ["dog"]
    else:
        assert data.sample("train", 0, 1).mask.max() == VOC_SEGMENTATION.index("dog")


def test_whole_numbers_with_a_point_and_ids_of_annotations_that_are_texts_are_read(tmp_path):
    floats = {"id": 12.0, "file_name": image(12)["file_name"], "height": float(HEIGHT), "width": str(WIDTH)}
    path = write(tmp_path, "train", content([image(0), image(12)], [thing("9f-a", 12.0, float(DOG)), thing("9f-b", 0)]))
    rows = json.loads(path.read_text())
    path.write_text(json.dumps({**rows, "images": [rows["images"][0], floats]}))
    data = source(tmp_path)
    assert data.length("train") == 2 and data.sample("train", 0, 1).image_id == 12
    assert data.verified("train")[0].box_ids.tolist() == [2, 1]


def test_one_side_of_an_image_says_nothing(tmp_path):
    path = write(tmp_path, "train", content([image(0)], [thing(1, 0)]))
    rows = json.loads(path.read_text())
    del rows["images"][0]["width"]
    path.write_text(json.dumps(rows))
    assert source(tmp_path).length("train") == 1


@pytest.mark.parametrize("ignore, crowd", [(1, True), (0, False), (True, True)])
def test_objects_to_ignore_are_as_crowds(tmp_path, ignore, crowd):
    write(tmp_path, "train", content([image(0)], [thing(1, 0), thing(2, 0, bbox=(1, 1, 9, 9), ignore=ignore)]))
    assert source(tmp_path).verified("train")[0].crowd.tolist() == [False, crowd]


def test_boxes_in_fractions_are_refused_as_such(tmp_path):
    write(tmp_path, "train", content([image(0)], [thing(1, 0, bbox=(0.1, 0.1, 0.5, 0.5))]))
    with pytest.raises(DataError, match="all 1 box of its 1 image lie within one pixel, as fractions .* Pixels belong"):
        source(tmp_path).length("train")


def test_text_that_is_no_number_of_an_image_is_refused(tmp_path):
    write(tmp_path, "val", content([image(1)], [thing(1, 1), thing(2, "01")]))
    with pytest.raises(DataError, match="annotation 2 belongs to image 01, absent from 'images'"):
        source(tmp_path).prepare(["val"])


@pytest.mark.parametrize(
    "said, crowd",
    [("false", 0), ("0", 0), ("no", 0), (False, 0), (None, 0), ("True", 1), ("1", 1), (True, 1), (1.0, 1)],
)
def test_iscrowd_is_read_as_tools_write_it(tmp_path, said, crowd):
    write(tmp_path, "val", content([image(1)], [thing(1, 1), thing(2, 1, bbox=(1, 1, 2, 2), iscrowd=said)]))
    assert [row["iscrowd"] for row in source(tmp_path).coco_ground_truth()["annotations"]] == [0, crowd]


def test_iscrowd_that_is_neither_yes_nor_no_is_refused(tmp_path):
    write(tmp_path, "val", content([image(1)], [thing(1, 1), thing(2, 1, iscrowd="many")]))
    with pytest.raises(DataError, match="annotation 2 needs numbers.*many"):
        source(tmp_path).prepare(["val"])


def test_images_without_objects_stay(tmp_path):
    write(tmp_path, "train", content([image(1), image(2), image(3)], [thing(1, 2)]))
    data = source(tmp_path)
    assert data.length("train") == 3
    for index in (0, 2):
        sample = data.sample("train", 0, index)
        assert sample.boxes.shape == (0, 4) and sample.box_labels.shape == (0,)
    assert "2 without objects" in data.describe()


def test_ground_truth_as_detections_scores_one(tmp_path, capsys):
    # The id 0 of an annotation is a trap: pycocotools takes a match with it for none
    annotations = [thing(0, 5, DOG), thing(1, 5, PERSON, (30, 5, 20, 30)), thing(2, 3, 90, (0, 0, 60, 40))]
    write(tmp_path, "val", content([image(5), image(3)], annotations))
    truth = COCO()
    truth.dataset = source(tmp_path).coco_ground_truth()
    truth.createIndex()
    keys = ("image_id", "category_id", "bbox")
    results = [{**{key: a[key] for key in keys}, "score": 1.0} for a in truth.dataset["annotations"]]
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_categories_of_any_number_become_labels_in_the_order_of_their_ids(tmp_path):
    categories = [{"id": 70, "name": "cog"}, {"id": 0, "name": "axle"}]
    path = write(tmp_path, "val", {**content([image(1)], [thing(1, 1, 70), thing(2, 1, 0)]), "categories": categories})
    found = read_coco_json(path, tmp_path / "val2017", root=tmp_path, outlines=False)
    assert found.categories == {0: "axle", 70: "cog"}
    assert found.records.box_labels.tolist() == [1, 0] and not found.problems


def test_pictures_may_lie_in_a_folder_of_images(tmp_path):
    write(tmp_path, "val", content([image(1)], [thing(1, 1)]))
    (tmp_path / "images").mkdir()
    (tmp_path / "val2017").rename(tmp_path / "images" / "val2017")
    assert source(tmp_path).length("val") == 1


BROKEN = [
    (
        thing(4, 1, 99),
        r"instances_val2017\.json: annotation 4 has category 99, absent from 'categories'.*another split",
    ),
    (thing(4, 77), r"annotation 4 belongs to image 77, absent from 'images'.*another split or release"),
    ({"id": 4, "image_id": 1, "category_id": DOG}, "annotation 4 has no bbox"),
    (thing(4, 1, bbox=(1, 2, 3)), "annotation 4 needs numbers"),
    (thing(4, 1, bbox=(1, 2, 3, "wide")), "annotation 4 needs numbers.*wide"),
    (thing(4, 1, area="large"), "annotation 4 needs numbers"),
    ({"image_id": 1, "bbox": [1, 2, 3, 4]}, "annotation number 2 has no category_id"),
    ("none", "annotation number 2 is none"),
]


@pytest.mark.parametrize("annotation, message", BROKEN, ids=[message for _, message in BROKEN])
def test_an_annotation_that_cannot_be_placed_is_refused_or_counted(tmp_path, annotation, message):
    write(tmp_path, "val", content([image(1)], [thing(3, 1), annotation]))
    with pytest.raises(DataError, match=message):
        source(tmp_path).prepare(["val"])
    data = source(tmp_path, on_bad="skip")
    assert len(data.sample("val", 0, 0).boxes) == 1
    assert data.skipped == ["skipped in val: 0 of 1 images, 0 of 1 boxes, 1 annotations without a place"]


@pytest.mark.parametrize(
    "bbox, message",
    [
        ((1, 2, float("nan"), 4), "box 4 is not a number"),
        ((1, 2, -3, 4), "box 4 has its corners reversed"),
        ((1, 2, 3, 0), "box 4 has no area"),  # train2017 holds two of these
        ((100, 2, 3, 4), "box 4 lies outside"),
    ],
)
def test_a_box_that_nobody_can_learn_from_is_refused_or_left_out(tmp_path, bbox, message):
    write(tmp_path, "val", content([image(1)], [thing(3, 1), thing(4, 1, bbox=bbox)]))
    with pytest.raises(DataError, match=message):
        source(tmp_path).prepare(["val"])
    data = source(tmp_path, on_bad="skip")
    assert data.length("val") == 1 and len(data.coco_ground_truth()["annotations"]) == 1


GOOD = content([image(1)], [thing(1, 1)])
UNREADABLE = [
    (json.dumps(GOOD)[:-20], r"is not valid JSON .*cut short"),
    ("[]", r"is a list, COCO's format is an object"),
    (json.dumps({"shapes": [], "version": "1"}), r"lacks the lists \['images', 'annotations', 'categories'\]; it has"),
    (json.dumps({key: GOOD[key] for key in ("images", "categories")}), r"no 'annotations'; a test split"),
    (json.dumps({**GOOD, "annotations": []}), r"list of annotations is empty"),
    (json.dumps({**GOOD, "images": [image(1), image(1, "2.jpg")]}), r"image ids more than once.*\[1\].*merged"),
    (json.dumps({**GOOD, "images": [{"id": 1}]}), r"image number 1 needs an id and a file_name"),
    (json.dumps({**GOOD, "images": [image("one")]}), r"image number 1 needs .*whole number"),
    (json.dumps({**GOOD, "categories": [{"id": DOG, "name": "a"}, {"id": DOG, "name": "b"}]}), r"\(a, b\) .*twice"),
    (json.dumps({**GOOD, "categories": [{"id": "one", "name": "a"}]}), r"a category needs an id"),
]


@pytest.mark.parametrize("text, message", UNREADABLE, ids=[message for _, message in UNREADABLE])
def test_a_file_that_is_not_in_coco_format_says_what_is_missing(tmp_path, text, message):
    write(tmp_path, "val", text, pictures=False)
    picture(tmp_path / "val2017" / "000000000001.jpg", 0)
    with pytest.raises(DataError, match=f"instances_val2017.json: .*{message}"):
        source(tmp_path).prepare(["val"])


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    path = write(tmp_path, "val", GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert source(tmp_path).length("val") == 1


def test_a_file_that_two_images_name_is_refused_or_used_once(tmp_path):
    write(tmp_path, "val", content([image(1), image(2, "000000000001.jpg")], [thing(1, 1), thing(2, 2)]))
    with pytest.raises(DataError, match=r"000000000001\.jpg is listed again, first as image 1"):
        source(tmp_path).prepare(["val"])
    data = source(tmp_path, on_bad="skip")
    assert data.length("val") == 1 and data.sample("val", 0, 0).image_id == 1


def test_a_missing_picture_is_named(tmp_path):
    write(tmp_path, "val", content([image(1), image(2)], [thing(1, 1)]))
    (tmp_path / "val2017" / "000000000002.jpg").unlink()
    with pytest.raises(DataError, match=r"000000000002\.jpg: cannot be opened \(No such file"):
        source(tmp_path).prepare(["val"])


def test_a_folder_that_holds_none_of_the_pictures_is_an_error_whatever_the_policy(tmp_path):
    write(tmp_path, "val", content([image(1), image(2)], [thing(1, 1)]))
    for file in (tmp_path / "val2017").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match=r"none of its 2 pictures lies in .*val2017; the first is 000000000001\.jpg"):
        source(tmp_path, on_bad="skip").prepare(["val"])


def test_categories_that_are_not_cocos_point_to_the_folder_source(tmp_path):
    categories = [*CATEGORIES[:-1], {"id": 90, "name": "hair dryer"}]
    write(tmp_path, "val", {**GOOD, "categories": categories})
    with pytest.raises(ConfigError, match=r"(?s)hair dryer \(id 90\).*toothbrush \(id 90\).*data=folder"):
        source(tmp_path).prepare(["val"])


@pytest.mark.parametrize("missing", ["annotations", "val2017", "annotations/instances_val2017.json"])
def test_what_is_missing_is_named_with_the_expected_tree(tmp_path, missing):
    write(tmp_path, "val", GOOD)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=rf"(?s){missing} does not exist.*instances_train2017\.json.*elsewhere"):
        source(tmp_path).prepare(["val"])


def test_classification_is_not_served(tmp_path):
    with pytest.raises(ConfigError, match="data=coco serves detection and segmentation; classification"):
        source(tmp_path, "classification")


@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_boxes_on_a_turned_picture_are_read_in_the_pixels_they_were_drawn_on(tmp_path, drawn_on):
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[5:15, 40:55] = (255, 0, 0)
    upright = cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "val2017").mkdir()
    Image.fromarray(stored).save(tmp_path / "val2017" / "1.png", exif=exif)
    pixels = stored if drawn_on == "stored" else upright
    rows, columns = np.nonzero(pixels[..., 0])
    x, y, width, height = (int(v) for v in (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1))
    row = {"id": 1, "file_name": "1.png", "height": pixels.shape[0], "width": pixels.shape[1]}
    write(tmp_path, "val", content([row], [thing(1, 1, bbox=(x, y, width, height))]), pictures=False)
    sample = source(tmp_path).sample("val", 0, 0)
    np.testing.assert_array_equal(sample.image, pixels)
    np.testing.assert_array_equal(sample.boxes, [[x, y, x + width, y + height]])


def test_records_hold_arrays_only_so_that_workers_share_them(tmp_path):
    annotations = [thing(i, i % 50, bbox=(i % 30, 1, 9, 9)) for i in range(5000)]
    path = write(tmp_path, "val", content([image(i) for i in range(50)], annotations), pictures=False)
    picture(tmp_path / "val2017" / "000000000000.jpg", 0)
    records = read_coco_json(path, tmp_path / "val2017", root=tmp_path, outlines=False).records
    for name, field in vars(records).items():
        arrays = vars(field).values() if isinstance(field, Texts) else [field]
        assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays), name
    assert records.image_of_box().tolist() == sorted(i % 50 for i in range(5000))
    assert records.box_ids[:3].tolist() == [0, 50, 100]  # of the first image, in the file's order


def test_a_prepared_source_goes_to_a_spawned_worker(tmp_path):
    write(tmp_path, "val", GOOD)
    data = source(tmp_path)
    data.prepare(["val"])
    there = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(there.sample("val", 0, 0).boxes, data.sample("val", 0, 0).boxes)


# ---------------------------------------------------------------- segmentation


def outline(number, image_id, segmentation, category=DOG, **more):
    return thing(number, image_id, category, segmentation=segmentation, **more)


def square():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 10:20] = 1
    return mask


def runs(mask):
    """Uncompressed: lengths of 0s, 1s, 0s ... down the columns."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    return {"size": list(mask.shape), "counts": np.diff([0, *ends, len(flat)]).tolist()}


def compressed(mask):
    coded = run_length.encode(np.asfortranarray(mask))
    return {"size": coded["size"], "counts": coded["counts"].decode()}


@pytest.mark.parametrize(
    "segmentation",
    [SQUARE, SQUARE[0], runs(square()), compressed(square())],
    ids=["polygon", "flat", "runs", "coded"],
)
def test_every_way_to_write_an_outline_gives_the_same_mask(tmp_path, segmentation):
    write(tmp_path, "train", content([image(1)], [outline(1, 1, segmentation)]))
    data = source(tmp_path, "segmentation")
    assert data.class_names == VOC_SEGMENTATION
    mask = data.sample("train", 0, 0).mask
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, square() * VOC_SEGMENTATION.index("dog"))


@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_are_drawn_as_pycocotools_draws_them(seed):
    random = np.random.default_rng(seed)
    mask = cv2.resize(random.integers(0, 2, (9, 13), np.uint8), (300, 200), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(outline_mask(compressed_outline(compressed(mask), mask.shape), mask.shape), mask)
    noise = random.integers(0, 2, (200, 300), np.uint8)
    noise[0, 0] = 0
    np.testing.assert_array_equal(outline_mask(compressed_outline(runs(noise), noise.shape), noise.shape), noise)


def test_only_images_with_an_object_of_voc_are_segmented(tmp_path):
    annotations = [outline(1, 3, SQUARE), outline(2, 2, SQUARE, KITE), outline(3, 3, [[0, 0, 5, 0, 5, 5]], KITE)]
    write(tmp_path, "train", content([image(1), image(2), image(3)], annotations))
    data = source(tmp_path, "segmentation")
    assert data.length("train") == 1 and data.sample("train", 0, 0).image_id == 3
    assert set(np.unique(data.sample("train", 0, 0).mask)) == {0, VOC_SEGMENTATION.index("dog")}


def test_pixels_of_crowds_and_of_two_objects_have_no_class(tmp_path):
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8)
    crowd[30:, :] = 1
    annotations = [
        outline(1, 1, SQUARE),
        outline(2, 1, [[15, 10, 25, 10, 25, 20, 15, 20]], PERSON),
        outline(3, 1, runs(crowd), PERSON, iscrowd=1),
    ]
    write(tmp_path, "train", content([image(1)], annotations))
    mask = source(tmp_path, "segmentation").sample("train", 0, 0).mask
    assert (mask[10:20, 10:15] == VOC_SEGMENTATION.index("dog")).all()
    assert (mask[10:20, 15:20] == 255).all() and (mask[30:] == 255).all()
    assert (mask[10:20, 20:25] == VOC_SEGMENTATION.index("person")).all()


def test_another_outline_is_another_fingerprint(tmp_path):
    fingerprints = set()
    for last in (20, 19):
        corner = [[10, 10, 20, 10, 20, last, 10, 20]]  # the same box
        write(tmp_path, "train", content([image(1)], [outline(1, 1, corner)]))
        data = source(tmp_path, "segmentation")
        data.prepare(["train"])
        fingerprints.add(data.fingerprint())
    assert len(fingerprints) == 2


def test_a_part_of_an_outline_that_encloses_nothing_is_harmless(tmp_path):
    write(tmp_path, "train", content([image(1)], [outline(1, 1, [*SQUARE, [30, 30, 35, 35]])]))
    assert (source(tmp_path, "segmentation").sample("train", 0, 0).mask > 0).sum() == 100


@pytest.mark.parametrize(
    "segmentation, message",
    [
        ([], "annotation 2 has no outline"),
        ([[1, 2, 3, 4]], "annotation 2 has an outline of fewer than three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "annotation 2 has an outline that is no list of x and y"),
        ([[1, 2, 3, 4, 5, float("nan")]], "annotation 2 has an outline that is no list of x and y"),
        ([[1, 2, 3, 4, 5, "6"]], "annotation 2 has an outline that is no list of x and y"),
        ([["a"]], "annotation 2 has an outline of fewer"),
        ([7], "annotation 2 has an outline that is no list of x and y"),
        ([[0, 0, 9000, 0, 9000, 9000]], r"annotation 2 has an outline from 0 to 9000, far out of .* 60 x 40 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 6]}, "annotation 2 has run lengths of 11 pixels"),
        ({"size": [20, 20], "counts": [100, 300]}, r"annotation 2 has run lengths of 400 pixels and size \[20, 20\]"),
        ({"size": [HEIGHT, WIDTH], "counts": "0"}, "annotation 2 has run lengths of 0 pixels"),
        ({"size": [HEIGHT, WIDTH]}, "annotation 2 has run lengths that cannot be read"),
    ],
)
def test_an_outline_that_cannot_be_drawn_is_refused_or_costs_its_image(tmp_path, segmentation, message):
    annotations = [outline(1, 3, SQUARE), outline(2, 2, segmentation), outline(3, 2, SQUARE)]
    write(tmp_path, "train", content([image(1), image(2), image(3)], annotations))
    with pytest.raises(DataError, match=message):
        source(tmp_path, "segmentation").prepare(["train"])
    data = source(tmp_path, "segmentation", "skip")
    assert data.length("train") == 1 and data.sample("train", 0, 0).image_id == 3
    assert data.skipped == ["skipped in train: 1 of 2 images, 1 of 2 boxes"]


def test_a_file_without_outlines_says_so(tmp_path):
    write(tmp_path, "val", content([image(1)], [thing(1, 1), thing(2, 1, segmentation=[])]))
    with pytest.raises(DataError, match="none of its 2 objects has an outline .*made for boxes"):
        source(tmp_path, "segmentation", "skip").prepare(["val"])


# ---------------------------------------------------------------- config and real data


def test_the_config_names_what_the_function_takes():
    given = OmegaConf.load(ROOT / "conf" / "data" / "coco.yaml").source.keys() - {"_target_"}
    assert given == inspect.signature(coco).parameters.keys() - {"kind"}


@pytest.mark.skipif(not ASSETS.is_dir(), reason="the real images are not here")
def test_real_coco_is_read_whole():
    data = source(ASSETS)
    data.prepare(["train", "val"])
    assert data.describe() == (
        "COCO 2017, 80 classes, 128 / 128 images (2 without objects; "
        "10 of 939 boxes in train crowds or difficult, neither trained on nor scored; "
        "5 of 903 boxes in val crowds or difficult, neither trained on nor scored); "
        "val has images of 5 classes that train has none of: fire hydrant, sheep, surfboard, apple, keyboard"
    )
    truth = data.coco_ground_truth()["annotations"]
    assert len(truth) == 903 and sum(annotation["iscrowd"] for annotation in truth) == 5
    train, problems, _ = data.problems("train")
    assert len(train.boxes) == 939 and not problems
    assert data.sample("val", 0, 0).image_id == 139


@pytest.mark.skipif(not ASSETS.is_dir(), reason="the real images are not here")
def test_real_coco_is_segmented_into_vocs_classes():
    data = source(ASSETS, "segmentation")
    data.prepare(["train"])
    assert data.length("train") == 97
    values = {int(value) for i in range(0, 97, 8) for value in np.unique(data.sample("train", 0, i).mask)}
    assert {0, 15, 255} <= values <= {*range(21), 255}
    with pytest.raises(DataError, match="none of its 519 objects has an outline"):
        data.prepare(["val"])
