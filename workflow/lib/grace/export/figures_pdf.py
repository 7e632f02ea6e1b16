"""All figures of the report in one PDF, a page each, in the report's order."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from pypdf import PdfReader, PdfWriter
from pypdf.constants import PageLabelStyle
from pypdf.errors import PyPdfError

from grace.errors import RecordError
from grace.runs.leftovers import replaced


@dataclass
class ReportFigure:
    """A figure as the report shows it; `pdf` as seen from the report's folder."""

    caption: str = ""
    pdf: str = ""


def figures_of(page: str) -> list[ReportFigure]:
    """The report's figures, in its order; those without a PDF beside it are left out."""
    reader = _Figures()
    reader.feed(page)
    return [figure for figure in reader.figures if figure.pdf]


def write_figures(report: Path, output: Path) -> int:
    """Write the figures of a report; how many there are. Each page has its caption as a bookmark
    and its number as its label.

    Raises `RecordError` where a figure's PDF is missing or damaged, or the report has none.
    """
    figures = figures_of(report.read_text(encoding="utf-8"))
    if not figures:
        raise RecordError(f"{report}: shows no figures, so there is nothing to put into {output}.")
    writer = PdfWriter()
    writer.add_metadata({"/Title": "Figures of report.html"})
    for place, figure in enumerate(figures):
        path = report.parent / figure.pdf
        try:
            pages = PdfReader(path).pages
            writer.add_page(pages[0])
        except (OSError, PyPdfError, IndexError) as error:
            raise RecordError(
                f"{path}: cannot be read as a PDF ({error}). Delete it and run again."
            ) from None
        writer.add_outline_item(title=figure.caption, page_number=place)
    writer.set_page_label(0, len(figures) - 1, PageLabelStyle.DECIMAL, "Figure ")
    with replaced(output) as partial:
        writer.write(partial)
    return len(figures)


class _Figures(HTMLParser):
    """Finds figures with a number: the caption up to its first break, and the link to a PDF."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[ReportFigure] = []
        self._in_figure = self._in_caption = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "figure" and (told.get("id") or "").startswith("figure-"):
            self.figures.append(ReportFigure())
            self._in_figure = True
        elif tag == "figcaption":
            self._in_caption = self._in_figure
        elif tag == "br":
            self._in_caption = False
        elif tag == "a" and self._in_figure and (told.get("href") or "").endswith(".pdf"):
            self.figures[-1].pdf = told["href"] or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "figure":
            self._in_figure = False
        if tag in ("figure", "figcaption"):
            self._in_caption = False

    def handle_data(self, data: str) -> None:
        if self._in_caption:
            self.figures[-1].caption += data
