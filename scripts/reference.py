"""Tables of the people and models of people that the report shows beside the language models.

study1: columns source (rsa or exact_report), access, observe, state, probability. No human bets
of study 1 are public; their published tests stand in for them elsewhere.
study2: columns source (human or polite_rsa), goal, state, frame, assessment, n, total,
probability; n of total people chose the utterance, both empty for polite_rsa.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from grace.cognition import polite, rsa
from grace.errors import GraceError
from grace.runs.scripting import job

Row = Sequence[str | int | float]

STUDY1_COLUMNS = ("source", "access", "observe", "state", "probability")
STUDY2_COLUMNS = (
    *("source", "goal", "state", "frame", "assessment"),
    *("n", "total", "probability"),
)


def study1_rows() -> list[Row]:
    """Both listeners' beliefs in 0 to 3, for every cell of access and observe."""
    return [
        (source, access, observe, state, float(probability))
        for source, listener in (("rsa", rsa.listener), ("exact_report", rsa.exact_report))
        for access in (1, 2, 3)
        for observe in range(1, access + 1)
        for state, probability in enumerate(listener(access, observe))
    ]


def human_rows(human: Path) -> list[Row]:
    """People's choices; probability is n / total. Raises `GraceError` on an unknown utterance."""
    rows: list[Row] = []
    with human.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            utterance = (line["polarity"].replace("wasnt", "wasn't"), line["adjective"])
            if utterance not in polite.UTTERANCES:
                raise GraceError(f"{human}: 'It {' '.join(utterance)}' is not an utterance.")
            n, total = int(line["n"]), int(line["total"])
            rows.append(
                ("human", line["goal"], int(line["state"]), *utterance, n, total, n / total)
            )
    return rows


def polite_rows(lexicon: Path, weights: Path) -> list[Row]:
    """The fitted polite speaker's choices, for every goal that has weights."""
    theta = polite.read_lexicon(lexicon)
    goals = polite.read_weights(weights)
    return [
        ("polite_rsa", goal, *cell, "", "", probability)
        for goal in goals
        for cell, probability in polite.cells(goal, lexicon=theta, weights=goals).items()
    ]


def write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows as UTF-8 CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def reference(human: Path, lexicon: Path, weights: Path, study1: Path, study2: Path) -> None:
    """Write both tables from the three files of resources/reference."""
    write(study1, STUDY1_COLUMNS, study1_rows())
    write(study2, STUDY2_COLUMNS, human_rows(human) + polite_rows(lexicon, weights))


if __name__ == "__main__":
    with job(snakemake, __file__):
        reference(
            human=Path(snakemake.input.human),
            lexicon=Path(snakemake.input.lexicon),
            weights=Path(snakemake.input.weights),
            study1=Path(snakemake.output.study1),
            study2=Path(snakemake.output.study2),
        )
