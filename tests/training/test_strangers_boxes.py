"""Boxes as other tools write them, down to their names of files: found, right, accepted by `check`, and trained on."""

import json
import logging
import zlib

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.folder import folder
from mnv2_tasks.data_tool.examine import examine
from mnv2_tasks.training.train import train

pytestmark = pytest.mark.slow

SIZE = 64, 48  # width, height of each picture
BOX = 8, 12, 40, 36  # xyxy of its one object, a bright rectangle
CENTRED = "0.375000 0.500000 0.500000 0.500000"  # the same as YOLO has it
RUN = [
    "task=ssdlite", "data=folder", "imgsz=64", "batch=4", "epochs=1", "workers=0", "width=0.1", "weights=none",
    "logger=none", "trainer.precision=32-true", "trainer.accelerator=cpu",
]  # fmt: skip


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode())).integers(
        0, 90, (SIZE[1], SIZE[0], 3), np.uint8
    )
    x0, y0, x1, y1 = BOX
    pixels[y0:y1, x0:x1] += 150
    Image.fromarray(pixels).save(path)


def raccoon(root):
    """LabelImg's XML, as in the raccoon data set: folders in lower case, the author's paths, a table beside."""
    for i in range(1, 13):
        picture(root / "images" / f"raccoon-{i}.jpg")
        corners = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), (9, 13, 40, 36)))
        write(
            root / "annotations" / f"raccoon-{i}.xml",
            f'<annotation verified="yes">\n\t<folder>images</folder>\n\t<filename>raccoon-{i}.jpg</filename>\n'
            f"\t<path>/Users/someone/Desktop/raccoon/images/raccoon-{i}.jpg</path>\n"
            f"\t<source><database>Unknown</database></source>\n"
            f"\t<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>\n"
            f"\t<segmented>0</segmented>\n\t<object>\n\t\t<name>raccoon</name>\n\t\t<pose>Unspecified</pose>\n"
            f"\t\t<truncated>0</truncated>\n\t\t<difficult>Unspecified</difficult>\n\t\t<bndbox>{corners}</bndbox>\n"
            f"\t</object>\n</annotation>\n",
        )
    write(root / "data" / "raccoon_labels.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n")
    return root, ["raccoon"]


def cvat_yolo(root):
    names = [f"obj_train_data/clip/frame_{i:06}.PNG" for i in range(12)]
    for name in names:
        picture(root / name)
        write((root / name).with_suffix(".txt"), f"1 {CENTRED}\n")
    write(root / "obj.names", "cat\ndog\n")
    text = "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    write(root / "obj.data", text)
    write(root / "train.txt", "".join(f"data/{name}\n" for name in names))
    return root, ["cat", "dog"]


def labelimg_yolo(root):
    for i in range(12):
        picture(root / f"IMG_{i}.JPG")
        write(root / f"IMG_{i}.txt", f"0 {CENTRED}\n")
    write(root / "classes.txt", "cat\n")
    return root, ["cat"]


def readmes(root):
    write(root / "README.dataset.txt", "# pets > 2026\nhttps://universe.roboflow.com/someone/pets\n")
    write(
        root / "README.roboflow.txt", "\npets - v1\n==============================\n\nThe dataset includes 8 images.\n"
    )


def roboflow_names(split, number):
    return [f"img_{i:04}_jpg.rf.{i:030x}{len(split):02x}.jpg" for i in range(number)]


def roboflow_coco(root):
    for split, number in (("train", 8), ("valid", 3), ("test", 2)):
        names = roboflow_names(split, number)
        for name in names:
            picture(root / split / name)
        content = {
            "info": {"year": "2026", "version": "1", "contributor": "", "url": "", "date_created": "2026-11-29"},
            "licenses": [{"id": 1, "url": "", "name": "CC BY 4.0"}],
            "categories": [
                {"id": 0, "name": "cat", "supercategory": "none"},  # the project's name, which is a class's own here
                {"id": 1, "name": "cat", "supercategory": "cat"},
                {"id": 2, "name": "dog", "supercategory": "cat"},
            ],
            "images": [
                {"id": i, "license": 1, "file_name": name, "height": SIZE[1], "width": SIZE[0], "date_captured": "",
                 "extra": {"name": "img.jpg"}} for i, name in enumerate(names)
            ],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [8, 12, 32, 24.0], "area": 768,
                 "segmentation": [], "iscrowd": 0} for i in range(number)
            ],
        }  # fmt: skip
        write(root / split / "_annotations.coco.json", json.dumps(content))
    readmes(root)
    return root, ["cat", "dog"]


