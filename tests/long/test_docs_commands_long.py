"""The commands of the documentation that take a run of the workflow."""

from __future__ import annotations

import pytest
from docs_commands import blocks, copied_to, follow

pytestmark = pytest.mark.long
DEAR = [block for block in blocks() if block.long]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copied_to(tmp_path_factory.mktemp("docs") / "project")


def test_a_first_run_makes_both_pages_and_then_nothing(project):
    first, again = (block for block in DEAR if block.page == "docs/tutorial/first_run.md")
    follow(first, project)
    for page in ("report.html", "trials.html"):
        assert (project.folder / "results-first" / page).stat().st_size > 10_000
    assert "Nothing to be done" in follow(again, project)[-1]


def test_a_new_study_goes_down_to_its_report(project):
    (run,) = (block for block in DEAR if block.page == "docs/studies.md")
    follow(run, project)
    assert (project.folder / "results/report.html").is_file()
