"""The documentation in Chromium: it opens from a file, with search, on a phone and on paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from accessibility import AXE, violations
from headless import CHROMIUM, browser

from tools import diagrams, screenshots

ROOT = Path(__file__).parents[2]
MKDOCS = ROOT / ".venv-docs/bin/mkdocs"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed"),
    pytest.mark.skipif(not MKDOCS.exists(), reason="`make docs-env` has not been run"),
]
#: A page of each kind: prose, wide tables, code, generated, from outside docs/.
PAGES = (
    "index.html",
    "codebook.html",
    "reference/config.html",
    "studies.html",
    "tutorial/first_run.html",
    "project/config/index.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    subprocess.run(
        [MKDOCS, "build", "--strict", "--quiet", "--site-dir", folder], cwd=ROOT, check=True
    )
    return folder


@pytest.fixture(scope="module")
def page(site, tmp_path_factory):
    """A browser, and the site's folder; nothing was an error, and nothing was fetched."""
    with browser(tmp_path_factory.mktemp("profile")) as found:
        found.size(1400, 900)
        yield found, site
        assert found.errors == []


def test_pages_load_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*src=\"?(?:https?:)?//[^>]*", text)
        loaded += re.findall(r"<link[^>]*rel=\"?stylesheet\"?[^>]*href=\"?https?:[^>]*", text)
        assert loaded == [], path


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(page, name):
    found, site = page
    found.size(400, 800)
    try:
        found.open((site / name).as_uri())
        assert found.js("document.documentElement.scrollWidth") <= 400
    finally:
        found.size(1400, 900)


def test_search_works_from_disk_with_the_keyboard(page):
    found, site = page
    found.open((site / "index.html").as_uri())
    found.key("/")
    found.until("document.activeElement.matches('.md-search__input')")
    found.write("max_failure_rate")
    found.until("document.querySelector('.md-search-result__link')")
    links = "[...document.querySelectorAll('.md-search-result__link')].map((one) => one.href)"
    assert any("reference/config.html" in link for link in found.js(links))
    found.key("Escape")


def test_a_link_of_the_menu_is_followed_with_enter(page):
    found, site = page
    found.open((site / "index.html").as_uri())
    found.js("document.querySelector('main a[href*=\"statistics\"]').focus()")
    found.key("Enter")
    found.until("location.pathname.endsWith('/statistics.html') && document.querySelector('h1')")


def test_paper_has_the_page_without_the_menu(page):
    found, site = page
    found.open((site / "tutorial/first_run.html").as_uri())
    found.call("Emulation.setEmulatedMedia", media="print")
    try:
        shown = "getComputedStyle(document.querySelector('{}')).display"
        assert found.js(shown.format(".md-sidebar--primary")) == "none"
        assert found.js(shown.format("main h1")) != "none"
    finally:
        found.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.skipif(not AXE.exists(), reason="`make axe-env` has not been run")
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, name, scheme):
    found, site = page
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    found.call("Emulation.setEmulatedMedia", features=media)
    found.open((site / name).as_uri())
    found.js("localStorage.clear()")  # the style that was shown before is kept there
    found.open((site / name).as_uri())
    shown = found.js("document.body.dataset.mdColorScheme")
    assert shown == {"light": "default", "dark": "slate"}[scheme]
    assert violations(found) == []


def test_screenshots_are_small_pictures_of_both_pages(tmp_path):
    for name in ("report.html", "trials.html"):
        (tmp_path / name).write_text("<html lang=en><h1>A page</h1></html>", encoding="utf-8")
    if screenshots.missing():
        pytest.skip(f"{screenshots.missing()} is missing")
    for path in screenshots.screenshots(tmp_path, tmp_path):
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < screenshots.MOST_BYTES
    (tmp_path / "trials.html").unlink()
    with pytest.raises(SystemExit, match="run `make run` first"):
        screenshots.screenshots(tmp_path, tmp_path)


@pytest.mark.parametrize("width", [1280, 400])
def test_wide_tables_and_diagrams_fit_their_window(page, site, width):
    found, _ = page
    found.size(width, 900)
    wide = (
        "[...document.querySelectorAll('.md-typeset__scrollwrap')]"
        ".filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    )
    for name in ("codebook", "statistics", "recovery", "extraction", "study_reference"):
        found.open((site / f"{name}.html").as_uri())
        assert width == 400 or found.js(wide) == 0, name
        assert found.js("document.documentElement.scrollWidth <= window.innerWidth"), name
    found.open((site / "project/index.html").as_uri())
    (drawn,) = found.js(
        "[...document.querySelectorAll('img[src*=diagrams]')]"
        ".map((one) => [one.naturalWidth, one.width, one.alt])"
    )
    assert drawn[0] >= drawn[1] > 0
    assert "report" in drawn[2]
    assert found.js("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_diagrams_are_drawn_from_the_lock_file_as_they_are_kept(tmp_path):
    subprocess.run([ROOT / "scripts/setup/diagrams.sh", tmp_path], check=True)
    kept = ROOT / diagrams.PICTURES
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in kept.iterdir()
    )

    def words(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        return " ".join(re.findall(r"<tspan[^>]*>([^<]+)<", text)).split()

    for path in tmp_path.iterdir():
        assert words(path) == words(kept / path.name)
        assert {"plan", "merge", "report.html"} <= set(words(path))


def test_the_kept_screenshots_are_small():
    for name in screenshots.SHOWN:
        assert (ROOT / "docs/images" / name).stat().st_size <= screenshots.MOST_BYTES
