"""docs/scale.md is true: its code runs as it stands on two workers of Ray, but for data and settings of a test."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY
from test_docs_commands import picture

import mnv2_tasks

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent / "docs" / "scale.md").read_text(encoding="utf-8")
SETTINGS = dict(word.split("=", 1) for word in TINY) | {"data.source.train_size": "32"}
START = """
import os, ray
PLACE = os.environ["PLACE"]
ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100_000_000, _node_ip_address="127.0.0.1")
"""
STAND_INS = {
    "self.model = mnv2_tasks.load(weights)": "self.model = mnv2_tasks.load(weights); "
    "open(f'{PLACE}/loaded-{os.getpid()}', 'x').close()",
    "batch_size=16": "batch_size=2",
    '"data": "folder", "root": "/shared/photos"': f"**{SETTINGS!r}",
    '"/shared/runs"': 'PLACE + "/runs"',
    '"/shared/runs/classification/on_ray"': 'PLACE + "/runs/classification/on_ray"',
}


def test_code_of_the_page_runs_on_two_workers_of_ray(tmp_path):
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "photos").mkdir()
    for number in range(8):
        picture(tmp_path / "photos" / f"{number}.jpg", number)
    (tmp_path / "photos" / "5.jpg").write_bytes(b"no picture")

    code = "".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S))
    for said, instead in STAND_INS.items():
        assert code.count(said) == 1, said
        code = code.replace(said, instead)
    script = tmp_path / "page.py"
    script.write_text(f"{START}{code}\nprint(model)\n", encoding="utf-8")
    names = {"PLACE": str(tmp_path), "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | names,
        timeout=900,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-3000:]

    assert len(list(tmp_path.glob("loaded-*"))) == 2
    lines = parquet.read_table(tmp_path / "found")["line"].to_pylist()
    found = {Path(entry.pop("file")).name: entry for entry in map(json.loads, lines)}
    assert "not an image" in found.pop("5.jpg")["error"] and len(found) == 7
    model = mnv2_tasks.load("multitask_shapes", device="cpu")
    for name, entry in found.items():
        alone = model(tmp_path / "photos" / name).to_dict()
        assert entry.keys() | {"file"} == alone.keys()
        assert [box["class"] for box in entry["ssdlite"]] == [box["class"] for box in alone["ssdlite"]]

    run = tmp_path / "runs" / "classification" / "on_ray"
    assert list(run.parent.iterdir()) == [run] and "LoadedModel(" in done.stdout
    assert "4 steps of 8 images" in (run / "train.log").read_text(encoding="utf-8")  # 32 images, two workers, 4 each
    assert json.loads((run / "run.json").read_bytes())["result"]["epochs"] == 1
