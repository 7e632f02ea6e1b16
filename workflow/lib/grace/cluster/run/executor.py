"""Snakemake's executor `kubernetes`: what a run is, and what Snakemake asks of it.

What its pods are is `grace.cluster.run.pod_requests`, what becomes of them
`grace.cluster.run.jobs`, how Snakemake gets to this class `grace.cluster.run.plugin`.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_kubernetes as stock
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.utils import format_cli_arg, join_cli_args

from grace.cluster.plan import policy
from grace.cluster.plan.pods import CONTAINER, label_value, own_labels
from grace.cluster.plan.settings import RUN_SECRET, Cluster
from grace.cluster.run.api import Api, ApiError
from grace.cluster.run.jobs import Jobs
from grace.cluster.run.phases import PodPhases
from grace.cluster.run.pod_requests import ExecutorPlan, PodRequests, short_digest
from grace.cluster.run.queue import Order
from grace.cluster.run.secret import RunSecret
from grace.cluster.run.states import image_id
from grace.cluster.run.tracked import TrackedJob
from grace.errors import GraceError
from grace.runs.leftovers import replaced

#: Files that are named on the command line of a pod; more of them go into a file.
_WAIT_FILES = 20
#: Names of pods, which become names of files.
_POD = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
Json = dict[str, Any]


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
        self.pods = PodRequests(
            plan=self.plan,
            cluster=self.cluster,
            secret=self.secret,
            run=self.run_name,
            shared=self.shared,
            pod_facts=self._pod_facts,
            command=self.format_job_exec,
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
            manifest=self.pods.manifest,
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
        request = self.pods.request(job)
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

    # What the run is.

    def _refuse_what_breaks_policy(self) -> None:
        """Hold what the run will submit against the cluster's rules. Raises `GraceError`."""
        dag = self.workflow.dag
        jobs = [dag.get_job_group(job) or job for job in dag.needrun_jobs() if not job.is_local]
        requests = [self.pods.request(job) for job in dict.fromkeys(jobs)]
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
            return False, self.cluster.own(f"grace-{short_digest(prefix, self.plan.results)}")
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
        return True, self.cluster.own(f"grace-{short_digest(*place)}")

    def _end_on_sigterm(self) -> None:
        """Let SIGTERM end the run, but not its pods: an evicted controller starts again.

        The next one adopts them. Ctrl-C ends them, and so does `make cluster-down`.
        """

        def detach(*_: object) -> None:
            self._detached = True
            self.logger.warning(
                "Told to end (SIGTERM): the pods go on, and the same command again takes them up."
            )
            sys.exit(128 + signal.SIGTERM)

        if not self._handles_sigterm and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, detach)
            self._handles_sigterm = True


def _with_namespace(cluster: Cluster, namespace: str) -> Cluster:
    """The cluster, in the namespace of the command line if one is given there."""
    given = namespace != stock.ExecutorSettings.namespace
    return cluster.model_copy(update={"namespace": namespace}) if given else cluster


def _set_here(names: Iterable[str]) -> dict[str, str]:
    """Those of the environment variables that are set, with their values."""
    return {name: os.environ[name] for name in names if name in os.environ}
