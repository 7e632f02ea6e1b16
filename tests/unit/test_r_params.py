"""What rules in R are given arrives whole, whatever it holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from snakemake.iocontainers import Namedlist
from snakemake.script import REncoder

from grace.r_params import a_line_each, r_params

LIBRARY = Path(__file__).parents[2] / "scripts" / "lib" / "provenance.R"
#: `\` and letters beyond ASCII in a line that R 4.2 misreads.
LONG = "ab\\" * 7000
DECODED = """
source({library})
writeLines(enc2utf8(as.character(jsonlite::toJSON(decoded_params(params), auto_unbox = TRUE))))
"""


@pytest.mark.parametrize(
    "value",
    [
        {"long": LONG},
        {"dash": "–abc" * 5000},
        {"many": ["é\\d"] * 3000},
        {"ké%": "100 %, 'single' and \"double\"\n\t%41", "n": 1, "yes": True},
    ],
    ids=["backslashes", "dashes", "many texts", "marks"],
)
def test_params_arrive_as_they_were(tmp_path: Path, value: dict[str, object]) -> None:
    script = tmp_path / "script.R"
    params = f"params <- {REncoder.encode_dict(r_params(value))}\n"
    script.write_text(params + DECODED.format(library=json.dumps(str(LIBRARY))))
    done = subprocess.run(
        ["Rscript", "--vanilla", script], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == value


def test_paths_arrive_as_they_are_wherever_they_stand_in_the_script(tmp_path: Path) -> None:
    """R reads 4,095 bytes of a line at once: in one, it would end within a letter of these."""
    lists = []
    for shift in range(4):
        paths = [f"{'a' * shift}数/{'數' * 20}/{number}.csv" for number in range(100)]
        named = Namedlist(fromdict={"metadata": paths})
        lists.append((paths, a_line_each(REncoder).encode_namedlist(named)))
        assert len(REncoder.encode_namedlist(named).encode()) > 2 * 4095
    script = tmp_path / "script.R"
    script.write_text(
        "\n".join(f"writeLines(enc2utf8({text}[['metadata']]))" for _, text in lists), "utf-8"
    )
    done = subprocess.run(
        ["Rscript", "--vanilla", script], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [path for paths, _ in lists for path in paths]
