"""Whether pico-base is a base that a recipe can begin with, measured as the recipe measures.

On held-out instructions: answers without and after examples, and the judge's verdicts on those
after examples, by the recipe's own functions and texts. The gate is that of the design:

- right after examples: .6 or more, and twice as often as without; without: .35 or less;
- the judge's margin tells right from wrong answers: AUC .85 or more;
- the judge keeps .3 or more of the answers, of which .9 or more are right.

Beside the design's gate it has to answer both studies, on their first 24 trials: in experiment 2
the options have .8 of the probability or more on average, in experiment 1 more than half of the
answers can be read.

    python -m grace.pico_base.gate FOLDER [--items N] [--draw SEED] [--write]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.digests import file_digest
from grace.pico_base.held_out import (
    JUDGE_SHOTS,
    SHOTS,
    Row,
    answered,
    constitution,
    entry,
    held_out_rows,
    opened,
)
from grace.pico_base.study_answers import StudyAnswers, study_answers
from grace.posttraining.judging import ACCEPTED, drawn, judge_rows, verdict
from grace.settings.training_configs import Acceptance, JudgeStep

#: What decides its answers, of which gate.json holds the digests.
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
#: As a recipe would have them.
TEMPERATURE = 0.7
ACCEPTANCE = Acceptance(accept=0.6, min_option_mass=0.8)
LEAST_RIGHT, LEAST_RATIO, MOST_ZERO_SHOT = 0.6, 2.0, 0.35
STUDY_TRIALS, LEAST_OPTION_MASS, LEAST_READABLE = 24, 0.8, 0.5
LEAST_AUC, LEAST_KEPT, LEAST_KEPT_RIGHT = 0.85, 0.3, 0.9


@dataclass(frozen=True)
class Measured:
    """Shares of right answers, the judge's AUC, and what it keeps."""

    items: int
    zero_shot: float
    few_shot: float
    auc: float
    kept: int
    right_among_kept: float
    option_mass: float

    def failures(self) -> list[str]:
        """What of the gate is not reached, in words."""
        found = []
        if self.few_shot < LEAST_RIGHT:
            found.append(f"right after examples {self.few_shot:.3f}, not {LEAST_RIGHT:g}")
        if self.few_shot < LEAST_RATIO * self.zero_shot:
            found.append(f"not {LEAST_RATIO:g} times the {self.zero_shot:.3f} without examples")
        if self.zero_shot > MOST_ZERO_SHOT:
            found.append(f"right without examples {self.zero_shot:.3f}, not {MOST_ZERO_SHOT:g}")
        # An AUC that cannot be computed, NaN, is not reached.
        if not self.auc >= LEAST_AUC:
            found.append(f"the judge's AUC {self.auc:.3f}, not {LEAST_AUC:g}")
        if self.kept < LEAST_KEPT * self.items:
            found.append(f"{self.kept} of {self.items} kept, not {LEAST_KEPT:g}")
        if not self.right_among_kept >= LEAST_KEPT_RIGHT:
            found.append(f"right among kept {self.right_among_kept:.3f}, not {LEAST_KEPT_RIGHT:g}")
        return found


def study_failures(found: Mapping[str, StudyAnswers]) -> list[str]:
    """What is missing for the studies to say something, in words."""
    failures = []
    for name, one in found.items():
        # A mean that cannot be computed, NaN, is not reached.
        if not one.option_mass >= LEAST_OPTION_MASS:
            failures.append(f"{name}: option mass {one.option_mass:.3f}, not {LEAST_OPTION_MASS:g}")
        if not one.readable > LEAST_READABLE:
            failures.append(f"{name}: {one.readable:.3f} of the answers can be read")
    return failures


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """How likely a positive's value is above a negative's, ties half; NaN where one is missing."""
    if not positive or not negative:
        return float("nan")
    ordered = sorted([(value, True) for value in positive] + [(value, False) for value in negative])
    wins, below, start = 0.0, 0, 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        ups = sum(side for _, side in ordered[start:end])
        downs = end - start - ups
        wins += ups * (below + downs / 2)
        below += downs
        start = end
    return wins / (len(positive) * len(negative))


