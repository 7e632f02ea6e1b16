"""The report: what it says of a run's models, and that it shows foreign text and never runs it."""

import json
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_r_analysis import (
    FIGURES,
    ROOT,
    TABLES,
    analyse,
    knows_made,
    made_bets,
    made_choices,
    rscript,
    study1_rows,
    study2_rows,
)

ORIGIN = "trained on simulated people: shows the plumbing, not language models"
GENERATION = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 256}
FIGURE_FILES = {
    1: dict(zip(FIGURES[1], "bets state3_by_access contrasts knowledge agreement".split())),
    2: dict(zip(FIGURES[2], "utterances negation human_scatter agreement".split())),
}
DRIVER = """
job <- jsonlite::read_json(commandArgs(TRUE)[1])
setClass("Given", representation(scriptdir = "character", input = "list", params = "list"))
source(file.path(job$scripts, "report.R"))
snakemake <- new("Given", scriptdir = job$scripts, input = job$input, params = job$params)
write_report(job$scripts, job$output)
"""
#: What servers, files and models may say to get out of the place where it is shown.
HOSTILE = [
    "![p](../secret.txt)",
    "![p](secret.txt){width=1}",
    "[c](javascript:alert(1))",
    "![h](http://203.0.113.1/x.png)",
    "<http://203.0.113.1/auto>",
    "http://203.0.113.1/bare",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<iframe src='../secret.txt'></iframe>",
    '"><svg/onload=alert(1)>',
    "</td></tr></table></main></body>",
    "`r system('touch owned')`",
    "`r readLines('../secret.txt')`",
    "$$\\\\input{../secret.txt}$$ $x$ \\\\(y\\\\)",
    "<!-- a comment",
    "-->",
    "]]>",
    "<![CDATA[",
    "```\n\n# A heading of theirs\n\n```{r}\nsystem('touch owned')\n```",
    "````{=html}\n<script>alert(2)</script>\n````",
    "~~~",
    "[^1]\n\n[^1]: a note",
    "@key [@cite]",
    "[ref]: http://203.0.113.1/ref",
    "---\ntitle: theirs\n---",
    ":::{.x}\n:::",
    "*a* _b_ **c** ~~d~~ ^e^ H~2~O",
    "# h\n- l\n1. n\n> q\n| a | b |",
    "&lt;b&gt; &amp; &#60;",
    "a\u202egnp.exe\u202c \u200bz\ufeff\x1b[31m\x07",
    "=HYPERLINK(\"http://203.0.113.1\")",
    "\\begin{x} \\textbf{y} \\newpage",
    "x" * 5000,
    "caf\u00e9 \u2260 \u4e2d\u6587 \U0001f600",
]  # fmt: skip


@dataclass
class Page(HTMLParser):
    """What of a page a reader sees, and what a browser would do."""

    text: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict]] = field(default_factory=list)
    _silent: bool = False

    def __post_init__(self):
        HTMLParser.__init__(self)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent = tag == "style"

    def handle_data(self, data):
        if not self._silent:
            self.text.append(data)

    def handle_comment(self, data):
        self.tags.append(("!--", {"data": data}))

    @property
    def shown(self) -> str:
        return "".join(self.text)


def page(path: Path) -> Page:
    found = Page()
    found.feed(path.read_text(encoding="utf-8"))
    found.close()
    return found


def render(
    folder: Path, tables: dict[int, Path], *, metadata=(), validation=(), origins=None, versions=None
) -> Path:
    """The report on the analyses in `tables`, folders by study."""
    folder.mkdir(exist_ok=True)
    given = {"metadata": [], "validation": []}
    for study, made in tables.items():
        given[f"tables_study{study}"] = [
            shutil.copy(made / f"{name}.csv", folder / f"study{study}_{name}.csv")
            for name in TABLES[study]
        ]
        given[f"figures_study{study}"] = [
            shutil.copy(made / f"{name}.png", folder / f"study{study}_{file}.png")
            for name, file in FIGURE_FILES[study].items()
        ]
    for kind, records in (("metadata", metadata), ("validation", validation)):
        for i, record in enumerate(records):
            (folder / f"{kind}-{i}.json").write_text(json.dumps(record), encoding="utf-8")
            given[kind].append(folder / f"{kind}-{i}.json")
    cell = {
        "bootstrap_draws": 50, "seed": 7, "equivalence_margin": 10,
        "generation": GENERATION, "origins": origins or {},
    }  # fmt: skip
    job = {
        "scripts": str(ROOT / "scripts"),
        "output": str(folder / "report.html"),
        "input": {name: [str(path) for path in paths] for name, paths in given.items()},
        "params": {"cell": cell, "commit": "abc", "versions": versions or {"python": "3"}},
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = rscript(DRIVER, str(folder / "job.json"))
    assert done.returncode == 0, done.stderr
    return folder / "report.html"


def analysed(folder: Path, rows1, rows2, **params) -> dict[int, Path]:
    params = {"bootstrap_draws": 50, "generation": GENERATION, **params}
    analyse(folder / "1", 1, rows1, **params)
    analyse(folder / "2", 2, rows2, **params)
    return {1: folder / "1", 2: folder / "2"}


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """Both studies; of the two models, `toy` was made from something else than language."""
    bets, (generated, scored) = made_bets(), made_choices()
    few = {cell: said[:12] for cell, said in generated.items()}
    rows2 = study2_rows(few, scored)
    return analysed(
        tmp_path_factory.mktemp("analysed"),
        study1_rows(bets, knows_made) + study1_rows(bets, knows_made, model="toy"),
        rows2 + [{**row, "model_key": "toy", "model_name": "org/toy"} for row in rows2],
        origins={"toy": ORIGIN},
    )


def first_lines(shown: Page) -> str:
    return shown.shown.split("What was run", 2)[1 if "Contents" in shown.shown else -2]


def test_renders(two_models, tmp_path):
    found = page(render(tmp_path / "r", two_models, origins={"toy": ORIGIN}))
    print(found.shown[:6000])
