"""Which prompts have passed their check before, in this process or another.

Rendering the prompts of 2,724 trials takes most of a second, and every run of Snakemake does it. An
entry is named by all that the check follows from, and there is one only where nothing was wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2

from grace import understood
from grace.digests import digest
from grace.prompts.variants import PromptSet
from grace.source_code import LIBRARY, closure, joined_digest
from grace.studies.asking import StudyDesign

NAME = "prompts.json"
#: Entries that are kept, the newest.
MOST = 200


def once(
    study: StudyDesign,
    experiments: Sequence[str],
    trials: str,
    variants: Mapping[str, PromptSet],
    check: Callable[[], None],
    library: Path = LIBRARY,
) -> None:
    """Call `check`, which raises what it finds wrong, unless the same has passed before.

    `trials` is the digest of the trials' rows.
    """
    key = digest(
        [
            _code(),
            study.declaration.model_dump_json(),
            list(experiments),
            trials,
            {
                name: [prompts.digest(study.templates[one]) for one in experiments]
                for name, prompts in variants.items()
            },
        ]
    )
    path = understood.path_of(library, NAME)
    if key in _kept(path):
        return
    check()
    understood.write(path, [*_kept(path), key][-MOST:])


def _kept(path: Path) -> list[str]:
    kept = understood.read(path)
    return kept if isinstance(kept, list) else []


@cache
def _code() -> list[object]:
    modules = closure(["prompts/checks.py"])
    return [sys.version_info[:3], jinja2.__version__, joined_digest(modules)]
