"""The trial browser in Chromium: it opens from a file, and all of it works without an error."""

from __future__ import annotations

import shutil

import pytest
from accessibility import AXE, violations
from browser_runs import Run, written
from bundled_studies import STUDY1, STUDY2
from headless import CHROMIUM, browser

from bench import browsing

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed"),
]
HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b> \u202egnp.exe It was bad"
)
BETS = "Initial Answer: 2\nProbabilities: 0: 10%, 1: 20%, 2: 30%, 3: 40%\nKnowledge: yes"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """An open page of two studies; its address."""
    folder = tmp_path_factory.mktemp("page")
    one = Run(STUDY1, answers=(BETS,), trials=6).data(folder / "1")
    two = Run(STUDY2, answers=(HOSTILE, None, "It was good"), reasoning=HOSTILE).data(folder / "2")
    written(folder / "trials.html", [one, two])
    with browser(folder / "profile") as found:
        found.size(1400, 900)
        yield found, (folder / "trials.html").as_uri()
        assert found.errors == []


def count(found) -> str:
    return found.js("document.getElementById('count').textContent")


def test_the_table_searches_filters_and_sorts(page):
    found, address = page
    found.open(f"{address}#study1")
    assert count(found) == "24 of 24 answers to 6 trials"
    found.key("/")
    found.write("quillberry")
    found.until("location.hash.includes('quillberry')")
    found.until("!document.getElementById('count').textContent.startsWith('24 ')")
    assert found.js("document.getElementById('search').value") == "quillberry"
    found.open(f"{address}#study1?f=model_key~is~b&f=access~max~2&sort=state0_mean:desc")
    assert count(found) == "6 of 24 answers to 6 trials"
    found.open(f"{address}#study2?f=quality_flags~has~exp1_request_failed")
    assert count(found) == "4 of 12 answers to 3 trials"


def test_keys_lead_to_a_trial_to_the_next_and_back(page):
    found, address = page
    found.open(f"{address}#study1?f=model_key~is~b")
    found.key("ArrowDown")
    found.until("document.activeElement.dataset.place === '0'")
    found.key("ArrowDown")
    found.until("document.activeElement.dataset.place === '1'")
    found.key("Enter")
    found.until("!document.getElementById('trial').hidden")
    assert found.js("location.hash") == "#study1/1/b/0/seed"
    found.key("ArrowRight")
    found.until("location.hash === '#study1/2/b/0/seed'")
    found.until("document.getElementById('trial-heading').textContent.endsWith('trial 2')")
    found.key("Escape")
    found.until("!document.getElementById('list').hidden")
    found.until("document.activeElement.dataset.place === '2'")
    assert found.js("location.hash") == "#study1?f=model_key%7Eis%7Eb"


def test_a_trial_shows_text_as_text_and_every_distribution(page):
    found, address = page
    found.open(f"{address}#study2/0/a")
    found.until("!document.getElementById('trial').hidden")
    shown = found.js("document.getElementById('trial').innerText")
    assert "</script><img src=x onerror=" in shown
    assert "\u27e8U+202E\u27e9gnp.exe" in shown
    assert found.js("document.querySelectorAll('img, #trial b, iframe').length") == 0
    assert "owned" not in found.js("document.title")
    rows = found.js("[...document.querySelectorAll('.bars tbody th')].map((one) => one.innerText)")
    assert rows[:2] == ["human (people)", "polite_rsa (cognitive model)"]
    assert len(rows) == 2 + 4
    sums = found.js(
        "[...document.querySelectorAll('.bars tbody tr')].map((row) =>"
        " [...row.querySelectorAll('td')].reduce((sum, td) => sum + Number(td.title), 0))"
    )
    assert sums == pytest.approx([1] * 6, abs=2e-3)


def test_a_narrow_window_scrolls_down_alone(page):
    found, address = page
    found.size(400, 800)
    for place in ("#study1", "#study1/2/b/1/seed", "#study2/0"):
        found.open(f"{address}{place}")
        assert found.js("document.documentElement.scrollWidth <= window.innerWidth"), place
    found.size(1400, 900)


def test_a_zero_on_a_card_is_no_missing_value(page):
    found, address = page
    found.size(400, 800)
    found.open(f"{address}#study1?columns=trial_index,replaced_characters")
    card = found.js("document.querySelector('#table tbody .rest').textContent")
    assert card == "replaced_characters: 0"
    found.size(1400, 900)


def test_printed_the_table_has_all_its_rows(page, tmp_path):
    found, address = page
    found.open(f"{address}#study1")
    found.js("window.dispatchEvent(new Event('beforeprint'))")
    assert found.js("document.querySelectorAll('#table tbody tr').length") == 24
    found.js("window.dispatchEvent(new Event('afterprint'))")
    found.pdf(tmp_path / "list.pdf")
    assert (tmp_path / "list.pdf").read_bytes().startswith(b"%PDF")


def test_an_address_of_nothing_says_so(page):
    found, address = page
    for place, words in (
        ("#study9", "no study study9"),
        ("#study1/99", "no trial 99"),
        ("#study1/1/nobody", "no answer of nobody"),
    ):
        found.open(f"{address}{place}")
        assert words in found.js("document.getElementById('notice').textContent")


def test_the_bench_times_every_action_on_a_page_of_so_many_answers(tmp_path, capsys):
    results = tmp_path / "results"
    (results / "analysis-ready").mkdir(parents=True)
    for study in (STUDY1, STUDY2):
        files = Run(study, models=("pico",), trials=3).write(tmp_path / study.name)
        files.reference.rename(results / "analysis-ready" / files.reference.name)
        shutil.copytree(tmp_path / study.name / "pico", results / "pico", dirs_exist_ok=True)
    browsing.main([str(results), "--answers", "30", "--only", "replication", "--delay", "0"])
    told = capsys.readouterr().out.splitlines()
    # Twelve answers of the run, three times.
    assert told[0].startswith("36 answers, ")
    assert [line[:44].strip() for line in told[2:]] == [
        "open", "filter replication", "sort by replication",
    ]  # fmt: skip
    assert all(0 < int(cell) < 60_000 for line in told[3:] for cell in line[44:].split()[::2])


@pytest.mark.skipif(not AXE.exists(), reason="`make axe-env` has not been run")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    found, address = page
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    found.call("Emulation.setEmulatedMedia", features=media)
    try:
        found.open(f"{address}#study1")
        assert found.js("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        assert violations(found) == []
    finally:
        found.call("Emulation.setEmulatedMedia", features=[])
