"""Snakemake's executor `kubernetes`: the stock plugin's place, with what it lacks.

What it keeps of the stock class is its settings (`--kubernetes-…`) and its place in Snakemake. A
Job's name follows from what it makes, so that a run finds its own Jobs again however it ended
before. One thread looks at all Jobs and pods of the run in two calls, compares what is there with
what is wanted, and makes one more like the other: creates, adopts, waits, reports, deletes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_kubernetes as stock
from snakemake.resources import Resources
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_executor_plugins.registry.plugin import Plugin
from snakemake_interface_executor_plugins.settings import SharedFSUsage
from snakemake_interface_executor_plugins.utils import format_cli_arg, join_cli_args

from grace.cluster.api import Api, ApiError
from grace.cluster.placement import Placement
from grace.cluster.pods import CONTAINER, WORKDIR, PodRequest, dns_name, job_manifest, label_value
from grace.cluster.queue import Order, Waiting, ready
from grace.cluster.settings import Cluster
from grace.cluster.states import Verdict, active, state, verdict
from grace.errors import GraceError

#: What pods share with a controller on the same volume: everything but installed software.
SHARED = frozenset(
    {
        SharedFSUsage.PERSISTENCE,
        SharedFSUsage.INPUT_OUTPUT,
        SharedFSUsage.SOURCES,
        SharedFSUsage.STORAGE_LOCAL_COPIES,
    }
)
#: Jobs at once where the command line does not say (`--jobs`).
JOBS = 500
#: Annotation of a Job: for each file that it makes, a digest of its name and one of its making.
MAKES = "grace/makes"
#: Memory of a pod whose rule names none, in MB.
MEM_MB = 2000
#: Seconds that a pod has to end by itself.
TERMINATION_S = 5
LOG_LINES = 200
#: Lines of a failed pod's log on the terminal.
TOLD_LINES = 20
#: Files that are named on the command line of a pod; more of them go into a file.
_WAIT_FILES = 20
Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What the executor is told of the project.

    `results` is the folder of the results; `placements` are each model's GPUs, the first choice
    first; `parallelism` is how many of a model's pods may run at once. `secrets` are names of
    environment variables that pods get, where they are set here.
    """

    cluster: Cluster
    results: str
    placements: Mapping[str, Sequence[Placement]]
    parallelism: Mapping[str, int] = field(default_factory=dict)
    secrets: Sequence[str] = ()


class KubernetesPlugin(Plugin):
    """The plugin under its stock name, told of the workflow once it is the chosen one.

    `chosen` says whether this run's jobs become pods, or would in a dry-run.
    """

    workflow: Any = None
    chosen = False

    def validate_settings(self, settings: Any) -> None:
        """Also: without a storage provider a volume is shared, and `--jobs` may be left out.

        Snakemake calls this for the executor that was chosen and no other, so that nothing changes
        for local runs.
        """
        super().validate_settings(settings)
        self.chosen = True
        workflow = self.workflow
        provider = workflow.storage_settings.default_storage_provider
        stored = provider is not None
        # Pods would be given the settings of every plugin that is installed here.
        workflow.storage_provider_settings = {
            name: given
            for name, given in workflow.storage_provider_settings.items()
            if name == provider
        }
        self.common_settings = replace(
            stock.common_settings,
            implies_no_shared_fs=stored,
            # The image holds what the run needs.
            auto_deploy_default_storage_provider=False,
        )
        if not stored and workflow.storage_settings.shared_fs_usage == SharedFSUsage.all():
            workflow.storage_settings.shared_fs_usage = SHARED
        if workflow.resource_settings.default_resources is None:
            # The full ones would limit each pod's disk to what its inputs take.
            workflow.resource_settings.default_resources = Resources.default("bare")
        # The profile gives this machine's, which would limit what a pod gets.
        workflow.global_resources["_cores"] = None
        if workflow.resource_settings.nodes is None:
            workflow.resource_settings.nodes = JOBS
            workflow.global_resources["_nodes"] = JOBS


