"""Install the lowest releases of the core dependencies that pyproject.toml allows, and try them.

python tests/lowest.py    (fetches gigabytes; the environment is new, and deleted afterwards)
"""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
TRIED = "tests/test_runs_of_former_versions.py"  # each task trains on, is scored, predicts and is compared


def lowest(requirement: str) -> str:
    """torch>=2.12.1 -> torch==2.12.1"""
    parsed = Requirement(requirement)
    (bound,) = (specifier.version for specifier in parsed.specifier if specifier.operator in (">=", "=="))
    return f"{parsed.name}=={bound}"


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runner = [extra for extra in project["optional-dependencies"]["test"] if extra.startswith("pytest")]
    pins = [lowest(requirement) for requirement in (*project["dependencies"], *runner)]
    print(*pins)
    with TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "Scripts" if os.name == "nt" else "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "-e", ROOT, *pins], check=True)
        sys.exit(subprocess.run([python, "-m", "pytest", "-n", "0", "-m", "slow", TRIED], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
