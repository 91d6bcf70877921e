"""Weights at an address, and in archives: fetched once, whole, and the same from then on."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest
import torch
import torchvision
from frozen_graphs import GraphWriter
from loopback import serving

from mnv2_tasks.config.compose import compose
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.evaluation.evaluate import _weights_named
from mnv2_tasks.weights import fetched as module
from mnv2_tasks.weights.fetched import Published, fetched
from mnv2_tasks.weights.find import find_weights, manifest, published_file
from mnv2_tasks.weights.weight_files import load_weights


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Of a file of torchvision's, of random weights."""
    path = tmp_path_factory.mktemp("net") / "net.pth"
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def server(monkeypatch):
    with serving({}, monkeypatch) as server:
        yield server


def digest(content):
    return hashlib.sha256(content).hexdigest()


def left(tmp_path):
    """What lies in the cache, but for locks."""
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def refused(address, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        find_weights(address)
    assert "\n" not in str(error.value) and str(error.value).endswith("or name a file of your own, weights=<path>")
    assert not left(tmp_path)


# ---------------------------------------------------------------- an address


def test_weights_at_an_address_are_fetched_once_and_what_they_are_is_said(server, content, capsys):
    server.files["net.pth"] = content
    path = find_weights(server.url("net.pth"))
    assert path.name == "net.pth" and load_weights(path).family == "torchvision mobilenet_v2"
    said = capsys.readouterr().err
    assert f"net.pth: no sha256 is known of it; the one it has, {digest(content)}, is kept and checked" in said
    assert find_weights(server.url("net.pth")) == path and len(server.asked) == 1
    assert not capsys.readouterr().err


def test_digits_behind_an_address_are_what_the_file_must_have(server, content, capsys, tmp_path):
    server.files["net.pth"] = content
    address = server.url("net.pth")
    refused(f"{address}#sha256=00000000", "what arrived has sha256 .*, published is 00000000; it was removed", tmp_path)
    path = find_weights(f"{address}#sha256={digest(content)[:12].upper()}")
    assert "checksum verified" in capsys.readouterr().err
    assert find_weights(f"{address}#sha256={digest(content)}") == path
    with pytest.raises(ConfigError, match="is damaged, it has sha256"):
        find_weights(f"{address}#sha256=00000000")


@pytest.mark.parametrize("fragment", ["sha256=123", "sha256=nothexadecimal", "md5=0123456789", "member.pb"])
def test_what_else_stands_behind_an_address_is_an_error(server, fragment, tmp_path):
    refused(f"{server.url('net.pth')}#{fragment}", "behind # stand sha256= and at least 8 hexadecimal digits", tmp_path)


def test_files_of_one_name_at_two_addresses_are_two(server, content):
    server.files["model.pth?download=true"] = content
    paths = {find_weights(server.url(f"{folder}/model.pth?download=true")) for folder in "ab"}
    assert [path.name for path in paths] == ["model.pth"] * 2


def test_an_address_is_read_by_every_command(server, content):
    server.files["net.pth"] = content
    address = f"{server.url('net.pth')}#sha256={digest(content)}"
    config = compose("eval", [f"weights={address}"])
    assert config.choices.data == "imagenet" and config.imgsz == 224
    assert _weights_named(config).read_bytes() == content


def test_an_address_that_does_not_answer_says_so_in_one_line(server, tmp_path):
    refused("http://127.0.0.1:9/net.pth", r"^http://127.0.0.1:9/net.pth -> .*: no connection", tmp_path)
    refused(server.url("none.pth"), "the server answers 404", tmp_path)


@pytest.mark.parametrize(
    "found, message",
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page, which was downloaded in place of the file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a picture: take the link"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "is a picture: take the link"),
        (b'{"error": "not found"}', r'is a text, such as a server\'s answer: {"error": "not found"}. Take the link'),
        (b"\0" * 257 + b"ustar" + bytes(300), "is an archive: unpack it"),
        (b"\x1f\x8b\x08" + bytes(20), "is packed: unpack it"),
    ],
)
def test_what_arrives_in_the_place_of_weights_is_told_and_not_kept(server, found, message, tmp_path):
    server.files["net.pth"] = found
    refused(server.url("net.pth"), message, tmp_path)


def test_what_is_too_large_is_not_fetched(server, content, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1_000_000)
    server.files["net.pth"] = content
    refused(server.url("net.pth"), "net.pth.* is larger than 1.0 MB, the most that is fetched here", tmp_path)


# ---------------------------------------------------------------- the same from then on


def test_a_file_that_changed_in_the_cache_is_refused(server, content):
    server.files["net.pth"] = content
    path = find_weights(server.url("net.pth"))
    path.write_bytes(content + b"more")
    with pytest.raises(
        ConfigError, match=rf"not the file that was fetched: its sha256 is \w+, and was {digest(content)}"
    ):
        find_weights(server.url("net.pth"))
    path.unlink()
    assert find_weights(server.url("net.pth")).read_bytes() == content


