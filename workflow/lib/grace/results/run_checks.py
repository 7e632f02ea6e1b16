"""Checks on what the provenance of an experiment says of the run, beside its tables."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grace.results.review_agreement import (
    ALL_FIELDS,
    ALL_MODELS,
    agreement,
    current_rows,
)
from grace.results.validation import Check, CheckList
from grace.studies.study import Study


logger = logging.getLogger(__name__)


def check_review(study: Study, sheet: Path, structured: Path, least: float) -> list[Check]:
    """How far a person who filled in the review sheet reads a replication's answers as it did.

    It fails where the 95 % interval of the share read rightly lies below `least`, so that few
    answers do not fail by chance. Nothing where none of the replication's is checked. Raises
    `RecordError` for a sheet that is filled in wrongly.
    """
    with structured.open(encoding="utf-8", newline="") as file:
        rows = current_rows(study.name, csv.DictReader(file))
    found, _ = agreement(study, sheet, rows)
    whole = next(one for one in found if (one.model_key, one.what) == (ALL_MODELS, ALL_FIELDS))
    checks = CheckList(study.name, "exp1")
    if not whole.checked:
        logger.info("%s: no answer of this replication is checked yet", sheet)
        return []
    checks.add(
        "review_agreement",
        f"upper 95 % end of the share of answers read as a person reads them ({whole.right} of"
        f" {whole.checked} checked ones were)",
        whole.interval()[1], ">=", least,
    )  # fmt: skip
    return checks.found


def check_rereadings(facts: Mapping[str, Any] | None, study: str) -> list[Check]:
    """Experiment 2's second readings, as its provenance has them (`Rereadings` of metadata.json).

    Nothing for records of a version that read nothing twice.
    """
    checks = CheckList(study, "exp2")
    if facts is None:
        return []
    checks.add(
        "read_again",
        f"queries that were read again, of {facts['planned']} to be"
        + (f", {facts['waived']} waived as the journal held all answers" if facts["waived"] else "")
        + (f" ({'; '.join(facts['reasons'])})" if facts["reasons"] else ""),
        facts["read"], ">=", facts["planned"] - facts["unanswered"] - facts["waived"],
    )  # fmt: skip
    if facts["worst"] is not None:
        checks.add(
            "read_the_same",
            "largest difference between two readings of a log-probability, as a share of what"
            f" rounding allows ({facts['largest']:.2g} of {facts['values']} values)",
            facts["worst"], "<=", 1,
        )  # fmt: skip
    if facts["contradictions"]:
        checks.add(
            "bounds_agree", "bounds that contradict those read before", facts["contradictions"],
            "==", 0,
        )  # fmt: skip
    return checks.found


def check_sentinels(facts: Mapping[str, Any] | None, study: str, experiment: str) -> list[Check]:
    """How a model that is asked as a base model continues sentinels (`experiments.sentinels`).

    A failed check is an alarm and stops nothing. Nothing for a model that is asked in a chat.
    """
    checks = CheckList(study, experiment)
    if facts is None:
        return []
    share = facts["rates"]["assistant"]
    signs = sorted({one["sign"] for one in facts["continuations"] if one["kind"] == "assistant"})
    checks.add(
        "continues_texts",
        f"share of {facts['answered']} sentinel texts that the model, asked as a base model,"
        " continues like an assistant" + (f" ({'; '.join(signs[:3])})" if signs else ""),
        share, "<", facts["alarm_from"],
    )  # fmt: skip
    return checks.found
