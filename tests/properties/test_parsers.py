"""The parsers of raw answers under generated ones: no crash, no number that no one said.

2,000 inputs by default, 100,000 with `make test-long`.
"""

from __future__ import annotations

import re

from bundled_studies import STUDIES
from hypothesis import given
from hypothesis import strategies as st
from properties import generated

#: Pieces of answers, right and wrong, in any order, between any text.
PIECES = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            [
                "Initial Answer: ", "Probabilities: ", "Knowledge: ", "yes", "no", "[0-3]",
                "[yes/no]",
                "0: ", "1: ", "2: ", "3: ", "%", ", ", "\n", "**", "It was ", "It wasn't ",
                "It was not ", "terrible", "bad", "good", "amazing", " or ", "/", "-", ".", "=",
                "[", "]", "٣", "½", "1e9", "inf", "nan", "\x00", "\ud800",
            ]
        ),
        st.integers(-5, 150).map(str),
        st.floats(0, 120).map(str),
    ),
    max_size=30,
).map("".join)  # fmt: skip


#: What a knowledge answer has to say, to be read as each; PIECES and chance make no other words.
WORDS_FOR = {"yes": r"\b(?:yes|y|true)\b", "no": r"\b(?:no|nope|n|false)\b"}


def numbers_in(text: str) -> set[float]:
    return {float(found) for found in re.findall(r"\d+(?:\.\d+)?", re.sub(r"[*_`]+", "", text))}


@generated(0.3)
@given(PIECES)
def test_study1_takes_nothing_that_is_not_there(text):
    study = STUDIES["study1"]
    answer = study.parse(text).row()
    values = [answer["Prior_A"], *(answer[f"probability_{state}"] for state in range(4))]
    assert {float(value) for value in values if value is not None} <= numbers_in(text)
    assert answer["Knowledge_A"] in (None, "yes", "no")
    if answer["Knowledge_A"] is not None:
        assert re.search(WORDS_FOR[answer["Knowledge_A"]], text.lower())
    missing = None in (*values, answer["Knowledge_A"])
    assert missing == bool(answer["extraction_errors"])
    assert (answer["extraction_confidence"] == 0) == missing


@generated(0.2)
@given(PIECES)
def test_study2_takes_nothing_that_is_not_there(text):
    answer = STUDIES["study2"].parse(text).row()
    frame, word = answer["Was_Wasnt"], answer["Assessment"]
    assert (frame is None) == (word is None) == bool(answer["extraction_errors"])
    if word is not None:
        assert word in text.lower()
        assert answer["response_cleaned"] == f"It {frame} {word}"
        assert "was" in text.lower()


PERCENT = st.one_of(st.integers(0, 100), st.floats(0, 100).map(lambda value: round(value, 2)))
CHATTER = st.sampled_from(["", "Sure! ", "Here is my answer:\n", "**", "Thinking it over.\n\n"])


@generated(0.3)
@given(
    st.integers(0, 3), st.tuples(*[PERCENT] * 4), st.booleans(), CHATTER, CHATTER
)  # fmt: skip
def test_study1_reads_back_what_was_said(initial, bets, knows, before, after):
    said = ", ".join(f"{state}: {bet}%" for state, bet in enumerate(bets))
    word = "yes" if knows else "no"
    text = f"{before}Initial Answer: {initial}\nProbabilities: {said}\nKnowledge: {word}\n{after}"
    answer = STUDIES["study1"].parse(text).row()
    assert answer["extraction_errors"] is None
    assert (answer["Prior_A"], answer["Knowledge_A"]) == (initial, word)
    assert tuple(answer[f"probability_{state}"] for state in range(4)) == tuple(map(float, bets))


@generated(0.2)
@given(
    st.sampled_from(["was", "wasn't", "was not", "wasnt", "wasn’t"]),
    st.sampled_from(["terrible", "bad", "good", "amazing"]), CHATTER, CHATTER, st.booleans(),
)  # fmt: skip
def test_study2_reads_back_what_was_said(frame, word, before, after, shouted):
    text = f"it {frame} {word}"
    answer = STUDIES["study2"].parse(f"{before}{text.upper() if shouted else text}. {after}")
    meant = "was" if frame == "was" else "wasn't"
    assert answer.row()["response_cleaned"] == f"It {meant} {word}"