def test_another_file_at_the_address_is_refused_until_the_first_is_forgotten(server, content):
    server.files["net.pth"] = content
    path = find_weights(server.url("net.pth"))
    path.unlink()
    server.files["net.pth"] = content + b"more"
    with pytest.raises(ConfigError, match="another file than before.* to take it, delete .*net.pth.sha256"):
        find_weights(server.url("net.pth"))
    assert not path.exists()
    path.with_name("net.pth.sha256").unlink()
    assert find_weights(server.url("net.pth")).read_bytes() == content + b"more"


def test_what_the_message_says_to_fetch_by_hand_is_taken(content, tmp_path):
    with pytest.raises(ConfigError) as error:
        find_weights("http://127.0.0.1:9/net.pth")
    place = Path(re.search(r"curl -L -C - -o (\S+) http", str(error.value))[1])
    place.write_bytes(content)  # as curl does, which makes no folder
    assert find_weights("http://127.0.0.1:9/net.pth").read_bytes() == content
    assert not place.exists()


def test_a_file_laid_into_the_cache_by_hand_is_taken_and_watched(content, tmp_path):
    path = Published("http://127.0.0.1:9/net.pth").place
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert fetched(Published("http://127.0.0.1:9/net.pth"), path) == path
    path.write_bytes(b"other")
    with pytest.raises(ConfigError, match="not the file that was fetched"):
        fetched(Published("http://127.0.0.1:9/net.pth"), path)


# ---------------------------------------------------------------- archives


def tar_of(files):
    """{name: content, or what else a member is}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, found in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(found, bytes):
                info.size = len(found)
            else:
                info.type, info.linkname = found.encode(), "/etc/passwd"
            tar.addfile(info, io.BytesIO(found) if isinstance(found, bytes) else None)
    return buffer.getvalue()


GRAPH = b"\x0a\x05\x0a\x03abc"


def of_archive(server, content):
    server.files["pack.tar.gz"] = content
    source = Published(server.url("pack.tar.gz"), member="graph.pb")
    return fetched(source, source.place)


def test_of_an_archive_one_member_is_kept(server, tmp_path):
    path = of_archive(server, tar_of({"./model/graph.pb": GRAPH, "model/._graph.pb": b"junk", "../../evil": b"evil"}))
    assert path.read_bytes() == GRAPH and path.parent.name == "pack"
    assert sorted(left(tmp_path)) == ["graph.pb", "graph.pb.sha256"]
    path.unlink()
    with pytest.raises(ConfigError, match="another file than before"):
        of_archive(server, tar_of({"graph.pb": GRAPH + b"more"}))


@pytest.mark.parametrize(
    "files, message",
    [
        ({"model/other.pb": GRAPH}, "holds no files called graph.pb, expected one"),
        ({"a/graph.pb": GRAPH, "b/graph.pb": GRAPH}, "holds 2 files called graph.pb"),
        ({"graph.pb": tarfile.SYMTYPE.decode()}, "graph.pb is a symbolic link, expected a plain file"),
        ({"graph.pb": tarfile.LNKTYPE.decode()}, "graph.pb is a hard link"),
        ({"../graph.pb": GRAPH}, "is unsafe"),
        ({"graph.pb": b"<!DOCTYPE html>"}, "what arrived is a web page"),
        ({"graph.pb": bytes(2000)}, "graph.pb has 2.0 kB, more than 1.5 kB"),
    ],
)
def test_an_archive_without_the_member_leaves_nothing(server, files, message, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1500)
    with pytest.raises(ConfigError, match=message):
        of_archive(server, tar_of(files))
    assert not left(tmp_path)


def test_an_archive_that_is_cut_short_leaves_nothing(server, tmp_path):
    with pytest.raises(ConfigError, match=r"is damaged or cut short .*\. Fetch it again"):
        of_archive(server, tar_of({"graph.pb": GRAPH})[:-30])
    assert not left(tmp_path)


# ---------------------------------------------------------------- the manifest's


PUBLISHED = {name: entry for name, entry in manifest().items() if "url" in entry}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_say_what_is_known_of_them(name):
    entry = PUBLISHED[name]
    assert {"url", "licence", "source", "backbone", "classes", "preprocessing", "metrics"} <= entry.keys()
    assert not re.search("[<>]", " ".join(map(str, entry.values())))
    source = published_file(entry)
    assert re.fullmatch("https?://[a-z.]+/.*", source.url) and source.place.suffix in (".pth", ".pb")
    if source.checksum:
        algorithm, digits = source.checksum.split(":")
        assert re.fullmatch("[0-9a-f]+", digits) and len(digits) in (8, 10, {"sha256": 64, "sha384": 96}[algorithm])


def test_no_two_published_files_share_a_place():
    places = [published_file(entry).place for entry in PUBLISHED.values()]
    assert len(set(places)) == len(places)
    assert len([name for name in PUBLISHED if name.startswith("imagenet_tf_")]) == 22


def test_torchvision_says_the_same_of_its_files():
    of_url = {
        weights.url: weights.meta["_metrics"]["ImageNet-1K"]
        for model in torchvision.models.list_models(torchvision.models)
        for weights in torchvision.models.get_model_weights(model)
    }
    entries = [entry for entry in PUBLISHED.values() if entry["source"].startswith("torchvision")]
    assert len(entries) == 15
    for entry in entries:
        assert of_url[entry["url"]] == {"acc@1": entry["top1"], "acc@5": entry["top5"]}


def test_timm_says_the_same_addresses():
    timm = pytest.importorskip("timm")
    for entry in PUBLISHED.values():
        if entry["source"].startswith("timm"):
            model = re.match(r"timm, ([\w.]+);", entry["source"])[1]
            assert timm.models.get_pretrained_cfg(model).url == entry["url"]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """{name: bytes} of frozen graphs of random weights, in Google's names."""
    import torch._dynamo  # noqa: F401  before TensorFlow, see weights/importers/tensorflow.py

    tf = pytest.importorskip("tensorflow")
    from tf_networks import TFNetwork

    images = torch.zeros(1, 64, 64, 3).numpy()
    made = {
        "imagenet_tf_0.35_96": lambda network: network.classifier(images),
        "coco_ssdlite": lambda network: network.ssdlite(images),
        "voc_mobile_deeplabv3": lambda network: network.deeplab(images),
        "cityscapes_mobile_deeplabv3": lambda network: network.deeplab(images, classes=19),
    }
    found = {}
    for name, run in made.items():
        network = TFNetwork(tf, 0.35)
        run(network)
        found[name] = GraphWriter(network.variables).write(tmp_path_factory.mktemp("pb") / "x.pb").read_bytes()
    return found


