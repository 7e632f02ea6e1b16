"""The report in Chromium: it opens from a file, fits a phone and paper; its tables can be used."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter

import pytest
from accessibility import AXE, violations
from bundled_analyses import analyse, knows_made, made_bets, made_choices, study1_rows, study2_rows
from headless import CHROMIUM, browser
from report_page import GENERATION, HOSTILE, render

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed"),
]
#: A4 across less its margins, in CSS pixels.
PAPER = 1047
TOO_WIDE = """
[...document.querySelectorAll('main .wide, main table, main img')].filter(
  (one) => one.getClientRects().length > 0 && one.getBoundingClientRect().right > WIDTH + 0.5
).length
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """An open report on both studies and three models, one with a hostile name; its address."""
    folder = tmp_path_factory.mktemp("page")
    bets, (generated, scored) = made_bets(), made_choices()
    hostile = " ".join(text for text in HOSTILE if len(text) < 40)[:120]
    few = study2_rows({cell: said[:12] for cell, said in generated.items()}, scored)
    names = ("m", "another", hostile)
    rows = {
        1: [row for name in names for row in study1_rows(bets, knows_made, draws=2, model=name)],
        2: [row | {"model_key": name, "model_name": name} for name in names for row in few],
    }
    for study, made in rows.items():
        analyse(folder / str(study), study, made, figures="whole", generation=GENERATION)
    report = render(folder / "results", {study: folder / str(study) for study in rows})
    with browser(folder / "profile") as found:
        found.size(1400, 900)
        yield found, report.as_uri()
        assert found.errors == []


def column(found, table: str, name: str) -> list[str]:
    """The cells of a column, as a table shows them."""
    return found.js(f"""(() => {{
      const table = document.getElementById('{table}');
      const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
      return [...table.tBodies[0].rows].filter((row) => !row.hidden)
        .map((row) => row.cells[heads.indexOf('{name}')].textContent);
    }})()""")


def table_with(found, caption: str) -> str:
    """The id of the table whose caption holds a text; it is unfolded."""
    found.js("for (const one of document.querySelectorAll('main details')) one.open = true")
    return found.js(
        "[...document.querySelectorAll('main table')].find((one) =>"
        f" (one.closest('details') || one).textContent.includes('{caption}')).id"
    )


def number(text: str) -> float:
    return float(text.split()[0].replace("\u2212", "-").replace(",", ""))


def test_a_table_is_sorted_by_number_with_the_keyboard(page):
    found, address = page
    found.open(address)
    table = table_with(found, "Paired t tests over stories")
    found.js(f"""[...document.querySelectorAll('#{table} th button')]
      .find((one) => one.textContent.startsWith('Difference')).focus()""")
    for direction in ("ascending", "descending"):
        found.key(" ")
        found.until(f"document.querySelector('#{table} th[aria-sort={direction}]')")
        found.until(f"document.getElementById('{table}').closest('.wide').previousElementSibling"
                    f".textContent.includes('{direction}')")  # fmt: skip
        shown = column(found, table, "Difference (points)")
        values = [number(text) for text in shown if text != "\u2013"]
        assert values == sorted(values, reverse=direction == "descending")
        assert len(set(values)) > 5
        assert "\u2013" not in shown[: len(values)], "empty cells last"


def test_a_search_leaves_the_rows_with_its_words_and_csv_holds_those(page):
    found, address = page
    found.open(address)
    table = table_with(found, "Paired t tests over stories")
    field = f"document.getElementById('{table}').closest('.wide').previousElementSibling"
    every = column(found, table, "Model")
    found.js(f"{field}.querySelector('input').focus()")
    found.write("ANOTHER generated")
    found.until(f"{field}.textContent.includes(' of {len(every)} rows')")
    assert set(column(found, table, "Model")) == {"another"}
    assert set(column(found, table, "Experiment")) == {"1 generated"}
    found.js("""window.saved = []; URL.createObjectURL = (blob) => {
      saved.push(blob); return 'blob:none'; }; HTMLAnchorElement.prototype.click = () => {};""")
    found.js(f"[...{field}.querySelectorAll('button')].at(-1).click()")
    lines = found.js("saved[0].text()").lstrip("\ufeff").splitlines()
    assert lines[0].startswith("Model,Experiment,Cell,")
    assert len(lines) == 1 + len(column(found, table, "Model"))
    assert "\u2212" not in "".join(line.split(",")[5] for line in lines[1:])


