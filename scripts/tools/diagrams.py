"""Diagrams of the documentation: Mermaid in Markdown, as GitHub draws it; pictures in the site.

    scripts/setup/diagrams.sh          # draws them in Debian's Chromium, with Mermaid from npm

A picture bears the digest of its diagram's text, so that an edited diagram lacks one until it is
drawn.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Where pictures lie, from the project's folder.
PICTURES = "docs/images/diagrams"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"^\s*accTitle:\s*(.+?)\s*$", re.MULTILINE)
_SETTINGS = {
    "startOnLoad": False, "deterministicIds": True, "htmlLabels": False, "theme": "neutral",
    "fontFamily": "sans-serif", "flowchart": {
        "htmlLabels": False, "useMaxWidth": False, "wrappingWidth": 400,
        "subGraphTitleMargin": {"top": 4, "bottom": 16},
    },
}  # fmt: skip
_PAGE = """<!doctype html><meta charset="utf-8"><script src="{mermaid}"></script><body><script>
mermaid.initialize({settings});
mermaid.render("diagram", {text}).then(
  ({{ svg }}) => document.body.append(Object.assign(document.createElement("pre"), {{
    id: "drawn",
    textContent: new XMLSerializer().serializeToString(
      new DOMParser().parseFromString(svg, "text/html").querySelector("svg")),
  }})),
);
</script>"""
_DRAWN = re.compile(r'<pre id="drawn">(.*?)</pre>', re.DOTALL)


def texts(markdown: str) -> list[str]:
    """The texts of a page's diagrams."""
    return _BLOCK.findall(markdown)


def picture(text: str) -> str:
    """The picture of a diagram's text, from the project's folder, whether or not it is drawn."""
    return f"{PICTURES}/{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"


def with_pictures(markdown: str, origin: str) -> str:
    """A page with pictures for diagrams, described by their `accTitle`.

    Raises `LookupError` where one is not drawn or has no title. `origin` is the page's place in the
    project.
    """
    up = "../" * origin.count("/")

    def pictured(match: re.Match[str]) -> str:
        title = _TITLE.search(match[1])
        if not title:
            raise LookupError(f"{origin}: a diagram has no line 'accTitle: …', which describes it.")
        path = picture(match[1])
        if not (ROOT / path).is_file():
            raise LookupError(
                f"{origin}: the diagram '{title[1]}' is not drawn as it stands: run"
                " scripts/setup/diagrams.sh and commit docs/images/diagrams."
            )
        return f"![{title[1]}]({up}{path})"

    return _BLOCK.sub(pictured, markdown)


def draw(mermaid: Path, folder: Path = ROOT / PICTURES) -> list[Path]:
    """Draw all diagrams with a file of Mermaid into a folder, in place of others; the paths."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [text for page in pages for text in texts(page.read_text(encoding="utf-8"))]
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.svg"):
        path.unlink()
    paths = [folder / Path(picture(text)).name for text in found]
    for path, text in zip(paths, found, strict=True):
        path.write_text(_drawn(text, mermaid), encoding="utf-8")
    return paths


def _drawn(text: str, mermaid: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(
            _PAGE.format(
                mermaid=mermaid.absolute().as_uri(),
                settings=json.dumps(_SETTINGS),
                text=json.dumps(text),
            ),
            encoding="utf-8",
        )
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={folder}/profile", "--virtual-time-budget=30000", "--dump-dom",
            page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    drawn = _DRAWN.search(done.stdout)
    if not drawn:
        raise SystemExit(f"Mermaid cannot draw this diagram:\n{text}")
    return html.unescape(drawn[1]).replace('style="', 'style="background:#fff;', 1) + "\n"


if __name__ == "__main__":
    for one in draw(*(Path(argument) for argument in sys.argv[1:])):
        print(one)
