"""mnv2 checks: a block that tells a stranger's machine."""

import importlib.metadata
from pathlib import Path

import pytest

from mnv2_tasks import __version__
from mnv2_tasks.checks import checks
from mnv2_tasks.errors import ConfigError


def block(capsys):
    checks.from_command_line([])
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == last == "```"
    return dict(line.split(maxsplit=1) for line in lines)


def test_versions_machine_caches_and_room_are_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path))
    (tmp_path / "x").write_bytes(bytes(3_000_000))
    told = block(capsys)
    assert told["mnv2_tasks"].startswith(__version__)
    assert f"numpy {importlib.metadata.version('numpy')}" in told["packages"] and "missing" not in told["packages"]
    assert "cores" in told["machine"] and told["cache"].endswith("3.0 MB") and told["here"].endswith("GB free")


def test_what_an_extra_lacks_is_told_with_how_to_install_it(capsys, monkeypatch):
    true = importlib.metadata.version

    def version(name):
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.0.1" if name == "webdataset" else true(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    told = block(capsys)
    assert told["[timm]"] == "timm is missing: pip install 'mnv2-tasks[timm]'"
    assert told["[streaming]"] == "webdataset 0.0.1 (needs >=1.0)"


def test_extras_are_those_of_the_package_and_none_for_developers(capsys):
    extras = {f"[{name}]" for name in importlib.metadata.metadata("mnv2-tasks").get_all("Provides-Extra")}
    told = {label for label in block(capsys) if label.startswith("[")}
    assert told == extras - {"[test]", "[dev]", "[docs]", "[browser]"}


def test_neither_secrets_nor_the_name_of_a_user_are_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("MNV2_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("MNV2_TOKEN", "hf_secret")
    checks.from_command_line([])
    told = capsys.readouterr().out
    assert "hf_secret" not in told and "~/kept" in told


def test_an_argument_is_refused():
    with pytest.raises(ConfigError, match="takes no arguments"):
        checks.from_command_line(["task=ssdlite"])


def test_a_package_that_is_not_installed_says_so(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    with pytest.raises(ConfigError, match="is not installed in .*: pip install -e"):
        checks.from_command_line([])