def register(workflow: Any, plan: Callable[[], Plan]) -> KubernetesPlugin:
    """Put our executor into the stock one's place, for this process.

    `plan` is called once the executor is used; its `GraceError` is the user's mistake.
    """
    stock_plugin = ExecutorPluginRegistry().plugins["kubernetes"]
    plugin = KubernetesPlugin(
        executor=type("Executor", (Executor,), {"make_plan": staticmethod(plan)}),
        common_settings=stock_plugin.common_settings,
        _executor_settings_cls=stock_plugin.settings_cls,
        _name=stock_plugin.name,
    )
    plugin.workflow = workflow
    ExecutorPluginRegistry().plugins["kubernetes"] = plugin
    return plugin


@dataclass
class Task:
    """A Job of the cluster that this run wants, or has.

    `since` is when its present phase began; `told` is the last reason for waiting that was shown.
    """

    info: SubmittedJobInfo
    request: PodRequest
    created: bool = False
    phase: str = ""
    since: float = 0.0
    told: str = ""
    tries: int = 1
    placement: int = 0

    @property
    def name(self) -> str:
        return self.request.name

    def adopt(self, name: str) -> None:
        """Take a Job that runs for this one."""
        self.request = replace(self.request, name=name)
        self.info.external_jobid = name
        self.created = True

    def waiting(self) -> Waiting:
        return Waiting(self.name, self.request.model, self.request.gpus)

    def seconds_in(self, phase: str, now: float) -> float:
        """Seconds since it has been in this phase."""
        if phase != self.phase:
            self.phase, self.since = phase, now
        return now - self.since


