"""Masks of strangers: wherever they lie, whatever their pixels say."""

import json
import zlib

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.config.compose import compose
from mnv2_tasks.contracts import IGNORE
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data.packing import pack
from mnv2_tasks.data.shards import shards
from mnv2_tasks.data_tool.examine import examine
from mnv2_tasks.data_tool.repaired_copy import write_repaired
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.training.train import train

OWN = ["weights=none", "width=0.1", "batch=2", "epochs=1", "workers=0", "logger=none", "trainer.precision=32-true"]
SIZE = (24, 16)  # width, height
CAMVID = {"sky": (128, 128, 128), "road": (128, 64, 128), "void": (0, 0, 0)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def bands(values):
    """(H, W) or (H, W, 3): a band of each value, from left to right."""
    values = list(values)
    row = np.array(values, np.uint8)[np.arange(SIZE[0]) * len(values) // SIZE[0]]
    return np.repeat(row[None], SIZE[1], axis=0)


def mask(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(bands(values))
    if mode == "P":
        image = image.quantize(8)
    (image.convert(mode) if mode else image).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def opened(root, **said):
    settings = {"kind": "segmentation", "on_bad": "refuse", "train": None, "val": None, "ignore": None, **said}
    source = folder(root=str(root), **settings)
    source.prepare(("train", "val"))
    return source


def held(source, split="train", index=0):
    """The classes of a mask from left to right."""
    row = source.sample(split, 0, index).mask[0].tolist()
    return [row[0], *(b for a, b in zip(row, row[1:]) if a != b)]


def pairs(root, values, *, images="images/{}/{}.jpg", masks="masks/{}/{}.png", splits=("train", "val"), mode=None):
    for split in splits:
        for name in ("a", "b"):
            picture(root / images.format(split, f"{split}_{name}"))
            mask(root / masks.format(split, f"{split}_{name}"), values, mode)


# ---------------------------------------------------------------- which pixels are which class


@pytest.mark.parametrize(
    "ignore, kept, expected",
    [
        (3, ["sky", "road", "car"], [0, 1, 2, IGNORE]),
        ([3, 0], ["road", "car"], [IGNORE, 0, 1, IGNORE]),
        (["road", 3], ["sky", "car"], [0, IGNORE, 1, IGNORE]),
    ],
)
def test_ignored_values_and_classes_are_no_class_and_the_others_are_numbered_anew(tmp_path, ignore, kept, expected):
    pairs(tmp_path, [0, 1, 2, 3])
    write(tmp_path / "classes.txt", "sky\nroad\ncar\n")
    source = opened(tmp_path, ignore=ignore)
    assert source.class_names == kept and held(source) == expected
    assert "no class: 3" in source.describe() or "1 (road)" in source.describe()


@pytest.mark.parametrize("void", ["void", "Void", "unlabelled", "__ignore__"])
def test_class_called_void_is_none_and_that_is_said(tmp_path, void):
    pairs(tmp_path, [0, 1, 2, 255])
    write(tmp_path / "classes.txt", f"{void}\nroad\ncar\n")
    source = opened(tmp_path)
    assert source.class_names == ["road", "car"] and held(source) == [IGNORE, 0, 1, IGNORE]
    assert f"no class: 0 ({void})" in source.describe()
    as_class = opened(tmp_path, ignore=[])
    assert as_class.class_names == [void, "road", "car"] and held(as_class) == [0, 1, 2, IGNORE]


def test_runs_without_the_key_take_void_for_a_class_as_they_did(tmp_path):
    pairs(tmp_path, [0, 1])
    write(tmp_path / "classes.txt", "void\nroad\ncar\n")
    source = folder(root=str(tmp_path), kind="segmentation", on_bad="refuse", train=None, val=None)
    assert source.class_names == ["void", "road", "car"]


def test_values_beyond_8_bits_may_be_ignored(tmp_path):
    pairs(tmp_path, [0, 1])
    wide = bands([0, 1, 2]).astype(np.uint16)
    wide[wide == 2] = 65535
    Image.fromarray(wide).save(tmp_path / "masks" / "train" / "train_a.png")
    write(tmp_path / "classes.txt", "sky\nroad\n")
    with pytest.raises(DataError, match="holds values from 0 up to 65535"):
        opened(tmp_path)
    assert held(opened(tmp_path, ignore=65535)) == [0, 1, IGNORE]


@pytest.mark.parametrize("ignore", ["roads", [0, "roads"]])
def test_unknown_class_to_ignore_is_refused_with_those_there_are(tmp_path, ignore):
    pairs(tmp_path, [0, 1])
    write(tmp_path / "classes.txt", "sky\nroad\n")
    with pytest.raises(ConfigError, match=r"data.ignore=roads: there is no such class. Did you mean road\?"):
        opened(tmp_path, ignore=ignore)
    with pytest.raises(ConfigError, match="leaves none of the 2 classes"):
        opened(tmp_path, ignore=[0, 1])


COLOUR_FILES = {  # CamVid's, Kaggle's, CVAT's, Supervisely's, and people's own
    "label_colors.txt": "128 128 128\tsky\n128 64 128\troad\n0 0 0\t\tvoid\n",
    "class_dict.csv": "name,r,g,b\nsky,128,128,128\nroad,128,64,128\nvoid,0,0,0\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:128,128,128::\nroad:128,64,128:lane,kerb:\nvoid:0,0,0::\n",
    "map.json": '{"sky": [128, 128, 128], "road": "#804080", "void": [0, 0, 0]}',
    "meta.json": json.dumps(
        {"classes": [{"title": n, "color": "#" + bytes(rgb).hex(), "shape": "bitmap"} for n, rgb in CAMVID.items()]}
    ),
    "map.yaml": "sky: [128, 128, 128]\nroad: '#804080'\nvoid: [0, 0, 0]\n",
    "mine.txt": "sky #808080\nroad = 128, 64, 128\n\nvoid: (0, 0, 0)\n",
}


@pytest.mark.parametrize("name", COLOUR_FILES)
@pytest.mark.parametrize("mode", [None, "P", "RGBA"])
def test_colours_are_classes_by_a_file_of_any_kind(tmp_path, name, mode):
    pairs(tmp_path, [CAMVID["road"], CAMVID["void"], CAMVID["sky"]], mode=mode)
    write(tmp_path / name, COLOUR_FILES[name])
    source = opened(tmp_path, colours=name)
    assert source.class_names == ["sky", "road"] and held(source) == [1, IGNORE, 0]
    if name in ("label_colors.txt", "class_dict.csv", "labelmap.txt"):
        assert held(opened(tmp_path)) == [1, IGNORE, 0]  # found by its name


def test_masks_of_any_form_are_turned_as_their_pictures_are(tmp_path):
    pairs(tmp_path, [(9, 9, 9), (1, 2, 3)])
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    for place in ("images/train/train_a.jpg", "masks/train/train_a.png"):
        with Image.open(tmp_path / place) as image:
            image.load()
        image.save(tmp_path / place, exif=upside_down)
    write(tmp_path / "map.txt", "road 9 9 9\ncar 1 2 3\n")
    source = opened(tmp_path, colours="map.txt")
    assert [held(source, "train", i) for i in (0, 1)] == [[1, 0], [0, 1]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_lists_of_windows_programs_are_read_and_others_say_what_to_do(tmp_path, encoding):
    pairs(tmp_path, [(128, 64, 128), (0, 0, 0)])
    text = "\ufeff" * (encoding == "utf-16-be") + "name,r,g,b\r\nstra\u00dfe,128,64,128\r\nsky,0,0,0"
    (tmp_path / "class_dict.csv").write_bytes(text.encode(encoding))
    assert opened(tmp_path).class_names == ["stra\u00dfe", "sky"]
    (tmp_path / "class_dict.csv").write_bytes("name,r,g,b\nstra\u00dfe,128,64,128".encode("latin-1"))
    with pytest.raises(DataError, match="class_dict.csv, line 2: is not UTF-8 text .*Save it as UTF-8"):
        opened(tmp_path)


def test_palettes_that_number_their_colours_anew_in_each_file_are_refused_by_name(tmp_path):
    pairs(tmp_path, [0, 1])
    write(tmp_path / "classes.txt", "sky\nroad\ncar\n")
    for name, palette in (("a", [0, 0, 0, 9, 0, 0, 0, 9, 0]), ("b", [0, 0, 0, 0, 9, 0])):
        image = Image.fromarray(bands([0, 2 if name == "a" else 1])).convert("P")
        image.putpalette(palette)
        image.save(tmp_path / "masks" / "train" / f"train_{name}.png")
    with pytest.raises(
        ConfigError, match=r"\(0, 9, 0\) is value 2 in .*train_a.png and 1 in .*train_b.png.*data.colours"
    ):
        opened(tmp_path)
    write(tmp_path / "colours", "sky 0 0 0\nroad 9 0 0\ncar 0 9 0\ngrey 1 1 1")
    assert [held(opened(tmp_path, colours="colours"), "train", i) for i in (0, 1)] == [[0, 2]] * 2


@pytest.mark.parametrize("used", [[0, 1, 30], [0, 1], [1, 30]])
def test_palettes_with_colours_for_some_of_the_classes_are_read(tmp_path, used):
    pairs(tmp_path, [0, 30])
    write(tmp_path / "classes.txt", "".join(f"c{i}\n" for i in range(31)))
    image = Image.fromarray(bands(used)).convert("P")
    image.putpalette([0, 0, 0, 9, 0, 0] + [0] * 3 * 29)
    image.save(tmp_path / "masks" / "train" / "train_a.png")
    assert held(opened(tmp_path)) == used


def test_fractions_are_no_classes(tmp_path):
    pairs(tmp_path, [0, 1])
    write(tmp_path / "classes.txt", "sky\nroad\n")
    Image.fromarray(bands([0, 1]).astype(np.float32)).save(tmp_path / "masks" / "train" / "train_a.tif")
    (tmp_path / "masks" / "train" / "train_a.png").unlink()
    with pytest.raises(DataError, match=r"train_a.tif: has fractions as values \(mode F\)"):
        opened(tmp_path)


def test_vocs_colours_have_a_border_without_class(tmp_path):
    pairs(tmp_path, [(0, 0, 0), (224, 224, 192), (128, 0, 0)])
    write(tmp_path / "map.txt", "background 0 0 0\naeroplane 128 0 0\n")
    source = opened(tmp_path, colours=str(tmp_path / "map.txt"))
    assert source.class_names == ["background", "aeroplane"] and held(source) == [0, IGNORE, 1]


def test_several_colours_may_be_one_class(tmp_path):
    pairs(tmp_path, [(9, 9, 9), (1, 2, 3), (128, 0, 0), (5, 5, 5)])
    write(tmp_path / "map.txt", "road 9 9 9\ncar 1 2 3\nroad 128 0 0\nsky 5 5 5\n")
    source = opened(tmp_path, colours="map.txt")
    assert source.class_names == ["road", "car", "sky"] and held(source) == [0, 1, 0, 2]
    assert held(opened(tmp_path, colours="map.txt", ignore="road")) == [IGNORE, 0, IGNORE, 1]


def test_colour_that_no_map_lists_is_named_with_its_file(tmp_path):
    pairs(tmp_path, [(9, 9, 9), (1, 2, 3)])
    write(tmp_path / "map.txt", "road 9 9 9\ncar 7 7 7\n")
    with pytest.raises(DataError, match=r"train_a\.png: the mask holds the colours \[\(1, 2, 3\)\], which .* `void`"):
        opened(tmp_path, colours="map.txt")


@pytest.mark.parametrize(
    "text, what",
    [
        ("road 9 9 9\ncar 9 9 9\n", r"gives the colour \(9, 9, 9\) to road and to car"),
        ("road 9 9 9\ncar\n", r"line 2 is 'car', expected a class and its colour"),
        ("road 9 9 900\n", "line 1: .* is no colour"),
        ("", "lists no colours"),
        ("road " + "9" * 5000 + " 9 9\n", "line 1 is 'road 9+…', expected a class"),
    ],
)
def test_colour_file_that_is_none_says_where(tmp_path, text, what):
    pairs(tmp_path, [(9, 9, 9)])
    write(tmp_path / "map.txt", text)
    with pytest.raises(ConfigError, match=what):
        opened(tmp_path, colours="map.txt")
    with pytest.raises(ConfigError, match="data.colours=other.txt: there is no such file"):
        opened(tmp_path, colours="other.txt")


@pytest.mark.parametrize("mode", [None, "1", "P", "RGB"])
@pytest.mark.parametrize("classes", [None, "background\ncell\n"])
def test_black_and_white_masks_are_two_classes_by_option(tmp_path, mode, classes):
    pairs(tmp_path, [0, 255, 0], mode=mode)
    if classes:
        write(tmp_path / "classes.txt", classes)
    source = opened(tmp_path, binary=True)
    assert source.class_names == (["background", "cell"] if classes else ["background", "object"])
    assert held(source) == [0, 1, 0] and "white is class 1" in source.describe()


def test_indices_are_not_taken_for_black_and_white(tmp_path):
    pairs(tmp_path, [0, 1])
    with pytest.raises(ConfigError, match="the brightest has the value 1: they hold class indices"):
        opened(tmp_path, binary=True)
    with pytest.raises(ConfigError, match="data.binary=true takes white as class 1"):
        pairs(tmp_path, [0, 255])
        opened(tmp_path)


def test_greys_in_three_channels_are_indices(tmp_path):
    pairs(tmp_path, [(0, 0, 0), (1, 1, 1), (255, 255, 255)])
    write(tmp_path / "classes.txt", "background\ncat\n")
    assert held(opened(tmp_path)) == [0, 1, IGNORE]


@pytest.mark.parametrize(
    "most, one, binary, what",
    [
        ([0, 1], [0, 255], False, "is black and white .* and 3 of the 4 masks hold class indices"),
        ([0, 255], [0, 1], True, "has no white pixel, the brightest has the value 1"),
    ],
)
def test_black_and_white_masks_among_indices_are_refused_by_file_by_check_too(tmp_path, most, one, binary, what):
    pairs(tmp_path, most)
    write(tmp_path / "classes.txt", "bg\nobj\n")
    mask(tmp_path / "masks" / "val" / "val_b.png", one)
    with pytest.raises(DataError, match=f"1 bad records in val:\n.*val_b.png: (the mask )?{what}"):
        opened(tmp_path, binary=binary)
    source = folder(
        root=str(tmp_path), kind="segmentation", on_bad="refuse", train=None, val=None, ignore=None, binary=binary
    )
    (problem,) = examine(source, ("train", "val"), 32).splits[1].problems
    assert problem.file.endswith("val_b.png")


@pytest.mark.parametrize(
    "said", [{"ignore": -1}, {"ignore": [65536]}, {"split_seed": -1}, {"ignore": True}, {"ignore": [[1]]}]
)
def test_values_that_no_mask_holds_and_seeds_below_0_are_refused(tmp_path, said):
    pairs(tmp_path, [0, 1])
    write(tmp_path / "classes.txt", "bg\nroad\n")
    with pytest.raises(ConfigError, match=r"data\.(ignore|split_seed)=(-1|65536|True|\[1\]): "):
        opened(tmp_path, **said)


def test_masks_of_indices_in_jpeg_are_refused_by_name_and_black_and_white_ones_are_read(tmp_path):
    pairs(tmp_path / "a", [0, 1, 2], masks="masks/{}/{}.jpg")
    write(tmp_path / "a" / "classes.txt", "bg\nroad\ncar\n")
    with pytest.raises(
        DataError, match="train_a.jpg: is a JPEG, which changes values at edges, .* save the mask as PNG"
    ):
        opened(tmp_path / "a")
    pairs(tmp_path / "b", [0, 255], masks="masks/{}/{}.jpg")
    assert held(opened(tmp_path / "b", binary=True)) == [0, 1]


def test_indices_among_black_and_white_masks_are_refused_by_file(tmp_path):
    pairs(tmp_path, [0, 255])
    write(tmp_path / "classes.txt", "bg\nobj\n")
    mask(tmp_path / "masks" / "val" / "val_b.png", [0, 1])
    with pytest.raises(
        ConfigError, match="looks like binary .*but 1 of the 4 masks holds .*indices: .*val_b.png. Write"
    ):
        opened(tmp_path)


def test_255_beside_a_class_marks_no_class_in_masks_without_one_too(tmp_path):
    pairs(tmp_path, [0, 255])
    mask(tmp_path / "masks" / "train" / "train_b.png", [0, 1, 255])
    mask(tmp_path / "masks" / "val" / "val_b.png", [0, 1])
    write(tmp_path / "classes.txt", "bg\nobj\n")
    assert held(opened(tmp_path)) == [0, IGNORE]


@pytest.mark.parametrize("said", [{"ignore": 3}, {"colours": "a.txt"}, {"binary": True}, {"images": "a", "masks": "b"}])
def test_what_is_said_of_masks_is_refused_where_there_are_none(tmp_path, said):
    with pytest.raises(ConfigError, match="is for masks, and this task is classification"):
        opened(tmp_path, kind="classification", **said)


def test_shards_and_repaired_copies_hold_the_same_classes(tmp_path):
    pairs(tmp_path / "data", [CAMVID["road"], CAMVID["void"], CAMVID["sky"]])
    write(tmp_path / "data" / "label_colors.txt", COLOUR_FILES["label_colors.txt"])
    source = opened(tmp_path / "data")
    pack(source, ["train", "val"], tmp_path / "shards")
    packed = shards(root=str(tmp_path / "shards"), kind="segmentation")
    write_repaired(examine(source, ["train", "val"], 64), tmp_path / "copy")
    for other in (packed, opened(tmp_path / "copy")):
        assert other.class_names == ["sky", "road"] and [held(other, "val", i) for i in (0, 1)] == [[1, IGNORE, 0]] * 2


# ---------------------------------------------------------------- where they lie


LAYOUTS = {
    "CamVid": ("{}/{}.png", "{}annot/{}.png"),
    "Kaggle": ("{}/{}.png", "{}_labels/{}_L.png"),
    "suffix": ("images/{}/{}.jpg", "masks/{}/{}_mask.png"),
    "both have one": ("images/{}/{}_rgb.jpg", "masks/{}/{}_gt_labels.png"),
    "whole name": ("images/{}/{}.jpg", "masks/{}/{}.jpg.png"),
    "split last": ("a/photos/{}/{}.jpg", "a/ground truth/{}/{}.png"),
    "split first": ("data/{}/rgb/{}.jpg", "data/{}/gt/{}.png"),
    "one folder": ("{}/{}.jpg", "{}/{}_mask.png"),
    "one folder, two kinds": ("{}/{}.jpg", "{}/{}.png"),
    "Carvana": ("{}/{}.jpg", "{}_masks/{}_mask.gif"),
    "unheard of": ("blau/{}/{}.jpg", "rot/{}/{}.png"),
    "deeper": ("images/{}/{}.jpg", "annotations/trimaps/{}/{}.png"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_found_wherever_tools_put_them(tmp_path, name):
    images, masks = LAYOUTS[name]
    values = [0, 1] if masks.endswith(".gif") else [0, 1, 255]  # Pillow numbers what a GIF lacks anew
    pairs(tmp_path, values, images=images, masks=masks)
    write(tmp_path / "classes.txt", "sky\nroad\n")
    source = opened(tmp_path)
    assert source.describe() == "masks, 2 classes, 2 / 2 images"
    assert [held(source, split, i) for split in ("train", "val") for i in (0, 1)] == [values] * 4
    assert {"/".join(f.split("/")[-1:])[:5] for f in source.problems("train")[0].files} == {"train"}


def cityscapes(root, kinds=("labelIds", "color", "instanceIds")):
    """As it comes, with cities that number their pictures alike in every split."""
    for split, value in (("train", 0), ("val", 1)):
        for name in ("bonn_000000_000019", "bonn_000001_000019"):
            picture(root / "leftImg8bit" / split / "bonn" / f"{name}_leftImg8bit.png")
            for kind in kinds:
                held = [(9, 9, 9), (0, 0, 9)] if kind == "color" else [value, value, 2]
                mask(root / "gtFine" / split / "bonn" / f"{name}_gtFine_{kind}.png", held)
    write(root / "classes.txt", "road\ncar\nsky\n")


@pytest.mark.parametrize("said", [{}, {"images": "leftImg8bit", "masks": "gtFine"}])
def test_of_several_masks_of_a_picture_those_of_colours_and_instances_are_left_out_and_told(tmp_path, said):
    cityscapes(tmp_path)
    source = opened(tmp_path, **said)
    assert (held(source, "train"), held(source, "val")) == ([0, 2], [1, 2])
    assert "8 masks of colours or instances left out: bonn_000000_000019_gtFine_color.png" in source.describe()


def test_two_masks_of_one_picture_are_refused_by_name(tmp_path):
    cityscapes(tmp_path, ("labelIds", "labelTrainIds", "color"))
    what = r"9_gtFine_labelIds.png and .*_labelTrainIds.png are both masks of .*_leftImg8bit.png.*Keep _gtFine_labelIds"
    with pytest.raises(ConfigError, match=what):
        opened(tmp_path)


def test_two_folders_of_masks_for_one_picture_are_refused_and_one_that_is_not_taken_is_told(tmp_path):
    pairs(tmp_path, [0, 1], images="{}/photos/{}.jpg", masks="{}/masks_v1/{}.png")
    write(tmp_path / "classes.txt", "sky\nroad\n")
    pairs(tmp_path, [1, 0], images="{}/photos/{}.jpg", masks="{}/1st_manual/{}_manual1.png")
    source = opened(tmp_path)
    assert held(source) == [0, 1]
    told = "masks of train/masks_v1, not of train/1st_manual, val/1st_manual (data.masks=<folder>)"
    assert source.describe() == f"masks, 2 classes, {told}, 2 / 2 images"
    by_hand = opened(tmp_path, images="{split}/photos", masks="{split}/1st_manual")
    assert held(by_hand) == [1, 0] and "not of" not in by_hand.describe()
    pairs(tmp_path, [1, 0], images="{}/photos/{}.jpg", masks="{}/masks_v2/{}.png")
    with pytest.raises(
        ConfigError, match=r"masks_v1/train_a.png and .*masks_v2/train_a.png are both masks of .*data.masks"
    ):
        opened(tmp_path)


def test_masks_of_two_endings_are_those_of_their_pictures_and_one_of_none_is_bad(tmp_path):
    pairs(tmp_path, [0, 1], masks="masks/{}/{}_L.png")
    for split in ("train", "val"):
        (tmp_path / "masks" / split / f"{split}_b_L.png").rename(tmp_path / "masks" / split / f"{split}_b_mask.png")
    write(tmp_path / "classes.txt", "sky\nroad\n")
    assert opened(tmp_path).describe() == "masks, 2 classes, 2 / 2 images"
    mask(tmp_path / "masks" / "train" / "other.png", [0, 1])
    with pytest.raises(DataError, match=r"images/train/other\.\*: is annotated or listed, and there is no image"):
        opened(tmp_path)


@pytest.mark.parametrize("ending", ["", "_mask"])
def test_names_of_masks_may_differ_in_case_and_in_how_accents_are_stored(tmp_path, ending):
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / f"{split.upper()}_a.JPG")
        picture(tmp_path / "images" / split / f"{split}_\u00e9.jpg")
        mask(tmp_path / "masks" / split / f"{split}_A{ending}.png", [0, 1])
        mask(tmp_path / "masks" / split / f"{split}_e\u0301{ending}.png", [0, 1])
    write(tmp_path / "classes.txt", "sky\nroad\n")
    assert opened(tmp_path).describe() == "masks, 2 classes, 2 / 2 images"


@pytest.mark.parametrize("images, masks", [("{}_in", "out_{}"), ("blau/{}/x", "rot/{}/x")])
def test_splits_that_number_their_pictures_alike_keep_their_own_masks(tmp_path, images, masks):
    for split, value, number in (("train", 0, 4), ("val", 1, 3)):
        for i in range(number):
            picture(tmp_path / images.format(split) / f"{i}.jpg")
            mask(tmp_path / masks.format(split) / f"{i}.png", [value, 2])
    write(tmp_path / "classes.txt", "sky\nroad\ncar\n")
    source = opened(tmp_path)
    assert (held(source, "train"), held(source, "val")) == ([0, 2], [1, 2])


def test_splits_are_told_by_words_within_the_names_of_folders(tmp_path):
    for split in ("Training", "Validation"):
        for i in range(2):
            picture(tmp_path / f"ISIC2018_Task1-2_{split}_Input" / f"{split}{i}.jpg")
            mask(tmp_path / f"ISIC2018_Task1_{split}_GroundTruth" / f"{split}{i}_segmentation.png", [0, 255])
    source = opened(tmp_path, binary=True)
    assert source.describe() == "masks, 2 classes, white is class 1, 2 / 2 images"
    assert "Training" in source.problems("train")[0].files[0] and "Validation" in source.problems("val")[0].files[0]


@pytest.mark.parametrize(
    "place, line",
    [("", "{0}"), ("splits/", "{0}.jpg"), ("ImageSets/", "images/{0}.jpg"), ("ImageSets/x/", "x/{0}.jpg y/{0}.png")],
)
def test_lists_of_names_beside_folders_without_splits_are_their_splits_and_told(tmp_path, place, line):
    for name in "abcd e":
        picture(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"{name}.png", [0, 1])
    write(tmp_path / "classes.txt", "sky\nroad\n")
    for split, names in (("train", "ab"), ("val", "cd")):
        write(tmp_path / f"{place}{split}.txt", "".join(line.format(name) + "\n" for name in names))
    said = f"masks, 2 classes, split by {place}train.txt, {place}val.txt, 2 / 2 images"
    assert opened(tmp_path, split_seed=0).describe() == said
    write(tmp_path / f"{place}val.txt", line.format("c") + "\n" + line.format("z"))
    with pytest.raises(DataError, match="z.*is annotated or listed, and there is no image"):
        opened(tmp_path, split_seed=0)


def roboflow(root):
    """As its export of semantic masks writes it."""
    pairs(
        root, [0, 1, 2], images="{}/{}_jpg.rf.0a1b.jpg", masks="{}/{}_jpg.rf.0a1b_mask.png", splits=("train", "valid")
    )
    for split in ("train", "valid"):
        write(root / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, cat\n2, dog\n")


def test_roboflows_masks_are_read_with_its_list_of_classes(tmp_path):
    roboflow(tmp_path)
    source = opened(tmp_path)
    assert source.class_names == ["background", "cat", "dog"] and held(source, "val") == [0, 1, 2]
    write(tmp_path / "valid" / "_classes.csv", "Pixel Value, Class\n0, background\n1, dog\n2, cat\n")
    with pytest.raises(ConfigError, match=r"contradict each other: class 1 is cat in one and dog in the other"):
        opened(tmp_path)


@pytest.mark.parametrize("text", ["0 sky\n1 red car\n", "1: red car\n0: sky\n", "0,sky\n1,red car\n"])
def test_class_list_with_numbers_is_in_their_order(tmp_path, text):
    pairs(tmp_path, [0, 1])
    write(tmp_path / "classes.txt", text)
    assert opened(tmp_path).class_names == ["sky", "red car"]
    write(tmp_path / "classes.txt", "1 cent\n2 euros\n")
    assert opened(tmp_path).class_names == ["1 cent", "2 euros"]


def test_camvids_first_release_is_told_by_what_its_folders_hold(tmp_path):
    for i in range(10):
        picture(tmp_path / "701_StillsRaw_full" / f"0001TP_{i:06d}.png")
        mask(tmp_path / "LabeledApproved_full" / f"0001TP_{i:06d}_L.png", CAMVID.values())
    write(tmp_path / "label_colors.txt", COLOUR_FILES["label_colors.txt"])
    source = opened(tmp_path, split_seed=0)
    assert (source.length("train"), source.length("val")) == (8, 2) and held(source) == [0, 1, IGNORE]


def test_folders_may_be_named_by_hand(tmp_path):
    pairs(tmp_path, [0, 1], images="x/{}/in/{}.jpg", masks="x/{}/out/{}.png", splits=("one", "two"))
    write(tmp_path / "classes.txt", "sky\nroad\n")
    said = {"images": "x/{split}/in", "masks": "x/{split}/out", "train": "one", "val": "two"}
    assert opened(tmp_path, **said).describe() == "masks, 2 classes, one trains, two validates, 2 / 2 images"
    alone = opened(tmp_path, images="x/one/in", masks=str(tmp_path / "x" / "one" / "out"))
    assert "no val split" in alone.describe()
    with pytest.raises(ConfigError, match=r"data.masks=y: .*y is no folder. It starts from data.root"):
        opened(tmp_path, images="x", masks="y")
    with pytest.raises(ConfigError, match="data.masks=<folder> is needed too"):
        opened(tmp_path, images="x")


def test_two_pictures_for_one_mask_are_refused_by_name(tmp_path):
    pairs(tmp_path, [0, 1])
    picture(tmp_path / "images" / "train" / "train_a.png")
    write(tmp_path / "classes.txt", "sky\nroad\n")
    with pytest.raises(ConfigError, match=r"train_a\.jpg and train_a\.png: which of the two is meant\?"):
        opened(tmp_path)


def camvid(root, splits=("train", "val", "test")):
    """As SegNet's tutorial has it: 12 values, of which 11 is void, and no class list."""
    for number, split in enumerate(splits):
        for i in range(2):
            picture(root / split / f"0001TP_{number}{i:05d}.png")
            mask(root / f"{split}annot" / f"0001TP_{number}{i:05d}.png", range(12))
        write(root / f"{split}.txt", f"/SegNet/CamVid/{split}/x.png /SegNet/CamVid/{split}annot/x.png\n")


def test_camvid_is_read_as_it_comes(tmp_path):
    camvid(tmp_path)
    source = opened(tmp_path)
    assert len(source.class_names) == 11 and source.class_names[-1] == "bicyclist"
    assert held(source) == [*range(11), IGNORE]
    assert source.describe() == "masks, 11 classes, no class list: CamVid's classes, no class: 11 (void), 2 / 2 images"
    assert opened(tmp_path, val="test").length("val") == 2
    with pytest.raises(ConfigError, match="holds masks .*use task=mobile_deeplabv3"):
        opened(tmp_path, kind="classification")


def cvat(root):
    """As its export "Segmentation mask 1.1" with images has it."""
    labels = {"background": (0, 0, 0), "cat": (61, 61, 245), "dog": (42, 125, 209)}
    rows = "".join(f"{name}:{','.join(map(str, rgb))}::\n" for name, rgb in labels.items())
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + rows)
    write(root / "ImageSets" / "Segmentation" / "default.txt", "".join(f"{i}\n" for i in range(5)))
    for i in range(5):
        picture(root / "JPEGImages" / f"{i}.jpg")
        mask(root / "SegmentationClass" / f"{i}.png", labels.values())
        mask(root / "SegmentationObject" / f"{i}.png", [(0, 0, 0), (128, 0, 0)])


def test_cvats_masks_are_read_with_its_map_of_colours(tmp_path):
    cvat(tmp_path)
    source = opened(tmp_path, split_seed=0)
    assert source.class_names == ["background", "cat", "dog"] and held(source) == [0, 1, 2]
    assert "colours of labelmap.txt" in source.describe() and source.length("val") == 1


def supervisely(root, datasets=("ds1", "ds2")):
    """As its export of masks writes a project."""
    meta = [{"title": n, "shape": "bitmap", "color": c} for n, c in (("kiwi", "#FF0000"), ("lemon", "#00FF00"))]
    write(root / "meta.json", json.dumps({"classes": meta, "tags": []}))
    write(root / "obj_class_to_machine_color.json", json.dumps({"kiwi": [1, 1, 1], "lemon": [2, 2, 2]}))
    for dataset in datasets:
        for i in range(3):
            name = f"IMG_{dataset}_{i}"
            picture(root / dataset / "img" / f"{name}.jpeg")
            write(root / dataset / "ann" / f"{name}.jpeg.json", json.dumps({"objects": [], "tags": []}))
            mask(root / dataset / "masks_machine" / f"{name}.png", [(0, 0, 0), (1, 1, 1), (2, 2, 2)])
            mask(root / dataset / "masks_human" / f"{name}.png", [(0, 0, 0), (255, 0, 0), (0, 255, 0)])


def test_superviselys_masks_are_read_with_its_map_of_colours(tmp_path):
    supervisely(tmp_path)
    source = opened(tmp_path)
    assert source.class_names == ["background", "kiwi", "lemon"] and held(source) == [0, 1, 2]
    assert source.length("train") + source.length("val") == 6
    apart = opened(tmp_path, train="ds1", val="ds2")
    assert (apart.length("train"), apart.length("val")) == (3, 3)
    supervisely(tmp_path / "split", ("train", "val"))
    assert opened(tmp_path / "split").length("val") == 3


@pytest.mark.parametrize("make", [camvid, cvat, supervisely, roboflow])
def test_masks_of_tools_are_trained_on(tmp_path, make):
    make(tmp_path / "data")
    config = ["task=mobile_deeplabv3", "data=folder", f"data.root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}"]
    train(compose("train", [*config, "imgsz=33", *OWN]))
    (run,) = (tmp_path / "runs" / "mobile_deeplabv3").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["mIoU"] <= 1 and len(metrics["IoU"]) == (11 if make is camvid else 3)


OTHER_TOOLS = {
    "labelme": ("a.json", '{"version": "5.0", "shapes": [], "imagePath": "a.jpg"}', "labelme's format: convert it"),
    "Supervisely": ("ds/ann/a.jpg.json", '{"size": {}, "objects": [], "tags": []}', "Supervisely's .* with masks"),
    "CVAT": ("annotations.xml", "<?xml version='1.0'?>\n<annotations></annotations>", "CVAT's own XML: export it"),
    "Label Studio": ("project.json", '[{"id": 1, "data": {}, "annotations": []}]', "Label Studio's own JSON"),
}


@pytest.mark.parametrize("name", OTHER_TOOLS)
def test_formats_that_are_not_read_are_told_by_name_with_the_way_out(tmp_path, name):
    file, text, what = OTHER_TOOLS[name]
    picture(tmp_path / "ds" / "img" / "a.jpg")
    write(tmp_path / file, text)
    for kind in ("segmentation", "detection"):
        with pytest.raises(ConfigError, match=f"(?s)in none of the layouts.*{file} is {what}"):
            opened(tmp_path, kind=kind)


def test_data_without_a_picture_by_name_say_so(tmp_path):
    for name in ("train/a/1.gif", "train/a/2", "val/a/1.GIF"):
        write(tmp_path / name, "x")
    with pytest.raises(ConfigError, match=r"none of its 3 files is called as a picture is \(.gif, no ending\)"):
        opened(tmp_path, kind="classification")
