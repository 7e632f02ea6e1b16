"""What is known of the job that gave a replication's answers: from metadata.json and the records'
provenance, as other tools' formats ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grace
from grace.digests import file_digest
from grace.errors import RecordError
from grace.provenance import sidecars
from grace.results.records import read_json

#: In words, by experiment.
EXPERIMENTS = {
    "exp1": "answers are generated",
    "exp2": "probabilities of the options are measured; nothing is generated",
}


@dataclass(frozen=True)
class ExportFacts:
    """One experiment of one replication of a study.

    Attributes:
        model: The hub's id; else the name of the entry.
        known_weights: Whether Grace saw the weights, or the hub's commit of them.
        provenance: `SHA-256` of the records' file, and `record` of its provenance record, which
            stands for all that the answers were made from.
    """

    study: str
    title: str
    experiment: str
    model_key: str
    model: str
    hub_id: str | None
    replication: int
    replication_id: str
    seeds: Mapping[str, int]
    generation: Mapping[str, Any]
    engine: str
    engine_version: str
    known_weights: bool
    model_details: Mapping[str, Any]
    deployment: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str | None
    dirty: bool | None
    started: str
    completed: str
    prompts: Mapping[str, str]
    provenance: Mapping[str, str]

    @property
    def name(self) -> str:
        """Names the experiment, such as `study1_exp1`."""
        return f"{self.study}_{self.experiment}"

    @property
    def described(self) -> str:
        """The experiment in words."""
        return f"{self.title}; experiment {self.experiment[-1]}: {EXPERIMENTS[self.experiment]}"


def export_facts(
    study: str, title: str, experiment: str, records: Path, metadata: Path
) -> ExportFacts:
    """The facts of `records`. Raises `RecordError` where metadata.json does not know them."""
    known = read_json(metadata)
    name = f"{study}_{experiment}"
    if name not in known["runs"]:
        raise RecordError(f"{metadata}: knows nothing of {name}. Delete the file and run again.")
    run, configuration = known["runs"][name], known["configuration"]
    jobs = run["answered_by"]
    deployment = known["deployment_info"]
    generation = dict(configuration["decoding"] or {}) if experiment == "exp1" else {}
    return ExportFacts(
        study=study,
        title=title,
        experiment=experiment,
        model_key=known["model_key"],
        model=known["hub_id"] or known["model_name"],
        hub_id=known["hub_id"],
        replication=known["replication_index"],
        replication_id=known["replication_id"],
        seeds={
            key: value
            for key, value in known["seeds"].items()
            if key in ("base_seed", f"{name}_seed")
        },
        generation={**generation, "temperature": run["temperature"]},
        engine=_one(deployment.get("engine")),
        engine_version=_one(deployment.get("engine_version")),
        known_weights=bool(known.get("weights_digest") or known.get("revision")),
        model_details={
            key: known.get(key) for key in ("model_source", "revision", "weights_digest")
        },
        deployment=deployment,
        versions={**(jobs[0]["versions"] if jobs else {}), "grace": grace.__version__},
        commit=run["commit"] if isinstance(run["commit"], str) else None,
        dirty=run["dirty"] if isinstance(run["dirty"], bool) else None,
        started=run["started"],
        completed=run["completed"],
        prompts=configuration["prompts"].get(name, {}),
        provenance={
            "file": records.name,
            "sha256": file_digest(records),
            "record": sidecars.record_digest(records) or "none",
        },
    )


def _one(value: Any) -> str:
    """A fact of all jobs, or of several in turn."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "unknown")
