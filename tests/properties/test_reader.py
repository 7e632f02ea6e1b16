"""The reader of stimuli files under generated ones: no crash, no silent change.

2,000 inputs by default, 100,000 with `make test-long`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from bundled_studies import STUDIES
from hypothesis import example, given
from hypothesis import strategies as st
from properties import generated

from grace.errors import StimuliError
from grace.prompts.plain_text import is_blank, known_control_token
from grace.studies.stimuli import read_trials
from grace.studies.study import Study

BUNDLED = Path(__file__).parents[2] / "resources/stimuli"
#: What a prompt may hold; of the categories that hold characters that it may not, some that it may.
CHARACTERS = st.characters(
    exclude_categories=["C"],
    include_characters="\t\n\r\u00ad\u200b\u200c\u200d\u200e\u2060\ue000\U000f0000",
    exclude_characters="\ufffd",
)
TEXT = st.text(CHARACTERS, min_size=1, max_size=30).filter(
    lambda text: not (known_control_token(text) or is_blank(text)) and text.strip() != "NA"
)
# Python's own writer leaves a lone carriage return unquoted where lines end otherwise.
DIALECTS = st.sampled_from(
    [
        {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"},
        {"quoting": csv.QUOTE_ALL, "lineterminator": "\r\n"},
        {"quoting": csv.QUOTE_MINIMAL, "lineterminator": "\r\n"},
    ]
)


#: Unicode's white space; Python's own `strip` takes four more characters.
SPACES = "".join(filter(str.isspace, map(chr, [*range(28), *range(32, 0x3001)])))


def stripped(cell: str) -> str:
    """Without white space around."""
    return cell.strip(SPACES)


def study1_rows():
    def row(texts, name, access, observe):
        things, predicate = (text.strip().replace("\n", " ") for text in texts[3:5])
        prior = f"How many of the 3 {things} do you think {predicate}?"
        return (*texts[:3], prior, *texts[5:8], str(max(access, observe)), str(observe)), name

    numbers = st.integers(1, 3)
    return st.builds(row, st.tuples(*[TEXT] * 8), TEXT, numbers, numbers).map(lambda made: made[0])


def study2_rows():
    goals = st.one_of(
        st.sampled_from(["informative", "social", "both"]),
        st.sampled_from(["If she wanted to be informative", "If they wanted to be kind to him"]),
    )
    states = st.sampled_from(["0 hearts", "1 heart", "2 hearts", "3 hearts"])
    # Two people: the names of one are refused.
    names = st.tuples(TEXT, TEXT).filter(
        lambda two: stripped(two[0]).lower() != stripped(two[1]).lower()
    )
    row = st.tuples(*[TEXT] * 5, goals, states, names)
    return row.map(lambda made: (*made[:-1], *made[-1]))


ROWS = {"study1": study1_rows(), "study2": study2_rows()}


def write(path: Path, study: Study, rows: list[tuple[str, ...]], **dialect: object) -> None:
    text = io.StringIO()
    writer = csv.writer(text, **dialect)  # type: ignore[arg-type]
    writer.writerow(study.input_columns())
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("reader") / "my.csv"


@pytest.mark.parametrize("name", ROWS)
def test_what_is_written_is_read(name, path):
    study = STUDIES[name]

    @generated(0.2)
    @given(st.lists(ROWS[name], min_size=1, max_size=4, unique_by=lambda row: row[:2]), DIALECTS)
    def check(rows, dialect):
        write(path, study, rows, **dialect)
        keys = [tuple(map(stripped, row[:2])) for row in rows]
        if len(set(keys)) < len(keys):
            with pytest.raises(StimuliError, match="its own pair"):
                read_trials(path, study)
            return
        found = [tuple(map(str, trial.row().values())) for trial in read_trials(path, study)]
        assert found == [tuple(map(stripped, row)) for row in rows]

    check()


@pytest.mark.parametrize("name", ROWS)
def test_a_spoilt_file_is_refused_or_read_as_it_is(name, path):
    study = STUDIES[name]
    lines = (BUNDLED / f"{name}.csv").read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[:4])
    edits = st.tuples(
        st.integers(0, len(whole)),
        st.integers(0, 40),
        st.one_of(st.binary(max_size=12), st.sampled_from([b'"', b",", b"\r", b"\n", b"\x00"])),
    )

    @generated(0.2)
    @given(st.lists(edits, min_size=1, max_size=3))
    def check(changes):
        content = whole
        for at, length, new in changes:
            content = content[:at] + new + content[at + length :]
        path.write_bytes(content)
        try:
            trials = read_trials(path, study)
        except StimuliError:
            return
        # Python's own reader sees the same cells in the same order.
        cells = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        rows = [row for row in cells[1:] if any(cell.strip() for cell in row)]
        assert len(trials) == len(rows)
        names = [study.column_aliases.get(n.strip(), n.strip()) for n in cells[0]]
        for trial, row in zip(trials, rows, strict=True):
            read = {column: str(value) for column, value in trial.row().items()}
            written = {column: stripped(row[names.index(column)]) for column in read}
            for column in ("access", "observe"):  # spreadsheets may write 2.0
                if column in written:
                    written[column] = written[column].removesuffix(".0")
            assert read == written

    check()


@pytest.mark.parametrize("name", ROWS)
def test_a_cell_that_no_prompt_may_hold_is_refused_with_its_row_and_column(name, path):
    study = STUDIES[name]
    spoilt = st.one_of(
        st.sampled_from(["\x01", "\x1b[2J", "\x85", "\ufeff", "\ufffd", "\u202e", "\U000e0041"]),
        st.sampled_from(
            ["<|end|>", "<|im_start|>", "<s>", "[INST]", "<start_of_turn>", "</think>"]
        ),
    )

    @generated(0.1)
    @given(ROWS[name], st.integers(0, 8), TEXT, spoilt, TEXT)
    def check(row, column, before, piece, after):
        row = (*row[:column], before + piece + after, *row[column + 1 :])
        write(path, study, [row], quoting=csv.QUOTE_ALL)
        with pytest.raises(StimuliError, match=f"row 2: {study.input_columns()[column]} "):
            read_trials(path, study)

    check()


@pytest.mark.parametrize("name", ROWS)
def test_any_bytes_are_refused_or_read(name, path):
    @generated(0.1)
    @given(
        st.one_of(
            st.binary(max_size=200),
            st.text(max_size=9).map(lambda t: t.encode("utf-8-sig", "replace")),
        )
    )
    @example(b"\xef\xbb\xbf")
    def check(content):
        path.write_bytes(content)
        with pytest.raises(StimuliError):
            read_trials(path, STUDIES[name])

    check()
