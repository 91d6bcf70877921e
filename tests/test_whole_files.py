"""Files and folders take their name whole, whatever ends the process that writes them; and nothing else writes."""

import ast
import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.whole_files import (
    OURS,
    explained,
    made_together,
    made_whole,
    part_of,
    remove_parts,
    write_text,
    written_whole,
)

PACKAGE = Path(__file__).parent.parent / "mnv2_tasks"
WRITE = {
    "write_text", "write_bytes", "savefig", "save", "savez", "savez_compressed", "save_file", "imwrite", "tofile",
    "to_csv", "save_model", "ZipFile", "FileHandler", "dump",
}  # fmt: skip
ELSEWHERE = {  # where it may be otherwise, and why
    "whole_files.py": "the one place",
    "runtimes/": "into the folder of made_together, which export gives",
    "export/write.py": "onnx.save is that of runtimes",
    "export/quantise.py": "a folder for the time being",
    "export/web.py": "into the folder of made_whole",
    "export/mediapipe_process.py": "a pipe, and memory",
    "bench/": "folders for the time being",
    "data/download/fetch.py": "a .part that the next call goes on with",
    "data/download/unpack.py": "a folder that is merged when it is complete",
    "data/reduced.py": "into memory",
    "data_tool/repaired_copy.py": "into the folder of made_whole",
    "network/process_memory.py": "a word to Linux",
    "prediction/video_files.py": "lines of a video, which grow",
    "runs/run_folder.py": "the log, which grows; the probe of a disk",
    "studies/study/this_machine.py": "the log of a run, which grows",
    "studies/compare/plots.py": "into memory",
}
# processes that end in the middle: argument 1 is the path
KILLED = """
import os, signal, sys
from pathlib import Path
from mnv2_tasks.whole_files import made_together, made_whole, written_whole
path = Path(sys.argv[1])
"""


def calls(tree):
    """Calls outside of `with written_whole(...)`, and the ones within it that only write into its file."""

    def walk(node, whole):
        if isinstance(node, ast.With):
            names = [getattr(item.context_expr, "func", None) for item in node.items]
            whole = whole or any(isinstance(n, ast.Name) and n.id == "written_whole" for n in names)
        if isinstance(node, ast.Call) and not whole:
            yield node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, whole)

    return walk(tree, False)


def writes(call):
    func = call.func
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    if name in ("open", "fdopen"):
        modes = [a.value for a in [*call.args, *(k.value for k in call.keywords)] if isinstance(a, ast.Constant)]
        return any(isinstance(mode, str) and set(mode) <= set("wxatb+") and set(mode) & set("wxa+") for mode in modes)
    if name == "ZipFile":
        return len(call.args) > 1
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "shutil":
        return name.startswith("copy") and name != "copyfileobj"
    return isinstance(func, ast.Attribute) and name in WRITE


def test_every_file_is_written_by_the_one_function():
    found = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for path in PACKAGE.rglob("*.py")
        if not path.relative_to(PACKAGE).as_posix().startswith(tuple(ELSEWHERE))
        for call in calls(ast.parse(path.read_text()))
        if writes(call)
    ]
    assert not found, "use mnv2_tasks.whole_files, or give a reason here"