def measure(folder: Path, items: int, draw: int) -> tuple[Measured, dict[str, Any]]:
    """Measure a model on the first held-out items; also by type, and by kind of wrong answer."""
    rows = held_out_rows(items)
    told = constitution()
    judge = JudgeStep(
        model={},
        principles=[one.text for one in told.principles],
        accepting=told.judge.accepting,
        rejecting=told.judge.rejecting,
        examples=drawn(told.judge.examples, JUDGE_SHOTS, 1),
    )
    with opened(entry(folder)) as asked:
        plain = answered(asked, rows, temperature=TEMPERATURE, draw=draw)
        shown = answered(asked, rows, shots=SHOTS, temperature=TEMPERATURE, draw=draw)
        judged = list(judge_rows(shown, judge, asked))
    said = [row for row in judged if row["judgement"]]
    right = [row["judgement"]["margin"] for row in said if row["right"]]
    wrong = [row["judgement"]["margin"] for row in said if not row["right"]]
    kept = [row for row in judged if verdict(row, ACCEPTANCE) == ACCEPTED]
    measured = Measured(
        items=len(rows),
        zero_shot=_share(plain),
        few_shot=_share(shown),
        auc=auc(right, wrong),
        kept=len(kept),
        right_among_kept=_share(kept),
        option_mass=sum(row["judgement"]["option_mass"] for row in said) / max(1, len(said)),
    )
    parts = {"zero_shot": plain, "few_shot": shown, "right_among_kept": kept}
    by_type = {
        kind: {
            name: round(_share([row for row in part if row["type"] == kind]), 3)
            for name, part in parts.items()
        }
        for kind in sorted({row["type"] for row in rows})
    }
    return measured, {"by_type": by_type, "auc_by_wrong": _auc_by_wrong(rows, said, right)}


def _auc_by_wrong(
    rows: Sequence[Row], said: Sequence[Row], right: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Number of the wrong answers of each kind, and AUC of all right ones against them."""
    inside = {row["row_id"]: set(row["values"].values()) for row in rows}
    kinds: dict[str, list[float]] = {}
    for row in said:
        if not row["right"]:
            one_word = " " not in row["answer"]
            kind = "given word" if row["answer"] in inside[row["row_id"]] else (
                "other word" if one_word else "more than a word"
            )  # fmt: skip
            kinds.setdefault(kind, []).append(row["judgement"]["margin"])
    return {
        kind: {"number": len(wrong), "auc": round(auc(right, wrong), 3)}
        for kind, wrong in sorted(kinds.items())
    }


def _share(rows: Sequence[Any]) -> float:
    return sum(row["right"] for row in rows) / len(rows) if rows else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 0 where the gate is passed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m grace.pico_base.gate", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--draw", type=int, default=1, help="seed of the sampled answers")
    parser.add_argument("--write", action="store_true", help="gate.json into the folder")
    chosen = parser.parse_args(arguments)
    measured, parts = measure(chosen.folder, chosen.items, chosen.draw)
    studies = study_answers(chosen.folder, STUDY_TRIALS)
    found = {
        **vars(measured),
        "draw": chosen.draw,
        "studies": {name: vars(one) for name, one in studies.items()},
        **parts,
    }
    print(json.dumps(found, indent=1))
    failures = measured.failures() + study_failures(studies)
    if chosen.write and not failures:
        files = {name: file_digest(chosen.folder / name) for name in FILES}
        text = json.dumps({**found, "files": files}, indent=1)
        (chosen.folder / "gate.json").write_text(f"{text}\n", encoding="utf-8")
    print("The gate is passed." if not failures else f"Not passed: {'; '.join(failures)}.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
