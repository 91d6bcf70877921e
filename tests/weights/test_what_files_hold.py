"""A file is what it holds, whatever it is called; what is not read is told by name, with a remedy."""

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from frozen_graphs import GraphWriter
from safetensors.torch import save_file

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.runtimes.contents import kind_of
from mnv2_tasks.runtimes.exported import Exported, is_exported
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.weight_files import load_weights, read_passport

SHIPPED = find_weights("multitask_shapes")
FORMER = Path(__file__).parents[1] / "former" / "0.1" / "multitask.onnx"


@pytest.mark.parametrize("name", ["weights.pth", "weights.weights", "weights", "weights.txt", "weights.onnx", "a.npz"])
def test_safetensors_of_any_name_are_read_with_their_passport(name, tmp_path):
    path = Path(shutil.copy(SHIPPED, tmp_path / name))
    assert load_weights(path).passport == read_passport(path) == load_weights(SHIPPED).passport
    assert not is_exported(path)


@pytest.mark.parametrize("name", ["a.safetensors", "model_best.pth.tar", "model.weights", "model.bin", "model.tflite"])
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_torch_of_any_name_are_read(name, zipped, tmp_path):
    weights = load_weights(SHIPPED)
    content = {"state_dict": {f"network.{key}": of for key, of in weights.state.items()}, "passport": weights.passport}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    found = load_weights(tmp_path / name)
    assert found.state.keys() == weights.state.keys() and found.passport == weights.passport


def test_a_network_of_onnx_is_one_under_any_name(tmp_path):
    pytest.importorskip("onnxruntime")
    path = Path(shutil.copy(FORMER, tmp_path / "network.pth"))
    assert is_exported(path) and Exported(path).format == "onnx"
    with pytest.raises(ConfigError, match="network.pth: is a network for ONNX Runtime.*the weights it was made from"):
        load_weights(path)


def test_a_program_that_runs_code_is_refused_under_any_name(tmp_path):
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    torch.export.save(program, tmp_path / "network.pt2")
    path = (tmp_path / "network.pt2").rename(tmp_path / "network.onnx")
    assert kind_of(path) == "torch program"
    with pytest.raises(ConfigError, match="network.onnx: .*can run any code"):
        Exported(path)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty: its download did not finish"),
        (b"<!DOCTYPE html><html>Not found</html>", "is a web page, which was downloaded in place of the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a note of Git LFS.*git lfs pull"),
        (b"\x89HDF\r\n\x1a\n rest", "is an HDF5 file, as Keras writes"),
        (b"\x1f\x8b\x08 rest", "is packed: unpack it"),
        (b"\0" * 257 + b"ustar\0", "is an archive: unpack it"),
        (b"\x08\x01\x12\x02\x0a\x00", "a SavedModel, whose weights lie in variables/"),
        (b"\x08\x09\x12\x07pytorch", "is a network for ONNX Runtime"),
        (b"....ET12....", "is a network for ExecuTorch"),
        (b"<?xml version='1.0'?>\n<net name='a'>", "is a network for OpenVINO"),
        (b"....TFL3....", "a broken .tflite file|reading it needs ai-edge-litert"),
    ],
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.pb"])
def test_what_is_no_weights_is_told_by_name(content, message, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}: ({message})"):
        load_weights(path)


@pytest.mark.parametrize(
    "names, message",
    [
        (["readme.txt", "weights.pth"], "is an archive without weights of torch or NumPy: unpack it"),
        (["config.json", "model.weights.h5"], "is a model of Keras"),
        (["m/data.pkl", "m/constants.pkl", "m/code/a.py"], "is a TorchScript program, which is code"),
    ],
)
def test_archives_are_told_by_what_is_in_them(names, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as file:
        for name in names:
            file.writestr(name, "content")
    with pytest.raises(ConfigError, match=f"weights.pth: {message}"):
        load_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["graph.pth", "graph.safetensors", "graph"])
def test_a_frozen_graph_and_an_npz_are_known_by_what_they_hold(name, tmp_path):
    writer = GraphWriter()
    writer.operation("conv1", "Conv2D")
    with pytest.raises(ConfigError, match=f"{name}: a graph of 1 operations"):
        load_weights(writer.write(tmp_path / name))
    with open(tmp_path / name, "wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(ConfigError, match=f"{name}: expected the arrays 000_w"):
        load_weights(tmp_path / name)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors", "evil.pb", "evil.npz", "evil.weights"])
def test_a_pickle_that_would_run_code_runs_none_under_any_name(name, tmp_path):
    torch.save({"a": Evil(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(ConfigError, match=name):
        load_weights(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(ConfigError, match=name):
        load_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("length", range(1, 20))
def test_the_first_bytes_alone_of_any_kind_are_an_error_with_the_files_name(length, tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    starts = [path.read_bytes() for path in tmp_path.iterdir()]
    for content in [*starts, FORMER.read_bytes(), b"\x0a\x05\x0a\x03abc", b"\x08"]:
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ConfigError, match="cut"):
            load_weights(tmp_path / "cut")
