"""Params of rules in R arrive whole, whatever they hold."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from snakemake.script import REncoder

from grace.r_params import r_params

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