def roboflow_yolo(root):
    for split, number in (("train", 8), ("valid", 3), ("test", 2)):
        for name in roboflow_names(split, number):
            picture(root / split / "images" / name)
            write(root / split / "labels" / f"{name[:-4]}.txt", f"1 {CENTRED}")
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n\n"
    about = "roboflow:\n  workspace: someone\n  project: pets\n  version: 1\n  license: CC BY 4.0\n"
    write(root / "data.yaml", f"{text}{about}  url: https://universe.roboflow.com/someone/pets/dataset/1")
    readmes(root)
    return root, ["cat", "dog"]


def label_studio_names():
    return [f"{i:08x}-IMG_{i}.jpg" for i in range(0x3F2A9B1C, 0x3F2A9B1C + 12)]


def label_studio_coco(root, place="images\\{}", pictures="images/{}"):
    names = label_studio_names()
    for name in names:
        picture(root / pictures.format(name))
    content = {
        "images": [
            {"width": SIZE[0], "height": SIZE[1], "id": i, "file_name": place.format(name)}
            for i, name in enumerate(names)
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "segmentation": [], "bbox": [8.000000000000002, 12, 32, 24],
             "ignore": 0, "iscrowd": 0, "area": 768} for i in range(12)
        ],
        "info": {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""},
    }  # fmt: skip
    write(root / "result.json", json.dumps(content, indent=2))
    return root, ["cat", "dog"]


def label_studio_coco_of_uploads(root):
    return label_studio_coco(root, place="../../label-studio/data/media/upload/1/{}")


def label_studio_coco_without_pictures(root):
    """They are the user's own, without the hash that an upload gets."""
    found = label_studio_coco(root, place="images/{}")
    for file in list((root / "images").iterdir()):
        (root / "photos").mkdir(exist_ok=True)
        file.rename(root / "photos" / file.name[9:])
    return found


def label_studio_yolo(root):
    for name in label_studio_names():
        picture(root / "images" / name)
        write(root / "labels" / f"{name[:-4]}.txt", "1 0.37499999999999994 0.5 0.5 0.49999999999999994\n")
    write(root / "classes.txt", "cat\ndog\n")
    notes = {
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "info": {"contributor": "Label Studio"},
    }
    write(root / "notes.json", json.dumps(notes, indent=2))
    return root, ["cat", "dog"]


def label_studio_yolo_without_pictures(root):
    found = label_studio_yolo(root)
    for file in (root / "images").iterdir():
        file.rename(root / "images" / file.name[9:])
    return found


TOOLS = [raccoon, cvat_yolo, labelimg_yolo, roboflow_coco, roboflow_yolo, label_studio_coco, label_studio_yolo]
VARIANTS = [
    label_studio_coco_of_uploads,
    label_studio_coco_without_pictures,
    label_studio_yolo_without_pictures,
]


def checked(root, names):
    """The data, healthy and with the right boxes."""
    source = folder(root=str(root), kind="detection", on_bad="refuse", train=None, val=None)
    assert examine(source, ["train", "val"], 64).healthy
    assert source.class_names == names and source.length("train") + source.length("val") in (11, 12)
    for split in ("train", "val"):
        for i in range(source.length(split)):
            np.testing.assert_allclose(source.sample(split, 0, i).boxes, [BOX], atol=1e-3)
    return source


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_boxes_of_a_tool_are_right_checked_and_trained_on_for_an_epoch(tool, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root, names = tool(tmp_path / "set")
    source = checked(root, names)
    run = train(compose("train", [*RUN, f"data.root={root}", f"runs={tmp_path / 'runs'}"]))
    assert 0 <= json.loads((run / "metrics.json").read_text())["AP"] <= 1
    assert source.found.partition(", no val split")[0] in caplog.text


@pytest.mark.parametrize("tool", VARIANTS, ids=lambda tool: tool.__name__)
def test_pictures_that_a_tool_names_by_its_own_uploads_are_found_and_told(tool, tmp_path):
    assert "12 pictures found by name" in checked(*tool(tmp_path / "set")).describe()
