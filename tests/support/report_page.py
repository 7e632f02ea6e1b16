"""Writing the report on analyses of tests, and reading its page as a browser does."""

import json
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from bundled_analyses import FIGURES, TABLES
from r_analysis import ROOT, rscript

GENERATION = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 256}
NAMES = {
    1: ("bets", "state3_by_access", "contrasts", "knowledge", "agreement", "precision"),
    2: ("utterances", "negation", "human_scatter", "agreement", "precision"),
}
FIGURE_FILES = {study: dict(zip(FIGURES[study], NAMES[study], strict=True)) for study in NAMES}
DRIVER = """
job <- jsonlite::read_json(commandArgs(TRUE)[1])
setClass("Given", representation(scriptdir = "character", input = "list", params = "list"))
source(file.path(job$scripts, "report.R"))
snakemake <- new("Given", scriptdir = job$scripts, input = job$input, params = job$params)
write_report(job$scripts, job$output)
"""
#: All that a page of ours is made of.
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "h1",
    "h2",
    "h3",
    "h4",
    "p",
    "strong",
    "em",
    "code",
    "ul",
    "li",
    "div",
    "nav",
    "header",
    "main",
    "a",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "figure",
    "img",
    "figcaption",
    "br",
    "details",
    "summary",
    "dialog",
    "form",
    "button",
    "script",
    "span",
}
ATTRIBUTES = {
    "charset",
    "http-equiv",
    "content",
    "name",
    "lang",
    "id",
    "class",
    "href",
    "src",
    "alt",
    "scope",
    "aria-label",
    "method",
    "width",
}
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
        self._silent = tag in ("style", "script")

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
    folder: Path,
    tables: dict[int, Path],
    *,
    collected=(),
    validation=(),
    extraction=(),
    price=None,
    review="",
    origins=None,
    versions=None,
    failed=(),
) -> Path:
    """The report on the analyses in `tables`, folders by study; `review` is a table as text."""
    folder.mkdir(exist_ok=True)
    given = {"metadata": [], "validation": []}
    for study, made in tables.items():
        given[f"tables_study{study}"] = [
            shutil.copy(made / f"{name}.csv", folder / f"study{study}_{name}.csv")
            for name in TABLES[study]
        ]
        given[f"figures_study{study}"] = [
            shutil.copy(made / f"{name}.svg", folder / f"study{study}_{file}.svg")
            for name, file in FIGURE_FILES[study].items()
        ]
    if review:
        (folder / "review_agreement.csv").write_text(review, encoding="utf-8")
        given["review"] = [folder / "review_agreement.csv"]
    if extraction:
        given["extraction"] = []
    made_of = {"metadata": collected, "validation": validation, "extraction": extraction}
    for kind, records in made_of.items():
        for i, record in enumerate(records):
            (folder / f"{kind}-{i}.json").write_text(json.dumps(record), encoding="utf-8")
            given[kind].append(folder / f"{kind}-{i}.json")
    settings = {
        "seed": 7, "equivalence_margin": 10,
        "generation": GENERATION, "origins": origins or {}, **({"price": price} if price else {}),
    }  # fmt: skip
    sections = [
        {"name": name, "sources": [f"{own}/section.R"], "section": f"{own}/section.Rmd"}
        for name in (f"study{study}" for study in tables)
        for own in [f"../studies/{name}"]
    ]
    return write_page(folder, given, settings, sections, versions=versions, failed=failed)


def write_page(
    folder: Path, given: dict[str, list], settings: dict, sections: list[dict], *,
    versions=None, failed=(),
) -> Path:  # fmt: skip
    """Run scripts/report.R on these files."""
    job = {
        "scripts": str(ROOT / "scripts"),
        "output": str(folder / "report.html"),
        "input": {name: [str(path) for path in paths] for name, paths in given.items()},
        "params": {
            "output_config": settings,
            "commit": "abc",
            "versions": versions or {"python": "3"},
            "failed": json.dumps(failed),
            "sections": sections,
            "sources": {
                "scripts": [
                    "lib/generic_section.R",
                    *(file for one in sections for file in (*one["sources"], one["section"])),
                ]
            },
        },
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = rscript(DRIVER, str(folder / "job.json"))
    assert done.returncode == 0, done.stderr
    return folder / "report.html"
