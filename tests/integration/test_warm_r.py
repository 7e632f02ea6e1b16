"""The command that stands for `Rscript` in tests does what Rscript does."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from warm_python import warm

TELLS = """
print(commandArgs(TRUE)); getwd() == Sys.getenv("PWD"); interactive()
c(nchar("数é"), nchar(strrep("long ", 2000)))
x <- 'a  b'
x
warning("a warning")
Sys.getenv("MARK"); nzchar(R.home("share")); search()
file.exists(tempdir())
# A module that R loads when it is used.
solve(chol(matrix(c(2, 1, 1, 2), 2)))
lme4::fixef(lme4::lmer(mpg ~ wt + (1 | cyl), mtcars))
"""
LONG = f"""text <- "{"数é " * 3000}"\nnchar(text)\n"""
ENDS = {
    "quit": ("quit(status = 3)", 3),
    "error": ("f <- function() stop('why')\nf()\nprint('never')", 1),
    "not code": ("x <- (", 1),
    "signal": ("tools::pskill(Sys.getpid(), 9)", -signal.SIGKILL),
}


def run(program: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "--vanilla", *arguments], capture_output=True, text=True,
        env={**os.environ, "MARK": "set"}, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("how", "code"), [("file", TELLS), ("expression", TELLS), ("file", LONG)])
def test_output_arguments_and_numbers_are_those_of_rscript(
    tmp_path: Path, how: str, code: str
) -> None:
    script = tmp_path / "tells.R"
    script.write_text(code, encoding="utf-8")
    given = [script] if how == "file" else ["-e", code]
    real, forked = (run(program, *given, "a b", "--c") for program in ("Rscript", warm().rscript))
    assert (forked.returncode, forked.stdout, forked.stderr) == (0, real.stdout, real.stderr)


@pytest.mark.parametrize("name", ENDS)
def test_it_ends_as_rscript_does(tmp_path: Path, name: str) -> None:
    code, status = ENDS[name]
    script = tmp_path / "ends.R"
    script.write_text(code)
    real, forked = run("Rscript", script), run(warm().rscript, script)
    assert real.returncode == forked.returncode == status
    assert forked.stdout == real.stdout
    assert forked.stderr.splitlines()[:1] == real.stderr.splitlines()[:1]


def test_each_has_a_temporary_folder_of_its_own_which_its_end_deletes() -> None:
    code = "cat(tempdir()); writeLines('x', file.path(tempdir(), 'x'))"
    folders = [Path(run(warm().rscript, "-e", code).stdout) for _ in range(2)]
    assert folders[0] != folders[1]
    assert not any(folder.exists() for folder in folders)