LAYOUTS = {  # as these archives are laid out; what is not read is empty here
    "imagenet_tf_0.35_96": [
        "./mobilenet_v2_0.35_96.ckpt.data-00000-of-00001", "./mobilenet_v2_0.35_96.ckpt.index",
        "./mobilenet_v2_0.35_96.ckpt.meta", "./mobilenet_v2_0.35_96_eval.pbtxt", "./mobilenet_v2_0.35_96_frozen.pb",
        "./mobilenet_v2_0.35_96_info.txt", "./mobilenet_v2_0.35_96.tflite",
    ],
    "coco_ssdlite": [
        f"ssdlite_mobilenet_v2_coco_2018_05_09/{name}"
        for name in ("checkpoint", "model.ckpt.data-00000-of-00001", "model.ckpt.index", "model.ckpt.meta",
                     "frozen_inference_graph.pb", "pipeline.config", "saved_model/saved_model.pb")
    ],
    "voc_mobile_deeplabv3": [
        f"deeplabv3_mnv2_pascal_train_aug/{name}"
        for name in ("model.ckpt-30000.data-00000-of-00001", "model.ckpt-30000.index", "frozen_inference_graph.pb")
    ],
    "cityscapes_mobile_deeplabv3": [
        f"deeplabv3_mnv2_cityscapes_train/{name}"
        for name in ("model.ckpt.data-00000-of-00001", "model.ckpt.index", "frozen_inference_graph.pb")
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, task, classes, settings",
    [
        ("imagenet_tf_0.35_96", "classification", (1000, "tench"), {"imgsz": 96, "fit": "tf1_centre_crop"}),
        ("coco_ssdlite", "ssdlite", (80, "person"), {"imgsz": 300, "fit": None}),
        ("voc_mobile_deeplabv3", "mobile_deeplabv3", (21, "background"), {"imgsz": 513, "fit": "pad"}),
        ("cityscapes_mobile_deeplabv3", "mobile_deeplabv3", (19, "road"), {"imgsz": 513, "fit": "pad"}),
    ],
)
def test_names_bring_a_network_with_its_classes_and_input(
    name, task, classes, settings, graphs, server, monkeypatch, capsys
):
    entry = {key: value for key, value in PUBLISHED[name].items() if key not in ("sha256", "sha384", "bytes")}
    archive = entry["url"].rsplit("/", 1)[1]
    monkeypatch.setattr("mnv2_tasks.weights.find.manifest", lambda: {name: entry | {"url": server.url(archive)}})
    files = {path: graphs[name] if path.endswith(entry["member"]) else b"" for path in LAYOUTS[name]}
    server.files[archive] = tar_of(files)
    imported = load_weights(find_weights(name))
    names = imported.class_names[task]
    assert (len(names), names[0]) == classes
    config = compose("train", imported.overrides)
    assert config.imgsz == settings["imgsz"] and config.width == 0.35
    assert settings["fit"] in (None, config.input.fit)
    assert find_weights(name).name == entry["member"] and len(server.asked) == 1
