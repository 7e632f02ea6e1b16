"""Write docs/images/report.png and trials.png from the pages of a default run.

    make run && make screenshots

Needs Debian's packages chromium and pngquant. The pictures show Grace's own stimuli and pico's
answers to them; take none of a run with trials of somebody else's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Pictures by name: the page with its anchor, and the window in CSS pixels.
SHOWN = {
    "report.png": ("report.html", (1200, 900)),
    "trials.png": ("trials.html#study1", (1200, 700)),
}
#: Bytes of a picture, and colours that keep it below.
MOST_BYTES, COLOURS = 200_000, 64


def screenshots(results: Path, images: Path) -> list[Path]:
    """Write the pictures of a results folder's pages into a folder; their paths.

    Raises `SystemExit` where a page or a program is missing.
    """
    if missing():
        raise SystemExit(f"{missing()} is missing: sudo apt-get install chromium pngquant")
    written = []
    for name, (page, size) in SHOWN.items():
        file, _, anchor = page.partition("#")
        if not (results / file).is_file():
            raise SystemExit(f"{results / file} is missing: run `make run` first.")
        address = (results / file).absolute().as_uri() + (f"#{anchor}" if anchor else "")
        written.append(images / name)
        written[-1].write_bytes(_smaller(_picture(address, size)))
        if written[-1].stat().st_size > MOST_BYTES:
            raise SystemExit(f"{written[-1]} has more than {MOST_BYTES:,} bytes.")
    return written


def missing() -> str:
    """Programs that are not installed; empty where all are."""
    return ", ".join(one for one in ("chromium", "pngquant") if shutil.which(one) is None)


def _picture(address: str, size: tuple[int, int]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", f"--window-size={size[0]},{size[1]}",
                "--virtual-time-budget=10000", f"--screenshot={path}", address,
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )  # fmt: skip
        return path.read_bytes()


def _smaller(png: bytes) -> bytes:
    """The same picture in few colours."""
    command = ["pngquant", "--strip", "--speed", "1", str(COLOURS), "-"]
    return subprocess.run(command, input=png, check=True, capture_output=True).stdout


def main(results: Path = ROOT / "results", images: Path = ROOT / "docs/images") -> None:
    """Write them and say where."""
    for path in screenshots(results, images):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
