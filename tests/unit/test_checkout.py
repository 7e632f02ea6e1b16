"""What git keeps of a checkout, and what `make clean` does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A fresh repository with what decides on this."""
    for name in (".gitignore", "Makefile", "results/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for name in ("results/report.html", "results/.provenance/report.html.json", "results-mine/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_git_keeps_the_page_on_results_and_no_result(checkout):
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [".gitignore", "Makefile", "results/README.md"]


def test_make_clean_removes_results_and_keeps_the_page_on_them(checkout):
    for _ in range(2):
        subprocess.run(["make", "clean"], cwd=checkout, check=True, stdout=subprocess.DEVNULL)
        assert [path.name for path in (checkout / "results").iterdir()] == ["README.md"]
    assert (checkout / "results-mine" / "a").exists(), "only the folder of the config's default"
