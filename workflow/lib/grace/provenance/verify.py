"""`python -m grace.provenance.verify results`: are these results what this code would have made?

Follows the records beside the results (`grace.provenance.sidecars`) back to the stimuli, prompts,
models and code, recomputes every digest, and gives each file a verdict (`grace.provenance.chain`).
Answers are compared with the journal's where it is at hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from grace.errors import GraceError, JournalError, RecordError
from grace.journal.store import explained
from grace.provenance.chain import Chain, Link, LinkState, from_here, results_in
from grace.provenance.journal_check import Answers
from grace.provenance.record import FORMAT
from grace.provenance.sidecars import read_sidecar, record_digest
from grace.settings.config import Config

#: Where a run ends.
REPORT = "report.html"
#: Where a project's journal is, unless its config names another folder.
JOURNAL = Path(Config.model_fields["journal_dir"].default, "journal")


def verify(
    files: Iterable[Path], root: Path, answers: Answers | None = None
) -> dict[Path, Link | None]:
    """The first broken link of each file's chain; None for what is intact."""
    chain = Chain(root, answers)
    return {file: chain.broken(file) for file in files}


def report_digest(report: Path) -> str | None:
    """What stands for a run: the digest of its report's record, which names all before it.

    None where that record is none that is chained. Raises `RecordError`.
    """
    record = read_sidecar(report)
    return record_digest(report) if record and record["format"] == FORMAT else None


def remarks(chain: Chain, verdicts: Mapping[Path, Link | None]) -> list[str]:
    """What verdicts leave open, and what a run can be published by."""
    lines = []
    intact = [file for file, link in verdicts.items() if link is None]
    older = [file for file in intact if chain.format(file) < FORMAT]
    if older:
        lines.append(
            f"older record format, not chained: {_few(older)}. Edits of these records themselves do"
            " not show. What is rebuilt has records of the present format."
        )
    if chain.not_compared:
        why = f"{chain.journal} holds none" if chain.journal else "there is no journal at hand"
        lines.append(
            f"Warning: not compared with a journal: the answers in"
            f" {_few(sorted(chain.not_compared))}. Of these {why}, or they were made before records"
            " named its keys. Digests tell whether files fit each other, the journal whether the"
            " answers in them are those that were given: `--journal FOLDER` names it."
        )
    for report in intact:
        if report.name == REPORT and chain.format(report) == FORMAT:
            others = verdicts.keys() - chain.behind(report)
            but = f" All but {_few(sorted(others))}." if others else ""
            lines.append(
                f"{report} and all that it was made from have the digest {report_digest(report)}."
                f"{but}"
            )
    return lines


def _few(files: Sequence[Path]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{', '.join(map(str, files[:3]))}{more}"


def summary(verdicts: Mapping[Path, Link | None], *, every: bool = False) -> str:
    """Each broken link with the results that it spoils; `every` gives every result a line."""
    lines = []
    if every:
        lines += [f"{file}: {link.state if link else 'intact'}" for file, link in verdicts.items()]
    spoilt: dict[tuple[LinkState, str], list[tuple[Path, Link]]] = {}
    for file, link in verdicts.items():
        if link:
            spoilt.setdefault((link.state, link.why), []).append((file, link))
    for (state, why), found in spoilt.items():
        first = found[0][1].file
        own = "" if why.startswith(f"{first} ") else f"{first}: "
        lines.append(f"{state}: {own}{why}")
        others = [file for file, _ in found if file != first]
        if others:
            lines.append(f"    and so {_few(others)}")
    intact = sum(link is None for link in verdicts.values())
    return "\n".join([*lines, f"{intact} of {len(verdicts)} files are intact."])


def main(arguments: list[str] | None = None) -> int:
    """Print the verdicts; 1 unless everything is intact."""
    parser = argparse.ArgumentParser(
        prog="python -m grace.provenance.verify",
        description="Recompute the digests behind results, back to prompts, models and code.",
        epilog="Exit status: 0 where everything is intact; 1 where something is not, or could"
        " not be compared with the journal that --journal names.",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, default=[Path("results")], metavar="RESULTS",
        help="results folders, or single files of them (default: results)",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=Path, default=Path(),
        help="the project whose code and inputs count (default: this folder)",
    )  # fmt: skip
    parser.add_argument(
        "--journal", type=Path, metavar="FOLDER",
        help="the journal that answers are compared with (default: .grace/journal in the project)",
    )  # fmt: skip
    parser.add_argument(
        "--digest", metavar="SHA256",
        help="the digest that was published with the report, which must be that of this one",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="list intact files, too")
    given = parser.parse_args(arguments)
    try:
        files = list(dict.fromkeys(file for path in given.paths for file in _files(path)))
        chain = Chain(given.root, answers_in(given.journal or given.root / JOURNAL, given.journal))
        verdicts = {file: chain.broken(file) for file in files}
        notes = [*remarks(chain, verdicts), *_other_digest(files, given.digest)]
    except GraceError as error:
        print(error, file=sys.stderr)
        return 1
    single = any(path.is_file() for path in given.paths)
    print(summary(verdicts, every=given.all or single), *notes, sep="\n")
    missed = given.journal is not None and bool(chain.not_compared)
    return int(any(verdicts.values()) or missed or bool(_other_digest(files, given.digest)))


def answers_in(folder: Path, named: object = True) -> Answers | None:
    """The answers of a journal; None where there is none. Raises `JournalError`.

    One that was `named` must be there.
    """
    if not folder.is_dir():
        if named:
            raise JournalError(f"there is no journal in {folder.absolute()}")
        return None
    try:
        return Answers(folder)
    except OSError as error:
        raise explained(error, folder) from error


def _other_digest(files: Iterable[Path], digest: str | None) -> list[str]:
    """Why the report is not the published one, or nothing. Raises `RecordError`."""
    if digest is None:
        return []
    found = [report_digest(file) for file in files if file.name == REPORT]
    if found == [digest.lower()]:
        return []
    return [f"not the published report: its digest is {found[0] if found else None}, not {digest}"]


def _files(path: Path) -> list[Path]:
    path = from_here(path.absolute())
    if not path.is_dir():
        return [path]  # a missing file has a verdict, too
    files = results_in(path)
    if not files:
        raise RecordError(f"{path}: no results here, so there is nothing to verify.")
    return files


if __name__ == "__main__":
    sys.exit(main())
