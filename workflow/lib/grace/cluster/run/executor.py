"""Snakemake's executor `kubernetes`: what a run and its pods are.

A Job's name follows from what it makes, so that a run finds its own Jobs again however it ended
before. What becomes of the run's Jobs is `grace.cluster.run.jobs`, how Snakemake gets to this class
`grace.cluster.run.plugin`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_kubernetes as stock
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.utils import format_cli_arg, join_cli_args

from grace.cluster.plan import policy
from grace.cluster.plan.placement import Placement
from grace.cluster.plan.pods import (
    CONTAINER,
    WORKDIR,
    PodRequest,
    dns_name,
    job_manifest,
    label_value,
    own_labels,
)
from grace.cluster.plan.settings import RUN_SECRET, Cluster
from grace.cluster.run.api import Api, ApiError
from grace.cluster.run.jobs import Jobs
from grace.cluster.run.phases import PodPhases
from grace.cluster.run.queue import Order
from grace.cluster.run.secret import RunSecret
from grace.cluster.run.states import image_id
from grace.cluster.run.tracked import MAKES, TrackedJob
from grace.errors import GraceError
from grace.provenance.environment import POD_FACTS
from grace.runs.leftovers import replaced

#: Memory of a pod whose rule names none, in MB.
MEM_MB = 2000
#: Seconds that a pod has to end by itself.
TERMINATION_S = 5
#: Files that are named on the command line of a pod; more of them go into a file.
_WAIT_FILES = 20
#: Names of pods, which become names of files.
_POD = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
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


class Executor(stock.Executor):
    """One pod a group of jobs."""

    make_plan: Callable[[], ExecutorPlan]

    def __init__(self, workflow: Any, logger: Any) -> None:
        # Snakemake's thread starts before `__post_init__`, which may take a while.
        self._ready = threading.Event()
        super().__init__(workflow, logger)

    def _wait_thread(self) -> None:
        self._ready.wait()
        if self.wait:
            super()._wait_thread()

    def __post_init__(self) -> None:
        self.wait = False  # the thread ends where this fails, or nothing is to be done
        #: Of each job that failed: why, as far as the cluster knows, and its pod's log.
        self.last_words: dict[Any, tuple[str, Path | None]] = {}
        try:
            self._begin()
            self.wait = bool(len(self.workflow.dag))
        except GraceError as error:
            raise WorkflowError(str(error)) from None
        finally:
            self._ready.set()
        if not self.wait:
            # Snakemake ends at once then, and a run that was killed may have left something.
            self.shutdown()

    def _begin(self) -> None:
        self.plan = self.make_plan()
        self.cluster = _with_namespace(self.plan.cluster, self.workflow.executor_settings.namespace)
        self._wake, self._over = threading.Event(), threading.Event()
        self._closed = self._handles_sigterm = self._detached = False
        self._answered = time.monotonic()
        self.shared, self.run_name = self._place()
        self.api = Api(self.cluster, stop=self._over, on_retry=self.logger.warning)
        labels = {**own_labels(self.cluster), "grace/run": label_value(self.run_name)}
        self.selector = ",".join(f"{key}={value}" for key, value in labels.items())
        logs = Path(self.workflow.persistence.aux_path) / "kubernetes-logs"
        logs.mkdir(exist_ok=True, parents=True)
        #: What pods cannot see of themselves, for them to read where they share this volume.
        self._pod_facts = Path(self.workflow.persistence.aux_path).absolute() / "kubernetes-pods"
        self._noted: set[str] = set()
        self._phases = PodPhases(self._pod_facts if self.shared else None, self.logger.info)
        self.secret = RunSecret(
            self.api,
            # One that a Role can name, where the run has its volume to itself.
            self.cluster.own(RUN_SECRET) if self.shared else self.run_name,
            run=self.run_name,
            labels=own_labels(self.cluster),
            keys=_set_here(self.plan.secrets),
            storage=self.envvars(),
            reading=_set_here(self.plan.reading),
            own_keys={model: _set_here(names) for model, names in self.plan.keys.items()},
        )
        self.jobs = Jobs(
            api=self.api,
            cluster=self.cluster,
            order=Order(
                list(self.plan.placements),
                self.plan.parallelism,
                self.cluster.peak_gpus,
                self.cluster.models_in_sequence,
            ),
            placements=self.plan.placements,
            selector=self.selector,
            logs=logs,
            omit_cleanup=bool(self.workflow.executor_settings.omit_job_cleanup),
            logger=self.logger,
            wake=self._wake,
            over=self._over,
            manifest=self._manifest,
            succeeded=self._succeeded,
            failed=self._failed,
            saw=self._saw,
            prepare=self.secret.create,
        )
        self._refuse_what_breaks_policy()
        if len(self.workflow.dag):
            self._find_cluster()
            self.logger.info(
                f"Its pods: kubectl -n {self.cluster.namespace} get pods -l {self.selector}"
            )

    # What Snakemake calls.

    def run_job(self, job: Any) -> None:
        """Submit a Job; the thread creates it when its turn has come."""
        self._end_on_sigterm()
        request = self._request(job)
        info = SubmittedJobInfo(job=job, external_jobid=request.name)
        self.jobs.submit(info, request)
        self.report_job_submission(info)
        self._wake.set()

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Reconcile once; Jobs that go on are given back."""
        if active_jobs and not self._over.is_set():
            self._reconcile_or_wait()
        else:
            self._answered = time.monotonic()
        for info in active_jobs:
            if info.external_jobid in self.jobs.tracked_jobs:
                yield info

    async def sleep(self) -> None:
        """Until it is time to reconcile again: the cluster's `poll_s`, or a new job."""
        await asyncio.to_thread(self._wake.wait, self.cluster.poll_s)
        self._wake.clear()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Nothing: `shutdown`, which follows, removes all that is left of the run."""

    def shutdown(self) -> None:
        """Leave nothing in the namespace; once."""
        with self.lock:
            if self._closed:
                return
            self._closed, self.wait = True, False
        self._over.set()
        self._wake.set()
        self.wait_thread.join()
        self._over.clear()
        if not self._detached:
            self._leave_nothing()
        super(stock.Executor, self).shutdown()

    def _leave_nothing(self) -> None:
        for step in (self.jobs.clean_up, self.secret.delete):
            try:
                step()
            except GraceError as error:
                self.logger.error(
                    f"{error}. What is left of this run in the cluster shows"
                    f" `kubectl -n {self.cluster.namespace} get jobs,secrets -l {self.selector}`;"
                    " the same command again takes it up."
                )

    def _reconcile_or_wait(self) -> None:
        """Reconcile; nothing is known while the API is away, which it may be for a while.

        Whatever it answers: one that restarts says many things that do not last.
        """
        try:
            self.jobs.reconcile()
        except ApiError as error:
            if time.monotonic() - self._answered > self.cluster.api_patience_s:
                self._detached = True
                raise WorkflowError(
                    f"{error}. The run ends here; its pods go on, and the same command again takes"
                    " them up."
                ) from None
        else:
            self._answered = time.monotonic()

    def _succeeded(self, tracked: TrackedJob) -> None:
        self.report_job_success(tracked.info)

    def _failed(self, tracked: TrackedJob, reason: str, log: Path | None) -> None:
        self.last_words[tracked.info.job] = (reason, log)
        self.report_job_error(
            tracked.info, msg=f"{reason}\n", aux_logs=[str(log)] if log is not None else []
        )

    def _saw(self, pod: Json) -> None:
        self._note_image(pod)
        self._phases.look(pod)

    def _note_image(self, pod: Json) -> None:
        """Keep what a pod's node says of its image where the pod's jobs find it; once."""
        name, found = str(pod["metadata"]["name"]), image_id(pod, CONTAINER)
        if not self.shared or found is None or name in self._noted or not _POD.fullmatch(name):
            return
        self._noted.add(name)
        try:
            with replaced(self._pod_facts / name) as partial:
                partial.write_text(found, encoding="utf-8")
        except OSError as error:
            self.logger.warning(
                f"{self._pod_facts}: cannot be written ({error.strerror}), so provenance will not"
                " hold the digest of the pods' image."
            )

    # The command of a pod.

    def get_python_executable(self) -> str:
        return "python"  # of the image, whatever the controller's is

    def get_job_args(self, job: Any) -> str:
        """The stock arguments, with the cores that the pod has, not those of its node."""
        arguments = RealExecutor.get_job_args(self, job, cores=job.resources.get("_cores", 1))
        return str(join_cli_args([arguments, self._wait_for_files(job)]))

    def _wait_for_files(self, job: Any) -> str:
        """Files that must have reached the pod's node over the shared volume."""
        files = [str(file) for file in job.get_wait_for_files()] if self.shared else []
        if not files:
            return ""
        if len(files) <= _WAIT_FILES:
            return str(format_cli_arg("--wait-for-files", files))
        path = Path(self.tmpdir) / f"{job.jobid}.waitforfiles.txt"
        path.write_text("\n".join(files) + "\n", encoding="utf-8")
        return str(format_cli_arg("--wait-for-files-file", str(path)))

    # What a pod is.

    def _request(self, job: Any) -> PodRequest:
        members = list(job.jobs) if job.is_group() else [job]
        model, replication = _only(members, "model"), _only(members, "replication")
        recipe, seed = _only(members, "recipe"), _only(members, "training_seed")
        rule = str(job.groupid) if job.is_group() else str(job.rule.name)
        if recipe is not None:
            model = self.plan.recipes.get((recipe, rule))
        makes = {_short(str(file)): _work(one) for one in members for file in one.output}
        outputs = sorted(makes)
        # Numbers only: some resources are words, or not known before the job's inputs are.
        sizes = {key: value for key, value in dict(job.resources).items() if type(value) is int}
        reader = self.plan.reader if rule == "tables" else None
        options = self.plan.placements.get(reader or model or "", []) if sizes.get("gpu") else []
        return PodRequest(
            name=_name(
                [self.cluster.own("grace"), rule, recipe or model, seed or replication],
                [self.run_name, *outputs],
            ),
            run=self.run_name,
            rule=rule,
            model=model,
            replication=int(replication) if replication is not None else None,
            command=["/bin/sh", "-c", self.format_job_exec(job)],
            placement=options[0] if options else None,
            cores=sizes.get("_cores", 1),
            mem_mb=sizes.get("mem_mb", MEM_MB),
            disk_mb=sizes.get("disk_mb") or None,
            runtime_min=sizes.get("runtime"),
            expected_min=self.plan.expected.get((rule, model or "")) if options else None,
            attempt=job.attempt,
            environment={
                "PYTHONPATH": f"{self._workdir()}/workflow/lib",
                **({POD_FACTS: str(self._pod_facts)} if self.shared else {}),
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

    def _manifest(self, request: PodRequest) -> Json:
        manifest = job_manifest(request, self.cluster)
        pod = manifest["spec"]["template"]["spec"]
        pod["containers"][0]["workingDir"] = self._workdir()
        # Its shell ignores SIGTERM, and what models answered is on disk: no need to wait longer.
        pod["terminationGracePeriodSeconds"] = TERMINATION_S
        return manifest

    def _workdir(self) -> str:
        return str(Path.cwd()) if self.shared else WORKDIR

    # What the run is.

    def _refuse_what_breaks_policy(self) -> None:
        """Hold what the run will submit against the cluster's rules. Raises `GraceError`."""
        dag = self.workflow.dag
        jobs = [dag.get_job_group(job) or job for job in dag.needrun_jobs() if not job.is_local]
        requests = [self._request(job) for job in dict.fromkeys(jobs)]
        policy.refuse(policy.check(requests, self.cluster), self.plan.name)

    def _find_cluster(self) -> None:
        """Ask it something, before any job waits for its answer. Raises `GraceError`."""
        try:
            self.api.jobs(self.selector)
        except ApiError as error:
            raise GraceError(
                f"{error}. Nothing was submitted. Does `kubectl get jobs` work here, with"
                f" `--namespace {self.cluster.namespace}`"
                + (f" and `--context {self.cluster.context}`" if self.cluster.context else "")
                + "? If not: a network or VPN that is off, a token that has expired, or rights that"
                " the namespace's administrator has to give (docs/kubernetes.md)."
            ) from None

    def _place(self) -> tuple[bool, str]:
        """Whether pods share the controller's volume, and the run's name. Raises `GraceError`."""
        storage = self.workflow.storage_settings
        here = Path.cwd()
        if storage.default_storage_provider is not None:
            if self.plan.placements and self.cluster.volume("journal") is None:
                raise GraceError(
                    f"answers would die with their pods: the cluster '{self.plan.name}' has no"
                    " volume for the journal. Make a claim that several pods can mount, and name it"
                    " in config/clusters.yaml, `volumes`, with `purpose: journal`."
                )
            prefix = str(storage.default_storage_prefix)
            return False, self.cluster.own(f"grace-{_short(prefix, self.plan.results)}")
        volume = self.cluster.volume("project")
        if volume is None or not here.is_relative_to(volume.mount):
            where = f"is mounted at {volume.mount}" if volume else "is none in this cluster's entry"
            raise GraceError(
                f"pods could not see this folder, {here}: the volume for projects (config/"
                f"clusters.yaml, `volumes`, purpose `project`) {where}. Run Snakemake in the"
                " cluster, in a folder of that volume (`make cluster-run`), or let files travel"
                " over storage: --default-storage-provider s3 --default-storage-prefix"
                " s3://BUCKET/FOLDER (docs/kubernetes.md)."
            )
        inside = here.relative_to(volume.mount).as_posix()
        place = [volume.claim, *filter(None, [volume.sub_path]), inside, self.plan.results]
        return True, self.cluster.own(f"grace-{_short(*place)}")

    def _end_on_sigterm(self) -> None:
        """Let SIGTERM end the run as Ctrl-C does, with its pods."""
        if not self._handles_sigterm and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
            self._handles_sigterm = True


def _with_namespace(cluster: Cluster, namespace: str) -> Cluster:
    """The cluster, in the namespace of the command line if one is given there."""
    given = namespace != stock.ExecutorSettings.namespace
    return cluster.model_copy(update={"namespace": namespace}) if given else cluster


def _set_here(names: Iterable[str]) -> dict[str, str]:
    """Those of the environment variables that are set, with their values."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _name(words: Iterable[str | None], parts: Sequence[str]) -> str:
    """A Job's name: words for people, and a digest."""
    readable = "-".join(word for word in words if word is not None)
    return f"{dns_name(readable, 39)}-{_short(*parts)}"


def _only(members: Sequence[Any], wildcard: str) -> str | None:
    """The value of a wildcard that all members have, and the same; None otherwise."""
    values = {member.wildcards_dict.get(wildcard) for member in members}
    return values.pop() if len(values) == 1 else None


def _work(job: Any) -> str:
    """Digest of what a job does: whatever would make its outputs stale."""
    made_from = {key: job.params.get(key) for key in ("output_config", "code", "inputs")}
    wildcards = dict(job.wildcards_dict)
    return _short(json.dumps([job.rule.name, wildcards, made_from], sort_keys=True, default=str))
