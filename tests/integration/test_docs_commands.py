"""The commands of the documentation that are marked as run do what their pages say."""

from __future__ import annotations

import pytest
from docs_commands import Block, blocks, copied_to, follow

CHEAP = [block for block in blocks() if not block.long]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copied_to(tmp_path_factory.mktemp("docs") / "project")


@pytest.mark.parametrize("block", CHEAP, ids=lambda block: block.page)
def test_commands_of_pages_work_as_they_stand(project, block: Block):
    printed = follow(block, project)
    for line, text in zip(block.text.splitlines(), printed, strict=True):
        assert ("This was a dry-run" in text) == ("--dry-run" in line)
        assert text or line.startswith("head")


def test_tutorials_have_commands_that_are_run():
    names = ("first_run", "own_trials", "own_model", "cluster")
    assert {f"docs/tutorial/{name}.md" for name in names} <= {block.page for block in CHEAP}