def test_a_spreadsheet_gets_no_formula_of_a_models_name(page):
    found, address = page
    found.open(address)
    table = found.js("document.querySelector('main table').id")
    found.js(f"document.querySelector('#{table} tbody td').textContent = '=HYPERLINK(1)'")
    found.js("""window.saved = []; URL.createObjectURL = (blob) => {
      saved.push(blob); return 'blob:none'; }; HTMLAnchorElement.prototype.click = () => {};""")
    found.js(
        f"[...document.getElementById('{table}').closest('.wide').previousElementSibling"
        ".querySelectorAll('button')].at(-1).click()"
    )
    assert found.js("saved[0].text()").splitlines()[1].startswith("'=HYPERLINK(1)")


def test_nothing_runs_over_the_side_of_a_phone(page):
    found, address = page
    found.size(400, 800)
    try:
        found.open(address)
        found.js("for (const one of document.querySelectorAll('details')) one.open = true")
        assert found.js("document.documentElement.scrollWidth") <= 400
        assert found.js(TOO_WIDE.replace("WIDTH", "400")) == 0
        hidden = "[...document.querySelectorAll('main td')].filter((one) => !one.dataset.label)"
        assert found.js(f"{hidden}.length") == 0
    finally:
        found.size(1400, 900)


def test_paper_holds_every_column_and_every_folded_table(page):
    found, address = page
    found.open(address)
    folded = found.js("document.querySelectorAll('main details:not([open])').length")
    assert folded > 2
    found.size(PAPER, 700)
    found.call("Emulation.setEmulatedMedia", media="print")
    try:
        found.js("dispatchEvent(new Event('beforeprint'))")
        assert found.js("document.querySelectorAll('main details:not([open])').length") == 0
        assert found.js(TOO_WIDE.replace("WIDTH", str(PAPER))) == 0
        found.js("dispatchEvent(new Event('afterprint'))")
        assert found.js("document.querySelectorAll('main details:not([open])').length") == folded
    finally:
        found.call("Emulation.setEmulatedMedia", media="")
        found.size(1400, 900)


def test_no_table_scrolls_sideways_on_a_wide_screen(page):
    found, address = page
    found.open(address)
    found.js("for (const one of document.querySelectorAll('details')) one.open = true")
    assert found.js("document.querySelectorAll('main .wide').length") > 20
    wide = """[...document.querySelectorAll('main .wide')].filter(
      (one) => one.scrollWidth > one.clientWidth
    ).map((one) => one.querySelector('table').id + ' ' + one.scrollWidth)"""
    assert found.js(wide) == []


def words(text: str) -> Counter[str]:
    """How often each word and number stands in a text, wherever lines are broken."""
    return Counter(re.findall(r"[A-Za-z]+|\d+(?:[.,]\d+)*", text))


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext (poppler-utils)")
def test_a_printed_report_has_every_word_of_every_table(page, tmp_path):
    """Folded tables and all columns among them, as often as they stand in the page."""
    found, address = page
    found.open(address)
    cells = found.js("""[...document.querySelectorAll('main th, main td, main summary')]
      .map((one) => one.textContent).join('\\n')""")
    found.pdf(tmp_path / "report.pdf")
    printed = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "report.pdf", "-"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert sum(words(cells).values()) > 3000
    assert words(cells) - words(printed) == Counter()


def test_a_figure_is_enlarged_by_the_keyboard_and_put_back(page):
    found, address = page
    found.open(address)
    found.js("document.querySelector('a.picture').focus()")
    found.key("Enter")
    found.until("document.getElementById('zoom').open")
    shown = "document.querySelector('#zoom img')"
    found.until(f"{shown}.complete && {shown}.naturalWidth > 0")
    assert found.js(f"{shown}.width > document.querySelector('a.picture img').width")
    assert "Mean bet on each state" in found.js(f"{shown}.alt")
    found.key("Escape")
    found.until("!document.getElementById('zoom').open")
    assert found.js("document.activeElement.matches('a.picture')")


@pytest.mark.skipif(not AXE.exists(), reason="`make axe-env` has not been run")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    found, address = page
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    found.call("Emulation.setEmulatedMedia", features=media)
    try:
        found.open(f"{address}")
        assert found.js("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        assert violations(found) == []
    finally:
        found.call("Emulation.setEmulatedMedia", features=[])