class Executor(stock.Executor):
    """One pod a group of jobs."""

    make_plan: Callable[[], Plan]

    def __init__(self, workflow: Any, logger: Any) -> None:
        # Snakemake's thread starts before `__post_init__`, which may take a while.
        self._ready = threading.Event()
        super().__init__(workflow, logger)

    def _wait_thread(self) -> None:
        self._ready.wait()
        super()._wait_thread()

    def __post_init__(self) -> None:
        try:
            self.plan = self.make_plan()
        except GraceError as error:
            raise WorkflowError(str(error)) from None
        self.cluster = _with_namespace(self.plan.cluster, self.workflow.executor_settings.namespace)
        self.omit_cleanup = bool(self.workflow.executor_settings.omit_job_cleanup)
        self.order = Order(
            list(self.plan.placements),
            self.plan.parallelism,
            self.cluster.peak_gpus,
            self.cluster.models_in_sequence,
        )
        self.tasks: dict[str, Task] = {}
        self._failed: dict[str, Task] = {}
        self._ended: set[str] = set()
        self._wake, self._over = threading.Event(), threading.Event()
        self._closed = self._handles_sigterm = False
        self._answered = time.monotonic()
        self._secret: dict[str, tuple[str, str]] = {}
        try:
            self.shared, self.run_name = self._place()
            self.api = Api(self.cluster, stop=self._over, tell=self.logger.warning)
            self._create_secret()
        except GraceError as error:
            raise WorkflowError(str(error)) from None
        self.selector = f"app.kubernetes.io/name=grace,grace/run={label_value(self.run_name)}"
        self.logs = self.workflow.persistence.aux_path / "kubernetes-logs"
        self.logs.mkdir(exist_ok=True, parents=True)
        self.logger.info(
            f"Its pods: kubectl -n {self.cluster.namespace} get pods -l {self.selector}"
        )
        self._ready.set()

    # What Snakemake calls.

    def run_job(self, job: Any) -> None:
        """Want a Job; the thread creates it when its turn has come."""
        self._end_on_sigterm()
        task = self._task(job)
        self.tasks[task.name] = task
        self.report_job_submission(task.info)
        self._wake.set()

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Look once; Jobs that go on are given back."""
        if active_jobs and not self._over.is_set():
            self._look_or_wait()
        else:
            self._answered = time.monotonic()
        for info in active_jobs:
            if info.external_jobid in self.tasks:
                yield info

    async def sleep(self) -> None:
        """Until the next look: the cluster's `poll_s`, or a new job."""
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
        try:
            self._clean_up()
        except GraceError as error:
            self.logger.error(
                f"{error}. What is left of this run in the cluster shows"
                f" `kubectl -n {self.cluster.namespace} get jobs,secrets -l {self.selector}`; the"
                " same command again takes it up."
            )
        super(stock.Executor, self).shutdown()

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

    # One look.

    def _look_or_wait(self) -> None:
        """Look; nothing is known while the API is away, which it may be for a while."""
        try:
            self._look()
        except ApiError as error:
            if not error.passing:
                raise WorkflowError(str(error)) from None
            if time.monotonic() - self._answered > self.cluster.api_patience_s:
                raise WorkflowError(
                    f"{error}. The run ends here; its pods go on, and the same command again takes"
                    " them up."
                ) from None
        else:
            self._answered = time.monotonic()

    def _look(self) -> None:
        """Compare what is there with what is wanted, and act."""
        # What the bucket lets through until the next look; lists come first.
        most = self.api.calls + max(3, int(self.cluster.api_calls_per_s * self.cluster.poll_s))
        jobs = {job["metadata"]["name"]: job for job in self.api.jobs(self.selector)}
        pods: dict[str, list[Json]] = {}
        for pod in self.api.pods(self.selector):
            pods.setdefault(pod["metadata"]["labels"].get("job-name", ""), []).append(pod)
        places: list[Task] = []
        for task in list(self.tasks.values()):
            if task.created:
                self._judge(task, jobs.get(task.name), pods.get(task.name, []))
            elif self._is_free(task, jobs):
                places.append(task)
        self._create(places, most)
        for name in [] if self.omit_cleanup else sorted(self._ended - self.tasks.keys()):
            if self.api.calls >= most or self._over.is_set():
                break
            self._delete(name)

    def _is_free(self, task: Task, jobs: Mapping[str, Json]) -> bool:
        """Whether a Job may be created now; one that does the same already is adopted.

        Never are there two that make the same file: what is left of another run, or of a try
        before, is deleted and waited for. One that makes more does, too: what it had finished is
        not wanted any more.
        """
        makes = _makes(task.request.annotations)
        others = [job for job in jobs.values() if makes.keys() & _makes(_annotations(job)).keys()]
        names = [job["metadata"]["name"] for job in others]
        mine = {name for name in names if name in self.tasks and self.tasks[name].created}
        same = len(others) == 1 and makes.items() <= _makes(_annotations(others[0])).items()
        if same and active(others[0]) and not mine and names[0] not in self._ended:
            self.logger.info(f"{names[0]} runs already: adopted.")
            del self.tasks[task.name]
            task.adopt(names[0])
            self.tasks[task.name] = task
            return False
        for name, job in zip(names, others, strict=True):
            if name not in mine and not _deleted(job):
                self._delete(name)
        return not others

    def _create(self, places: Sequence[Task], most: int) -> None:
        """Create those of the tasks whose turn it is, until so many calls were made."""
        free = {task.name for task in places}
        # One that waits for what was there before it to go has its place already.
        taken = [task.waiting() for task in self.tasks.values() if task.name not in free]
        for name in ready([task.waiting() for task in places], taken, self.order):
            task = self.tasks[name]
            if self.api.calls >= most or self._over.is_set():
                self._wake.set()
                break
            try:
                self.api.create_job(self._manifest(task.request))
            except ApiError as error:
                if error.status != 409 and not error.passing:
                    self._fail(task, str(error), None)
                continue  # otherwise the next look shows what came of it
            task.created, task.phase = True, ""
            self._ended.discard(name)
            self.logger.info(f"Job {name}: {task.request.rule}.")

    def _judge(self, task: Task, job: Json | None, pods: list[Json]) -> None:
        """Tell Snakemake if a Job has ended, or start it again."""
        seen = state(job, pods, CONTAINER)
        found = verdict(seen, task.seconds_in(seen.phase, time.monotonic()), self.cluster)
        if found.kind == "active":
            if found.reason and found.reason != task.told and seen.phase == "unscheduled":
                task.told = found.reason
                self.logger.info(f"{task.name} waits: {found.reason}")
            return
        if found.kind == "succeeded":
            self._ended.add(task.name)
            del self.tasks[task.name]
            self.report_job_success(task.info)
            return
        again = self._again(task, found)
        if seen.phase in ("failed", "lost"):
            log = self._log(task, seen.pod)
            self._ended.add(task.name)
        else:  # it has not begun, or is gone
            log = None
            self._delete(task.name)
        if again is not None:
            self.logger.warning(
                f"{task.name} ({task.request.rule}): {found.reason}. Started again, try"
                f" {again.tries} of {self.cluster.tries}: {_needs(again.request)}."
            )
            self.tasks[task.name] = again
            return
        self._failed[task.name] = self._changed(task, found)
        self._fail(task, found.reason, log)

    def _again(self, task: Task, found: Verdict) -> Task | None:
        """The next try of a Job that the cluster ended, not what ran; None where there is none."""
        if task.tries >= self.cluster.tries or not (found.again or found.move):
            return None
        changed = self._changed(task, found)
        if found.move and changed.placement <= task.placement:
            return None
        return replace(changed, tries=task.tries + 1)

    def _changed(self, task: Task, found: Verdict) -> Task:
        """What another try is to have: more memory after OOMKilled, the next GPUs in the list."""
        request, placement = task.request, task.placement
        if found.oom:
            own = (request.memory_mib - request.shm_mib) * self.cluster.more_memory
            request = replace(request, mem_mb=math.ceil(own * 2**20 / 10**6))
        options = self.plan.placements.get(request.model or "", [])
        if found.move and request.placement is not None:
            placement = (placement + 1) % len(options)
            request = replace(request, placement=options[placement])
        return Task(task.info, request, placement=placement)

    def _fail(self, task: Task, reason: str, log: Path | None) -> None:
        told = ""
        if log is not None:
            lines = log.read_text(encoding="utf-8").splitlines()[-TOLD_LINES:]
            told = "\n".join([f"\nThe pod's last lines ({log}):", *lines])
        self.logger.error(f"{task.name} ({task.request.rule}) failed: {reason}{told}")
        del self.tasks[task.name]
        self.report_job_error(
            task.info, msg=f"{reason}\n", aux_logs=[str(log)] if log is not None else []
        )

    def _log(self, task: Task, pod: str | None) -> Path | None:
        """What a failed pod wrote, as a file here; None where it cannot be had."""
        if pod is None:
            return None
        path = Path(self.logs) / f"{task.name}.log"
        try:
            path.write_text(self.api.log(pod, CONTAINER, LOG_LINES), encoding="utf-8")
        except ApiError as error:
            self.logger.warning(str(error))
            return None
        return path

    def _delete(self, name: str) -> None:
        """Delete a Job; what cannot be deleted now is at the end of the run."""
        try:
            self.api.delete_job(name)
            self._ended.discard(name)
        except ApiError as error:
            self.logger.warning(str(error))

    def _clean_up(self) -> None:
        """Delete what is left of the run, and wait until it is gone."""
        deadline = time.monotonic() + self.cluster.grace_s
        while left := [job for job in self.api.jobs(self.selector) if self._is_rubbish(job)]:
            for job in left if self.omit_cleanup else []:
                self.api.delete_job(job["metadata"]["name"])
            if not self.omit_cleanup and any(not _deleted(job) for job in left):
                self.api.delete_jobs(self.selector)
            if time.monotonic() >= deadline:
                raise GraceError("the run's Jobs were deleted, but do not go away")
            self._over.wait(min(1.0, self.cluster.poll_s))
        if self._secret:
            self.api.delete_secret(self.run_name)

    def _is_rubbish(self, job: Json) -> bool:
        """Whether a Job is to go at the end of the run."""
        if not self.omit_cleanup or _deleted(job):
            return True
        return active(job) and job["metadata"]["name"] not in self._ended

    # What a pod is.

    def _task(self, job: Any) -> Task:
        members = list(job.jobs) if job.is_group() else [job]
        model, replication = _only(members, "model"), _only(members, "replication")
        rule = str(job.groupid) if job.is_group() else str(job.rule.name)
        makes = {_short(str(file)): _work(one) for one in members for file in one.output}
        outputs = sorted(makes)
        # Numbers only: some resources are words, or not known before the job's inputs are.
        sizes = {key: value for key, value in dict(job.resources).items() if type(value) is int}
        options = self.plan.placements.get(model or "", []) if sizes.get("gpu") else []
        request = PodRequest(
            name=_name([rule, model, replication], [self.run_name, *outputs]),
            run=self.run_name,
            rule=rule,
            model=model,
            replication=int(replication) if replication is not None else None,
            command=["/bin/sh", "-c", self.format_job_exec(job)],
            placement=options[0] if options else None,
            cores=sizes.get("_cores", 1),
            mem_mb=sizes.get("mem_mb", MEM_MB),
            disk_mb=sizes.get("disk_mb"),
            runtime_min=sizes.get("runtime"),
            attempt=job.attempt,
            environment={"PYTHONPATH": f"{self._workdir()}/workflow/lib"},
            secret_environment=self._secret,
            annotations={MAKES: " ".join(f"{output}:{makes[output]}" for output in outputs)},
            shared=self.shared,
        )
        before = self._failed.pop(request.name, None)
        if before is not None and job.attempt > 1:
            placement, mem_mb = before.request.placement, before.request.mem_mb
            request = replace(request, placement=placement, mem_mb=max(mem_mb, request.mem_mb))
        info = SubmittedJobInfo(job=job, external_jobid=request.name)
        return Task(info, request, placement=before.placement if before else 0)

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

    def _place(self) -> tuple[bool, str]:
        """Whether pods share the controller's volume, and the run's name. Raises `GraceError`."""
        storage = self.workflow.storage_settings
        here = Path.cwd()
        if storage.default_storage_provider is not None:
            prefix = str(storage.default_storage_prefix)
            return False, f"grace-{_short(prefix, self.plan.results)}"
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
        return True, f"grace-{_short(volume.claim, inside, self.plan.results)}"

    def _create_secret(self) -> None:
        """A Secret with the environment that pods are to have, if there is any."""
        given = {name: os.environ[name] for name in self.plan.secrets if name in os.environ}
        values = {**given, **self.envvars()}
        if not values:
            return
        self._secret = {name: (self.run_name, name) for name in values}
        self.api.create_secret(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "Opaque",
                "metadata": {
                    "name": self.run_name,
                    "namespace": self.cluster.namespace,
                    "labels": {
                        "app.kubernetes.io/name": "grace",
                        "grace/run": label_value(self.run_name),
                    },
                },
                "data": {
                    name: base64.b64encode(value.encode()).decode()
                    for name, value in values.items()
                },
            }
        )

    def _end_on_sigterm(self) -> None:
        """Let SIGTERM end the run as Ctrl-C does, with its pods."""
        if not self._handles_sigterm and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
            self._handles_sigterm = True