def killed(code, path):
    done = subprocess.run([sys.executable, "-c", KILLED + code, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def test_a_killed_file_leaves_the_one_before_and_a_part_that_goes(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    killed(f"with written_whole(path) as file:\n    file.write(b'half')\n    file.flush()\n    {KILL}", path)
    (part,) = tmp_path.glob("file.*.part")
    assert path.read_text() == "before" and part.read_text() == "half"
    remove_parts(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_parts_of_processes_that_live_and_of_other_machines_stay_unless_the_folder_is_locked(tmp_path):
    mine, others = part_of(tmp_path / "file"), tmp_path / "file.elsewhere-1.part"
    download, inner = tmp_path / "set.zip.part", tmp_path / "checkpoints" / "last.ckpt.elsewhere-1.part"
    inner.parent.mkdir()
    for part in (mine, others, download, inner):
        part.touch()
    remove_parts(tmp_path)
    assert all(part.exists() for part in (mine, others, download, inner))
    remove_parts(tmp_path, locked=True)
    assert list(tmp_path.rglob("*.part")) == [download]  # which the next call goes on with


def test_a_killed_folder_is_not_there_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "folder"
    killed(f"with made_whole(path) as folder:\n    (folder / 'one').touch()\n    {KILL}", path)
    assert not path.exists()
    with made_whole(path) as folder:
        (folder / "two").touch()
    assert list(tmp_path.iterdir()) == [path] and [file.name for file in path.iterdir()] == ["two"]


def test_no_folder_is_deleted_or_replaced_that_is_not_ours(tmp_path):
    path = tmp_path / "folder"
    users = [tmp_path / "folder.part", part_of(path).with_name("folder.elsewhere-1.part"), part_of(path)]
    for folder in users:
        folder.mkdir()
        (folder / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="cannot be written"), made_whole(path):
        pass
    remove_parts(tmp_path, locked=True)
    users[2].rename(tmp_path / "other")
    with pytest.raises(ConfigError, match="was made by another meanwhile"), made_whole(path):
        path.mkdir()
    assert len(list(tmp_path.rglob("photo.jpg"))) == 3


@pytest.mark.parametrize("moved", [0, 1])
def test_a_pair_is_there_together_or_not_at_all(moved, tmp_path):
    """Killed before a file has moved to its name, and when one has: the next call clears up."""
    path = tmp_path / "model.xml"
    write_text(tmp_path / "model.txt", "the user's")
    killed(
        f"""
replace, moved = Path.replace, []
def counted(self, target):
    if target.name in ("model.bin", "model.xml"):
        if len(moved) == {moved}: {KILL}
        moved.append(target)
    return replace(self, target)
Path.replace = counted
with made_together(path) as part:
    part.write_text("graph"); part.with_suffix(".bin").write_text("weights")
""",
        path,
    )
    assert not path.exists()
    assert path.with_suffix(".bin").exists() == bool(moved)
    remove_parts(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.txt"]
    with made_together(path) as part:
        part.write_text("graph")
        part.with_suffix(".bin").write_text("weights")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.txt", "model.xml"]


def test_a_part_of_a_stranger_removes_no_files_elsewhere(tmp_path):
    folder, user = tmp_path / "here", tmp_path / "model.bin"
    place = folder / "model.xml.elsewhere-1.part"
    place.mkdir(parents=True)
    (place / "model.xml").touch()
    (folder / "photo.jpg").touch()
    user.touch()
    (place / OURS).write_text("../model.bin\nphoto.jpg\nmodel.xml")
    remove_parts(folder, locked=True)
    assert user.exists() and [file.name for file in folder.iterdir()] == ["photo.jpg"]


def test_new_files_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("ö" * 125 + ".json")
    write_text(path, "{}")
    assert path.read_text() == "{}" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "save", [lambda file: file.write(bytes(1 << 20)), lambda file: torch.save(torch.ones(10**6), file)]
)
def test_a_full_disk_is_told_with_file_need_and_remedy_and_leaves_what_was_there(save, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "last.ckpt"
    path.write_text("before")
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            ConfigError, match=r"last.ckpt: cannot be written.*needs more than .* MB are free.*Make room"
        ):
            with written_whole(path) as file:
                save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "number, remedy", [(errno.EROFS, "Allow writing into"), (errno.ENOENT, "Look at"), (errno.ENOSPC, "Make room")]
)
def test_what_cannot_be_written_says_how_to_mend_it(number, remedy, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("mnv2_tasks.whole_files._Part", refuse)
    with pytest.raises(ConfigError, match=f"file: cannot be written .*{os.strerror(number)}.*{remedy}.*as it was"):
        write_text(tmp_path / "file", "")


@pytest.mark.parametrize(
    "error, message",
    [
        (
            OSError(errno.EROFS, "Read-only file system", "/ro/new"),
            r"/ro/new: cannot be written .*Allow writing into /ro",
        ),
        (OSError(errno.EACCES, "Permission denied", "/no"), "/no: Permission denied. Change what is allowed there"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device. Make room on the disk"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "No such file"),
    ],
)
def test_errors_of_the_disk_say_what_to_do(error, message):
    with pytest.raises((ConfigError, OSError), match=message):
        raise explained(error)
