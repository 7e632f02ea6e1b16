"""What a pod is for: a job of Snakemake's, or a group of them, as a request, and that as a Job.

A Job's name follows from what it makes, so that a run finds its own Jobs again however it ended
before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grace.cluster.plan.placement import Placement
from grace.cluster.plan.pods import WORKDIR, PodRequest, dns_name, job_manifest
from grace.cluster.plan.settings import Cluster
from grace.cluster.run.secret import RunSecret
from grace.cluster.run.tracked import MAKES
from grace.provenance.environment import POD_FACTS

#: Memory of a pod whose rule names none, in MB.
MEM_MB = 2000
#: Seconds that a pod has to end by itself.
TERMINATION_S = 5
Json = dict[str, Any]


@dataclass(frozen=True)
class ExecutorPlan:
    """What the executor knows of the project.

    `results` is the folder of the results; `placements` are each model's GPUs, the first choice
    first; `parallelism` is how many of a model's pods may run at once. `secrets` are names of
    environment variables that pods which ask a model get, where they are set here, `keys` those
    that only pods which ask this model get; `environment` is what all pods get. Where
    `reads_answers`, a model reads answers in pods of tables, which get the variables `reading`:
    `reader`, one of the run's own, or somebody's at an API.
    `expected` are minutes that a pod is expected to take, by group and model, where that is known.
    `name` is the cluster's. `recipes` says by recipe and rule or group what such a pod loads, as it
    is called in `placements`.
    """

    name: str
    cluster: Cluster
    results: str
    placements: Mapping[str, Sequence[Placement]]
    parallelism: Mapping[str, int] = field(default_factory=dict)
    secrets: Sequence[str] = ()
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reads_answers: bool = False
    reading: Sequence[str] = ()
    reader: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[tuple[str, str], float] = field(default_factory=dict)
    recipes: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PodRequests:
    """Makes requests and Jobs of a run.

    `run` is the run's name. Where pods are on the controller's volume (`shared`), they run in its
    folder and read in `pod_facts` what they cannot see of themselves. `command` is the shell's
    that a job runs in its pod.
    """

    plan: ExecutorPlan
    cluster: Cluster
    secret: RunSecret
    run: str
    shared: bool
    pod_facts: Path
    command: Callable[[Any], str]

    def request(self, job: Any) -> PodRequest:
        """What the pod of a job, or of a group of jobs, is to be."""
        members = list(job.jobs) if job.is_group() else [job]
        model, replication = _only(members, "model"), _only(members, "replication")
        recipe, seed = _only(members, "recipe"), _only(members, "training_seed")
        rule = str(job.groupid) if job.is_group() else str(job.rule.name)
        if recipe is not None:
            model = self.plan.recipes.get((recipe, rule))
        makes = {short_digest(str(file)): _work(one) for one in members for file in one.output}
        outputs = sorted(makes)
        # Numbers only: some resources are words, or not known before the job's inputs are.
        sizes = {key: value for key, value in dict(job.resources).items() if type(value) is int}
        reader = self.plan.reader if rule == "tables" else None
        options = self.plan.placements.get(reader or model or "", []) if sizes.get("gpu") else []
        return PodRequest(
            name=_name(
                [self.cluster.own("grace"), rule, recipe or model, seed or replication],
                [self.run, *outputs],
            ),
            run=self.run,
            rule=rule,
            model=model,
            replication=int(replication) if replication is not None else None,
            command=["/bin/sh", "-c", self.command(job)],
            placement=options[0] if options else None,
            cores=sizes.get("_cores", 1),
            mem_mb=sizes.get("mem_mb", MEM_MB),
            disk_mb=sizes.get("disk_mb") or None,
            runtime_min=sizes.get("runtime"),
            expected_min=self.plan.expected.get((rule, model or "")) if options else None,
            attempt=job.attempt,
            environment={
                "PYTHONPATH": f"{self._workdir()}/workflow/lib",
                **({POD_FACTS: str(self.pod_facts)} if self.shared else {}),
                **self.plan.environment,
            },
            secret_environment=self.secret.variables(rule, model),
            reads_answers=rule == "tables" and self.plan.reads_answers,
            annotations={MAKES: " ".join(f"{output}:{makes[output]}" for output in outputs)},
            shared=self.shared,
            reader=reader,
            recipe=recipe,
            training_seed=int(seed) if seed is not None else None,
        )

    def manifest(self, request: PodRequest) -> Json:
        """The Job of a request, as the API takes it."""
        manifest = job_manifest(request, self.cluster)
        pod = manifest["spec"]["template"]["spec"]
        pod["containers"][0]["workingDir"] = self._workdir()
        # Its shell ignores SIGTERM, and what models answered is on disk: no need to wait longer.
        pod["terminationGracePeriodSeconds"] = TERMINATION_S
        return manifest

    def _workdir(self) -> str:
        return str(Path.cwd()) if self.shared else WORKDIR


def short_digest(*parts: str) -> str:
    """Digest of words, 12 characters."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _name(words: Iterable[str | None], parts: Sequence[str]) -> str:
    """A Job's name: words for people, and a digest."""
    readable = "-".join(word for word in words if word is not None)
    return f"{dns_name(readable, 39)}-{short_digest(*parts)}"


def _only(members: Sequence[Any], wildcard: str) -> str | None:
    """The value of a wildcard that all members have, and the same; None otherwise."""
    values = {member.wildcards_dict.get(wildcard) for member in members}
    return values.pop() if len(values) == 1 else None


def _work(job: Any) -> str:
    """Digest of what a job does: whatever would make its outputs stale."""
    made_from = {key: job.params.get(key) for key in ("output_config", "code", "inputs")}
    wildcards = dict(job.wildcards_dict)
    return short_digest(
        json.dumps([job.rule.name, wildcards, made_from], sort_keys=True, default=str)
    )
