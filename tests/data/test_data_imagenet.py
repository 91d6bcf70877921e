import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mnv2_tasks.config.words import CONF
from mnv2_tasks.data.class_lists import imagenet_names, imagenet_wnids
from mnv2_tasks.data.imagenet import imagenet
from mnv2_tasks.errors import ConfigError

GENUINE = CONF.parent.parent / "shared" / "assets" / "imagenet_val"
TENCH, OSTRICH, TISSUE = "n01440764", "n01518878", "n15075141"  # classes 0, 9 and 999


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(noise).save(path, "jpeg")


def opened(root, splits=("train", "val")):
    source = imagenet(root=str(root), kind="classification", on_bad="refuse")
    source.prepare(splits)
    return source


def labels(source, split):
    return [source.sample(split, 0, i).label for i in range(source.length(split))]


@pytest.fixture
def flat(tmp_path):
    """Validation images 1 to 3 as published: without folders."""
    for i in (1, 2, 3):
        picture(tmp_path / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    return tmp_path


def write_devkit(folder, numbers, wnid_of):
    """In the structure of the genuine one: synsets with inner nodes behind the leaves, a ground truth id a line."""
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(number, wnid, "name, other", "what it is", 0) for number, wnid in wnid_of.items()]
    rows.append((1001, "n00001740", "entity", "everything", 2))
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "meta.mat", {"synsets": np.array(rows, fields).reshape(-1, 1)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in numbers))


@pytest.mark.parametrize("place", ["", "ILSVRC/Data/CLS-LOC"])
def test_labels_are_the_usual_ones_whichever_class_folders_are_there(tmp_path, place):
    for split in ("train", "val"):
        for wnid in (TISSUE, OSTRICH):
            picture(tmp_path / place / split / wnid / f"{split}_{wnid}.JPEG")
    source = opened(tmp_path)
    assert labels(source, "train") == labels(source, "val") == [9, 999]
    assert source.class_names == imagenet_names() and source.class_names[9] == "ostrich"
    assert source.describe() == "ImageNet-1k, 1,000 classes, train has 2 of them, val has 2 of them, 2 / 2 images"


def test_folder_that_is_no_class_is_named(tmp_path):
    picture(tmp_path / "train" / "ostrich" / "a.JPEG")
    picture(tmp_path / "train" / OSTRICH / "b.JPEG")
    with pytest.raises(ConfigError, match=r"train has 1 folder that is none .*WordNet ids: ostrich\. .*data=folder"):
        opened(tmp_path, ["train"])


def test_split_that_is_not_there_is_missed_only_when_it_is_asked_for(tmp_path):
    picture(tmp_path / "val" / OSTRICH / "a.JPEG")
    source = opened(tmp_path, ["val"])
    with pytest.raises(ConfigError, match=r"(?s)train does not exist.*found there:.*val/"):
        source.prepare(["train"])


def test_folder_without_either_split_shows_the_layout(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)does not exist.*n01440764/\*\.JPEG"):
        opened(tmp_path)


@pytest.mark.parametrize("place", ["", "devkit", "ILSVRC2012_devkit_t12/data"])
def test_flat_validation_images_get_their_labels_from_the_devkit(flat, place):
    write_devkit(flat / place, [2, 3, 1], {1: TENCH, 2: TISSUE, 3: OSTRICH})
    source = opened(flat, ["val"])
    assert labels(source, "val") == [999, 9, 0]
    assert source.describe() == "ImageNet-1k, 1,000 classes, val as published, without folders, 3 images"


def test_missing_image_does_not_shift_the_labels_of_the_devkit(flat):
    write_devkit(flat, [2, 3, 1], {1: TENCH, 2: TISSUE, 3: OSTRICH})
    (flat / "val" / "ILSVRC2012_val_00000002.JPEG").unlink()
    assert labels(opened(flat, ["val"]), "val") == [999, 0]


def test_flat_validation_images_get_their_labels_from_kaggles_solution(flat):
    rows = [(2, f"{OSTRICH} 85 1 499 272 {OSTRICH} 3 4 5 6 "), (1, f"{TISSUE} 1 2 3 4 "), (3, f"{TENCH} 1 2 3 4 ")]
    lines = [f"ILSVRC2012_val_{i:08d},{text}\n" for i, text in rows]
    (flat / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(lines))
    assert labels(opened(flat, ["val"]), "val") == [999, 9, 0]


@pytest.mark.parametrize("words", [("999", "9", "0"), (TISSUE, OSTRICH, TENCH)])
def test_flat_validation_images_get_their_labels_from_a_list(flat, words):
    lines = [f"ILSVRC2012_val_{i:08d}.JPEG {word}\n" for i, word in enumerate(words, start=1)]
    (flat / "val.txt").write_text("".join(lines))
    assert labels(opened(flat, ["val"]), "val") == [999, 9, 0]


def test_flat_validation_images_without_labels_say_where_labels_were_looked_for(flat):
    with pytest.raises(
        ConfigError, match=r"meta\.mat in .*devkit.*LOC_val_solution\.csv.*ILSVRC2012_devkit_t12\.tar\.gz"
    ):
        opened(flat, ["val"])


def test_image_that_the_ground_truth_lacks_is_named(flat):
    write_devkit(flat, [1, 1], {1: TENCH})
    with pytest.raises(ConfigError, match=r"1 image in .*val without a label: ILSVRC2012_val_00000003\.JPEG"):
        opened(flat, ["val"])


def test_image_that_a_list_gives_two_classes_is_refused_by_name(flat):
    lines = [f"ILSVRC2012_val_{i:08d}.JPEG {word}\n" for i, word in ((1, 0), (2, 1), (3, 2), (2, 1), (2, 5))]
    (flat / "val.txt").write_text("".join(lines))
    with pytest.raises(ConfigError, match=r"val\.txt: ILSVRC2012_val_00000002 is there twice, with two classes"):
        opened(flat, ["val"])


def test_empty_folder_to_validate_on_says_so(tmp_path):
    picture(tmp_path / "train" / TENCH / "a.JPEG")
    (tmp_path / "val").mkdir()
    with pytest.raises(ConfigError, match=r"val holds no class folders and no images\. Fill it"):
        opened(tmp_path, ["val"])


@pytest.mark.parametrize("word", ["1000", "n00001740", "ostrich"])
def test_class_that_imagenet_lacks_is_named_with_its_image(flat, word):
    (flat / "val.txt").write_text(f"ILSVRC2012_val_00000001.JPEG {word}\n")
    with pytest.raises(ConfigError, match=rf"val\.txt: ILSVRC2012_val_00000001\.JPEG has the class '{word}'"):
        opened(flat, ["val"])


def test_damaged_devkit_is_named(flat):
    write_devkit(flat, [1, 1, 1], {1: TENCH})
    (flat / "meta.mat").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"meta\.mat: is not the devkit's table of classes"):
        opened(flat, ["val"])


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_imagenet_serves_classification_only(tmp_path, kind):
    with pytest.raises(ConfigError, match=f"for task=classification, not for {kind}"):
        imagenet(root=str(tmp_path), kind=kind, on_bad="refuse")


@pytest.mark.skipif(not GENUINE.is_dir(), reason="real data, not on every machine")
def test_genuine_validation_images_have_the_labels_of_their_folders():
    source = opened(GENUINE, ["val"])
    records, _, _ = source.problems("val")
    assert source.length("val") == 650
    assert [imagenet_wnids()[label] for label in records.labels] == [file.split("/")[-2] for file in records.files]
