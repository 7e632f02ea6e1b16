"""The trial browser's page: one HTML file, in which text of others is compressed data.

A browser that opens it runs the page's own script and style, whose digests its
Content-Security-Policy names, and nothing else; it fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from grace.trial_browser.blocks import packed
from grace.trial_browser.study_data import StudyData

#: Files of scripts/ that the page is made of: the template, its style, and scripts in their order.
FOLDER = "lib/trial_browser"
TEMPLATE, STYLE = f"{FOLDER}/page.html", f"{FOLDER}/style.css"
SCRIPTS = tuple(
    f"{FOLDER}/{name}.js"
    for name in ("virtual-core", "data", "dom", "table", "filters", "trial", "page")
)
FILES = (TEMPLATE, STYLE, *SCRIPTS)


def page(
    scripts: Path, studies: Iterable[StudyData], origins: Mapping[str, str], models: Sequence[str]
) -> Iterator[str]:
    """The page in pieces. `scripts` is the folder that holds `FILES`.

    `origins` says where a model comes from that is no language model; `models` are those of the
    run, in its order.
    """
    data = list(studies)
    style = (scripts / STYLE).read_text(encoding="utf-8")
    code = "\n".join((scripts / name).read_text(encoding="utf-8") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{_digest(code)}'; style-src '{_digest(style)}';"
        " base-uri 'none'; form-action 'none'"
    )
    run = {"studies": [one.about for one in data], "origins": dict(origins), "models": list(models)}
    before, after = _filled(
        (scripts / TEMPLATE).read_text(encoding="utf-8"),
        {"POLICY": html.escape(policy, quote=False), "STYLE": style},
    ).split("{{DATA}}")
    yield before
    yield _block("run", packed(run))
    for one in data:
        for name, text in one.blocks.items():
            yield _block(name, text)
    yield _filled(after, {"SCRIPT": code})


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _digest(text: str) -> str:
    """As a policy names a script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _block(name: str, data: str) -> str:
    opening = f'<script type="application/octet-stream" data-block="{html.escape(name)}">'
    return f"{opening}{data}</script>\n"
