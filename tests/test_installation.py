"""The wheel in an environment of its own, called from another folder: all is there, and nothing of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import TINY

from mnv2_tasks import __version__
from mnv2_tasks.runs.run_folder import git_commit
from mnv2_tasks.shipped import as_called_here, checkout_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
VERBS = (
    "train", "eval", "predict", "export", "demo", "publish", "compare", "study", "data", "bench", "scorecard",
    "paper", "checks", "version",
)  # fmt: skip


class Installed(NamedTuple):
    sdist: Path
    wheel: Path
    python: Path
    package: Path

    def run(self, *command, cwd, **environment):
        """Run a program of the environment with nothing of this one's but the variables that matter to libraries."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        kept["OMP_NUM_THREADS"] = "1"  # as in conftest
        program = self.python.with_name(command[0])
        return subprocess.run(
            [program, *command[1:]], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=300
        )


def module(*command):
    subprocess.run([sys.executable, "-m", *map(str, command)], cwd=ROOT, check=True)


def empty_commit(folder):
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    author = ("-c", "user.name=x", "-c", "user.email=x@x")
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """checkout -> sdist -> wheel -> a fresh environment, which finds the dependencies where the tests have them."""
    home = tmp_path_factory.mktemp("home")
    empty_commit(home)  # installed within somebody else's repository
    offline = ("-q", "--no-index", "--no-deps")
    module("hatchling", "build", "--target", "sdist", "--directory", home)
    (sdist,) = home.glob("*.tar.gz")
    module("pip", "wheel", *offline, "--no-build-isolation", "--wheel-dir", home, sdist)
    (wheel,) = home.glob("*.whl")
    module("venv", "--without-pip", home / "venv")
    python = home / "venv" / "bin" / "python"
    module("pip", "--python", python, "install", *offline, wheel)
    (site,) = (home / "venv").glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "dependencies.pth").write_text("\n".join(dependencies))  # a .pth in one of them is not followed
    for path in [*site.rglob("*"), site]:
        path.chmod(path.stat().st_mode & ~0o222)
    return Installed(sdist, wheel, python, site / "mnv2_tasks")


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def files_in(folder):
    """Those of the checkout, as the archives name them."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in paths}


def test_sdist_holds_what_a_checkout_does(installed):
    with tarfile.open(installed.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", "weights/predict.jpg"} <= names
    for folder in ("mnv2_tasks", "conf", "weights", "tools", "tests", "docs"):
        assert files_in(folder) <= names, folder


def test_wheel_holds_the_package_with_its_configuration_and_weights_and_no_more(installed):
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    package = {name for name in files_in("mnv2_tasks") if not name.endswith(".md")}
    configs = {f"mnv2_tasks/{name}" for name in files_in("conf") if name.endswith(".yaml")}
    weights = {f"mnv2_tasks/shipped_{name}" for name in files_in("weights") if name.endswith((".safetensors", ".yaml"))}
    told = {name for name in names if name.startswith(f"mnv2_tasks-{__version__}.dist-info/")}
    assert names == package | configs | weights | told and "mnv2_tasks/py.typed" in package


def test_command_is_the_installed_one_and_lists_its_verbs(installed, tmp_path):
    code = "import mnv2_tasks.shipped as s; print(s.__file__, s.CHECKOUT, s.shipped('conf'), s.shipped('weights'))"
    file, checkout, conf, weights = installed.run("python", "-c", code, cwd=tmp_path).stdout.split()
    assert Path(file) == installed.package / "shipped.py" and checkout == "None"
    assert [Path(conf), Path(weights)] == [installed.package / "conf", installed.package / "shipped_weights"]
    assert installed.run("mnv2", "version", cwd=tmp_path).stdout.strip() == __version__
    help_of = installed.run("mnv2", "--help", cwd=tmp_path).stdout
    assert all(f"mnv2 {verb} " in help_of for verb in VERBS)
    assert installed.run("mnv2", cwd=tmp_path).stdout == help_of
    assert installed.run("python", "-m", "mnv2_tasks", "--help", cwd=tmp_path).stdout == help_of
    help_of = installed.run("mnv2", "train", "--help", cwd=tmp_path).stdout
    assert "mnv2 train resume=runs/ssdlite/<name>" in help_of and "tools/" not in help_of
    unknown = installed.run("mnv2", "trian", "task=ssdlite", cwd=tmp_path)
    assert unknown.returncode == 1 and "trian: unknown verb. Did you mean train" in unknown.stderr


def test_train_eval_export_and_predict_work_from_any_folder_on_a_package_that_stays_as_it_is(installed, tmp_path):
    before = files_of(installed.package)

    def mnv2(*arguments):
        done = installed.run("mnv2", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    told = mnv2("train", "task=classification", *TINY)
    run = "runs/classification/shapes-mobilenet_v2-1"
    assert f"see it: mnv2 predict weights={run}/weights.safetensors" in told
    described = json.loads((tmp_path / run / "run.json").read_text())
    assert described["command"].startswith("mnv2 train task=classification data.source.train_size=16")
    assert described["version"] == __version__ and described["git_commit"] is None
    mnv2("eval", f"run={run}")
    metrics = [json.loads((tmp_path / run / place).read_text()) for place in ("metrics.json", "eval/metrics.json")]
    assert metrics[0] == metrics[1]
    told = mnv2("export", f"weights={run}", "format=torch", "out=model.pt2", "count=4", "workers=0")
    assert "Use it: mnv2 predict weights=model.pt2" in told
    mnv2("predict")
    assert len(json.loads((tmp_path / "runs" / "predict" / "1" / "results.json").read_text())) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "model.pt2"}
    assert files_of(installed.package) == before


@pytest.mark.parametrize(
    "missing, verb, symptom",
    [
        ("conf", "train", "mnv2_tasks/conf is missing"),
        ("shipped_weights", "predict", "mnv2_tasks/shipped_weights is missing"),
        ("packages", "train", "No module named 'hydra'"),
    ],
)
def test_broken_installation_is_named_as_such(missing, verb, symptom, installed, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(installed.package, site / "mnv2_tasks", ignore=shutil.ignore_patterns(missing))
    options = ["-S"] if missing == "packages" else []  # no site-packages
    done = installed.run("python", *options, "-m", "mnv2_tasks", verb, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: this installation of mnv2_tasks is broken: {site if '/' in symptom else ''}" in done.stderr
    assert f"{symptom}; install it anew: pip install --force-reinstall" in done.stderr


def test_only_the_project_s_own_folder_is_its_checkout(tmp_path):
    assert checkout_of(ROOT / "mnv2_tasks") == ROOT
    assert checkout_of(tmp_path / "mnv2_tasks") is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "something-else"\n')
    assert checkout_of(tmp_path / "mnv2_tasks") is None


def test_commit_is_told_of_the_project_s_own_checkout_alone(monkeypatch, tmp_path):
    empty_commit(tmp_path)
    (tmp_path / "vendored").mkdir()
    for checkout, length in ((tmp_path, 40), (tmp_path / "vendored", 0), (None, 0)):
        monkeypatch.setattr("mnv2_tasks.runs.run_folder.CHECKOUT", checkout)
        assert len(git_commit() or "") == length


def test_messages_name_what_can_be_called(monkeypatch):
    message = "made by tools/train.py; go on with: python tools/train.py resume=x"
    assert as_called_here(message) == message
    monkeypatch.setattr("mnv2_tasks.shipped.CHECKOUT", None)
    assert as_called_here(message) == "made by mnv2 train; go on with: mnv2 train resume=x"
