"""How long a run goes on whose looks at the cluster all fail."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from grace.cluster.plan.settings import Cluster
from grace.cluster.run.api import ApiError
from grace.cluster.run.executor import Executor

PATIENCE_S = 60.0


def executor(answers: list[Exception | None], last_answer_s: float) -> Any:
    """One that was answered so many seconds ago, and at each look gets the next of these."""

    def reconcile() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    made: Any = object.__new__(Executor)
    made.jobs = SimpleNamespace(reconcile=reconcile)
    made.cluster = Cluster(namespace="lab", api_patience_s=PATIENCE_S)
    made._answered = time.monotonic() - last_answer_s
    made._detached = False
    return made


@pytest.mark.parametrize("status", [0, 401, 403, 404, 422, 429, 500, 503])
def test_no_answer_ends_a_run_before_its_patience(status: int) -> None:
    failure = ApiError("list the run's pods and Jobs", status, "refused")
    made = executor([failure, failure], PATIENCE_S / 2)
    made._reconcile_or_wait()
    made._reconcile_or_wait()
    assert not made._detached


def test_patience_counts_from_the_last_answer() -> None:
    failure = ApiError("list the run's pods and Jobs", 403, "refused")
    made = executor([None, failure], 2 * PATIENCE_S)
    made._reconcile_or_wait()
    made._reconcile_or_wait()
    assert not made._detached


def test_a_run_whose_patience_is_over_leaves_its_pods() -> None:
    made = executor([ApiError("list the run's pods and Jobs", 403, "refused")], 2 * PATIENCE_S)
    with pytest.raises(WorkflowError, match="its pods go on"):
        made._reconcile_or_wait()
    assert made._detached
