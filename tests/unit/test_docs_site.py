"""The documentation's site: links of pages lead to what it has; generated pages are in step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from grace import schemas, settings_reference
from grace.cluster.plan.settings import Cluster
from grace.settings.config import Config, ModelEntry
from grace.settings.recipes import Recipe
from grace.steps import STEPS
from tools import diagrams, docs_site

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md"))
BESIDE = [path for path in docs_site.outside() if path.endswith(".md")]
GENERATED = settings_reference.pages(schemas.schema)


def places() -> dict[str, str]:
    """All pages by their places in the project, with their places in the site."""
    found = {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
             for path in PAGES}  # fmt: skip
    return found | {path: docs_site.outside()[path] for path in BESIDE}


@pytest.mark.parametrize("origin", sorted(places()))
def test_every_link_of_a_page_leads_to_a_file_of_the_site(origin):
    text = (ROOT / origin).read_text(encoding="utf-8")
    docs_site.rewrite(text, origin, places()[origin])


def test_links_are_moved_to_where_the_site_has_their_files():
    text = "[a](../config/README.md#trials) ![b](images/study1_bets.png) [c](https://x.org/a.md)\n"
    moved = docs_site.rewrite(text, "docs/report.md", "report.md")
    assert moved == (
        "[a](project/config/README.md#trials) ![b](images/study1_bets.png) [c](https://x.org/a.md)\n"
    )
    text = "[s](../docs/staleness.md#edits)\n```\n[s](../docs/staleness.md)\n```\n"
    moved = docs_site.rewrite(text, "config/README.md", "project/config/README.md")
    assert moved == "[s](../../staleness.md#edits)\n```\n[s](../docs/staleness.md)\n```\n"


def test_every_diagram_is_drawn_as_it_stands_and_no_other_is():
    drawn = set()
    for origin in places():
        text = (ROOT / origin).read_text(encoding="utf-8")
        shown = diagrams.with_pictures(text, origin)
        assert "```mermaid" not in shown
        drawn |= {ROOT / diagrams.picture(one) for one in diagrams.texts(text)}
    assert drawn == set((ROOT / diagrams.PICTURES).glob("*"))


def test_a_diagram_becomes_its_picture_with_its_title():
    (text,) = diagrams.texts((ROOT / "README.md").read_text(encoding="utf-8"))
    shown = diagrams.with_pictures(f"a\n\n```mermaid\n{text}```\n", "docs/tutorial/x.md")
    title = "From settings and stimuli to the report, rule by rule"
    assert shown == f"a\n\n![{title}](../../{diagrams.picture(text)})\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [("accTitle: edited\n", "'edited' is not drawn as it stands"), ("a --> b\n", "accTitle")],
)
def test_a_diagram_that_is_not_drawn_or_not_described_is_refused(text, words):
    with pytest.raises(LookupError, match=rf"docs/x\.md: .*{words}"):
        diagrams.with_pictures(f"```mermaid\nflowchart TD\n{text}```\n", "docs/x.md")


@pytest.mark.parametrize("address", ["nowhere.md", "../tests/conftest.py", "../../etc/passwd"])
def test_a_link_to_what_the_site_has_not_is_refused_with_its_page(address):
    with pytest.raises(LookupError, match=r"docs/report\.md: the link to"):
        docs_site.rewrite(f"[a]({address})", "docs/report.md", "report.md")


def test_every_page_is_in_the_menu_once():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    menu: list[str] = []

    def visit(node):
        if isinstance(node, str):
            menu.append(node)
        for one in (
            node if isinstance(node, list) else node.values() if isinstance(node, dict) else ()
        ):
            visit(one)

    visit(yaml.safe_load(text)["nav"])
    assert sorted(menu) == sorted(places().values())


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_reference_pages_are_in_step(name):
    committed = (settings_reference.FOLDER / name).read_text(encoding="utf-8")
    assert committed == GENERATED[name], "run `python -m grace.schemas`"


@pytest.mark.parametrize(
    ("name", "model"),
    [("config", Config), ("models", ModelEntry), ("clusters", Cluster), ("recipes", Recipe)],
)
def test_reference_pages_say_what_every_key_is(name, model):
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", GENERATED[f"{name}.md"], re.M)
    # Grace makes `trained` itself; users may not write it.
    assert set(model.model_fields) - {"trained"} <= {key for key, _ in rows}
    assert [key for key, words in rows if not words.strip()] == []


def test_commands_have_every_step_with_what_it_does():
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|", GENERATED["commands.md"], re.M)
    named = {name.removesuffix("_<study>") for name, words in rows if words.strip()}
    assert named >= set(STEPS)
    assert "make docs" in named


def test_a_meaning_is_taken_from_the_row_of_its_key():
    page = (
        "| key | default | meaning |\n|---|---|---|\n| `a.b`, `c` | 1 | Of [it](x.md). |\n\n| x |\n"
    )
    assert settings_reference.meanings(page) == {"b": "Of it.", "c": "Of it."}