def _with_namespace(cluster: Cluster, namespace: str) -> Cluster:
    """The cluster, in the namespace of the command line if one is given there."""
    given = namespace != stock.ExecutorSettings.namespace
    return cluster.model_copy(update={"namespace": namespace}) if given else cluster


def _deleted(job: Json) -> bool:
    return bool(job["metadata"].get("deletionTimestamp"))


def _annotations(job: Json) -> Mapping[str, str]:
    return job["metadata"].get("annotations") or {}


def _makes(annotations: Mapping[str, str]) -> dict[str, str]:
    """Digests of the files that a Job makes, each with that of its making."""
    return dict(pair.split(":") for pair in annotations.get(MAKES, "").split())


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _name(words: Iterable[str | None], parts: Sequence[str]) -> str:
    """A Job's name: words for people, and a digest."""
    told = "-".join(["grace", *(word for word in words if word is not None)])
    return f"{dns_name(told, 39)}-{_short(*parts)}"


def _only(members: Sequence[Any], wildcard: str) -> str | None:
    """The value of a wildcard that all members have, and the same; None otherwise."""
    values = {member.wildcards_dict.get(wildcard) for member in members}
    return values.pop() if len(values) == 1 else None


def _work(job: Any) -> str:
    """Digest of what a job does: whatever would make its outputs stale."""
    told = {key: job.params.get(key) for key in ("cell", "code", "inputs")}
    wildcards = dict(job.wildcards_dict)
    return _short(json.dumps([job.rule.name, wildcards, told], sort_keys=True, default=str))


def _needs(request: PodRequest) -> str:
    """What a pod has, for people."""
    gpus = f", {request.gpus} × {request.placement.tag}" if request.placement else ""
    return f"{request.cpu} cores, {request.memory_mib} MiB{gpus}"
