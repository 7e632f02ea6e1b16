"""Hook of MkDocs: the project's own pages beside docs/, and links as they stand in the repository.

Pages link to each other by their places in the repository, so that they also work where the files
are read there. Files outside docs/ that pages need lie in the site's folder `project`. A link to
any other file ends the build.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# MkDocs loads this file by its path.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tools.diagrams import with_pictures

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
#: Where files from outside docs/ lie in the site.
BESIDE = "project"
OUTSIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "CITATION.cff",
    "config/*.md",
    "config/*.yaml",
    "studies/*/README.md",
    "workflow/schemas/*.json",
)
#: What Material's plugin `offline` asks of another host, for search without a server: kept here.
_SHIM, _OWN_SHIM = "https://unpkg.com/iframe-worker/shim", "javascripts/iframe-worker.js"
#: A link or picture of Markdown: what stands before the address, the address, and its anchor.
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_ELSEWHERE = re.compile(r"[a-z]+:|/")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")


def outside() -> dict[str, str]:
    """Places in the site of the files outside docs/, by those in the project."""
    found = (path.relative_to(ROOT).as_posix() for one in OUTSIDE for path in ROOT.glob(one))
    return {path: f"{BESIDE}/{path}" for path in sorted(found)}


def site_path(origin: str, address: str) -> str:
    """Where a link leads in the site, from a file of the project (both by their places there).

    Raises `LookupError` where it leads to what the site has not.
    """
    target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), address))
    if target.startswith("docs/") and (ROOT / target).is_file():
        return target.removeprefix("docs/")
    places = outside()
    if target not in places:
        raise LookupError(
            f"{origin}: the link to '{address}' leads to '{target}', which the site has not."
            " Correct the link, or add the file to `OUTSIDE` in scripts/tools/docs_site.py."
        )
    return places[target]


def rewrite(markdown: str, origin: str, page: str) -> str:
    """A page's Markdown with links for its place in the site; code stays as it is.

    Args:
        markdown: The file's text.
        origin: The file's place in the project.
        page: Its place in the site.
    """
    fence = ""
    lines = []

    def moved(match: re.Match[str]) -> str:
        if _ELSEWHERE.match(match[2]):
            return match[0]
        target = site_path(origin, match[2])
        return match[1] + posixpath.relpath(target, posixpath.dirname(page) or ".") + match[3]

    for line in markdown.splitlines():
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""
        lines.append(line if fence or mark else _LINK.sub(moved, line))
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's files from outside docs/."""
    from mkdocs.structure.files import File

    for path, place in outside().items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to where files lie in the site, and show diagrams as pictures."""
    from mkdocs.exceptions import PluginError

    place = page.file.src_uri
    origin = place.removeprefix(f"{BESIDE}/")
    if origin == place:
        origin = f"docs/{place}"
    try:
        return rewrite(with_pictures(markdown, origin), origin, place)
    except LookupError as error:
        raise PluginError(str(error)) from None


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Let pages load nothing from elsewhere, and name the dialog of the search."""
    return _finished(output, posixpath.dirname(page.file.dest_uri) or ".")


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """The same for the page of what a server does not find."""
    return _finished(output_content, ".") if template_name.endswith(".html") else output_content


def _finished(html: str, folder: str) -> str:
    html = html.replace(_SHIM, posixpath.relpath(_OWN_SHIM, folder))
    dialog = 'data-md-component="search" role="dialog"'
    return html.replace(dialog, f'{dialog} aria-label="Search"')
