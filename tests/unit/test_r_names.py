"""Names of R functions: what one analysis sources shares a room, where the last of a name wins."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from bundled_studies import bundled_study

from grace.studies.analysis_files import analysis_files

ROOT = Path(__file__).parents[2]
STUDIES = {name: bundled_study(name) for name in ("study1", "study2", "refgame")}
FUNCTION = re.compile(r"(?m)^([\w.]+) <- function")


@pytest.mark.parametrize("name", STUDIES)
def test_no_function_of_an_analysis_hides_another(name):
    scripts = analysis_files(STUDIES[name], ROOT).scripts
    files = [ROOT / "scripts" / script for script in scripts if script.endswith(".R")]
    found = Counter(one for file in files for one in FUNCTION.findall(file.read_text()))
    assert len(found) > 100
    assert {one for one, times in found.items() if times > 1} == set()
