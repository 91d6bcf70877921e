"""Label maps beside a detector's weights say its classes; a bad one is one line that says what is wrong, and where."""

import re

import numpy as np
import pytest
from frozen_graphs import GraphWriter
from imported_networks import outputs
from tf_networks import TFNetwork

from mnv2_tasks.data.class_lists import coco_categories
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.label_map import label_map_beside, read_label_map
from mnv2_tasks.weights.weight_files import load_weights


def items(names):
    return "\n".join(
        f"item {{\n  name: '/m/0{id_}'\n  id: {id_}\n  display_name: \"{name}\"\n}}" for id_, name in names.items()
    )


CATS = {1: "cat", 3: "dog"}
COCO = list(coco_categories().values())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(7).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=[4, 91])
def detector(request, tf, images):
    """(columns, graph, logits) of TensorFlow's."""
    network = TFNetwork(tf, 0.35)
    _, logits = network.ssdlite(images, columns=request.param)
    return request.param, GraphWriter(network.variables), logits.numpy()


@pytest.mark.parametrize(
    "text, names, columns",
    [
        (None, {4: ["class 0", "class 1", "class 2"], 91: COCO}, {4: [1, 2, 3], 91: list(coco_categories())}),
        (items(CATS), {4: ["cat", "dog"], 91: ["cat", "dog"]}, {4: [1, 3], 91: [1, 3]}),
        (items(dict(reversed(coco_categories().items()))), {91: COCO}, {91: list(coco_categories())}),
    ],
    ids=["none", "of its own", "of COCO"],
)
def test_the_classes_are_those_of_the_label_map_beside(detector, images, text, names, columns, tmp_path):
    number, graph, logits = detector
    path = graph.write(tmp_path / "frozen_inference_graph.pb")
    if text:
        (tmp_path / "labels.pbtxt").write_text(text)
    if number not in names:
        with pytest.raises(ConfigError, match=r"labels.pbtxt: gives the id 4 to bicycle|the id 4 to .*has 3 classes"):
            load_weights(path)
        return
    imported = load_weights(path)
    assert imported.class_names == {"ssdlite": names[number]}
    assert ("data=coco" in imported.overrides) == (names[number] == COCO)
    np.testing.assert_allclose(
        outputs(imported, images).class_logits, logits[..., [*columns[number], 0]], atol=1e-9, rtol=0
    )
    whose = "the label map" if text else "COCO"
    dropped = [why for name, why in imported.left_out.items() if name.endswith("[unused ids]")]
    some = number - 1 > len(names[number])
    assert dropped == [f"ids below {number} that {whose} gave to no class"] * 12 * some


# ---------------------------------------------------------------- where it lies


@pytest.mark.parametrize(
    "files, found",
    [
        ({"frozen.pbtxt": items(CATS), "other.pbtxt": items({1: "x"})}, "frozen.pbtxt"),
        ({"frozen.pbtxt": "node {\n  name: 'Placeholder'\n}", "pets.pbtxt": "# pets\n\n" + items(CATS)}, "pets.pbtxt"),
        ({"second.pbtxt": items(CATS), "second.pb": ""}, None),
        ({"graph.pbtxt": "node { name: 'item' }", "notes.txt": items(CATS)}, None),
        ({}, None),
    ],
    ids=["its own name", "the only one", "another graph's", "no label map", "nothing"],
)
def test_a_label_map_is_known_by_its_content_and_by_the_name_of_the_graph(files, found, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    label_map = label_map_beside(tmp_path / "frozen.pb")
    assert (label_map and label_map.path.name) == found
    assert label_map is None or label_map.names == CATS


def test_of_several_label_maps_one_has_to_bear_the_name_of_the_graph(tmp_path):
    for name in ("a.pbtxt", "b.pbtxt"):
        (tmp_path / name).write_text(items(CATS))
    with pytest.raises(ConfigError, match=r"several label maps .*a.pbtxt, b.pbtxt: call its own one frozen.pbtxt"):
        label_map_beside(tmp_path / "frozen.pb")


# ---------------------------------------------------------------- what it says


def test_names_escapes_comments_and_what_is_not_needed_are_read(tmp_path):
    path = tmp_path / "labels.pbtxt"
    path.write_bytes(
        b'\xef\xbb\xbf# comment\nitem: { id: 2, name: "caf\\303\\251" keypoints { id: 1 label: "nose" } }\n'
        b"item <\n  id: 1; name: 'n01' display_name: 'dog'\n> item { id: 0 name: 'background' }"
    )
    assert read_label_map(path).names == {1: "dog", 2: "café"}


@pytest.mark.parametrize(
    "text, message",
    [
        (items(CATS)[:-1], "line 9: is no label map: Expected"),
        ("item {\n  id: one\n}", "line 2: is no label map"),
        ("item {\n  id: 99999999999\n}", "line 2: is no label map"),
        ("item {\n  id: 1\n  id: 2\n  name: 'a'\n}", "line 3: is no label map"),
        (items(CATS) + "\nitem {\n  name: 'x'\n}", "line 11: item 3 has no id"),
        (items(CATS) + "\nitem {\n  id: 3\n  name: 'x'\n}", "line 11: item 3 has the id 3, which dog has too"),
        (items(CATS) + "\nitem {\n  id: 4\n}", "line 11: item 3 has no name"),
        ("item {\n  id: 4\n  name: 'a\\033[2J'\n}", "line 1: item 1 has no name that can be shown"),
        ("item { id: 0 name: 'background' }", "names no class but the background"),
        ("item {" + " a {" * 100_000, "is no label map"),
        (b"item {\n name: '\xff'", "line 2: is not UTF-8"),
    ],
)
def test_a_bad_label_map_is_one_line_with_the_file_and_the_line(text, message, tmp_path):
    path = tmp_path / "labels.pbtxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        label_map_beside(tmp_path / "frozen.pb")
    assert str(error.value).startswith(str(path)) and re.search(message, str(error.value))
    assert "\n" not in str(error.value)
