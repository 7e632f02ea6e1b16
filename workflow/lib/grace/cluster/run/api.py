"""The Kubernetes API as the executor needs it: few calls a second, each tried again, none for ever.

Objects are plain dicts, as the API gives them. Calls share a token bucket, so that a namespace's
controller is no burden to its cluster however many Jobs it watches.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.rest import ApiException

from grace.cluster.plan.policy import quantity
from grace.cluster.plan.settings import Cluster
from grace.errors import GraceError

Json = dict[str, Any]
#: Objects in one page of a list.
PAGE = 500
#: Seconds that a wait between two tries may take.
LONGEST_WAIT_S = 60.0
_UNAUTHORISED, _FORBIDDEN, _TOO_MANY = 401, 403, 429
#: Words of a 401 or 403 that is about the object, and not about who asks: it stays as long as the
#: rule. Policies and webhooks choose the status of their refusals.
_DENIALS = ("denied the request", "denied request", "violates PodSecurity", "usage per")
_QUOTA = re.compile(r"exceeded quota: \S+, requested: (\S+), used: \S+, limited: (\S+)")
#: What the client raises of credentials that are missing, cut off or none: it hardly checks them.
UNREADABLE = (
    config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, LookupError,
    AttributeError,
)  # fmt: skip

logger = logging.getLogger(__name__)


class ApiError(GraceError):
    """The API refused a call; `status` is HTTP's, 0 where no one answered."""

    def __init__(self, what: str, status: int, message: str) -> None:
        super().__init__(f"{what}: {message}")
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same call may do later: it is not the call that is wrong.

        An API server that has just started knows no one's rights and answers 403 to all.
        """
        forbidden = self.status == _FORBIDDEN and not self.quota and not self._denied
        return forbidden or self.unauthorised or self.status in (0, _TOO_MANY) or self.status >= 500

    @property
    def unauthorised(self) -> bool:
        """Whether it was made without credentials that are known, which others may yet be.

        A client whose plug-in gave it no token says nothing of it, and is then anonymous.
        """
        anonymous = self.status == _FORBIDDEN and "system:anonymous" in str(self)
        return anonymous or (self.status == _UNAUTHORISED and not self._denied)

    @property
    def quota(self) -> bool:
        """Whether the namespace's quota has no room for it, which may change."""
        return self.status == _FORBIDDEN and "exceeded quota" in str(self)

    @property
    def beyond_quota(self) -> bool:
        """Whether the namespace's quota would not have room for it if it were empty."""
        found = _QUOTA.search(str(self)) if self.quota else None
        if found is None:
            return False
        try:
            asked, most = (_quantities(part) for part in found.groups())
        except ValueError:
            return False
        return any(asked[key] > most[key] for key in asked.keys() & most.keys())

    @property
    def _denied(self) -> bool:
        return any(words in str(self) for words in _DENIALS)


class Bucket:
    """Lets `per_s` calls through in a second on average, and no more than that many at once."""

    def __init__(
        self,
        per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._per_s = per_s
        self._clock, self._sleep = clock, sleep
        self._most = max(1.0, per_s / 2)
        self._tokens, self._since = self._most, clock()

    def take(self) -> None:
        """Wait for the next call's turn."""
        self._fill()
        while self._tokens < 1 - 1e-9:  # a wait may be rounded to a little less than is missing
            self._sleep((1 - self._tokens) / self._per_s)
            self._fill()
        self._tokens -= 1

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._since) * self._per_s)
        self._since = now


@dataclass(frozen=True)
class Kinds:
    """The client's two groups of calls, rebuilt whenever the credentials are read."""

    batch: client.BatchV1Api
    core: client.CoreV1Api


def connect(context: str | None) -> Kinds:
    """Read the kubeconfig, or the credentials of the pod that this process is in.

    Raises `GraceError` where neither is whole.
    """
    settings = client.Configuration()
    try:
        # The client itself reads this variable once, when it is imported.
        file = os.environ.get("KUBECONFIG")
        config.load_kube_config(file, context, client_configuration=settings)
    except UNREADABLE as no_file:
        try:
            config.load_incluster_config(client_configuration=settings)
        except UNREADABLE:
            why = " ".join(str(no_file).split()).rstrip(".")
            raise GraceError(
                f"no access to a Kubernetes cluster: {why}. Set KUBECONFIG to"
                " the file that your cluster gave you, or put it at ~/.kube/config. (In a pod of"
                " the cluster: mount its service account's token.)"
            ) from None
    # Tries are counted here alone.
    settings.retries = urllib3.Retry(0, redirect=3)
    api = client.ApiClient(settings)
    return Kinds(client.BatchV1Api(api), client.CoreV1Api(api))


class Api:
    """Jobs, pods and Secrets of a cluster's namespace.

    Calls raise `ApiError` once their tries are used up, at once where trying again cannot help.
    What is about one Job is asked once, so that no other Job waits for it.
    Nothing is tried again, or waited for, once `stop` is set. `on_retry` gets a line for every
    failure that is tried again; `calls` counts what was sent.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        connect: Callable[[str | None], Kinds] = connect,
        clock: Callable[[], float] = time.monotonic,
        stop: threading.Event | None = None,
        on_retry: Callable[[str], object] = logger.warning,
    ) -> None:
        self._cluster = cluster
        self._connect, self._on_retry = connect, on_retry
        self._stop = stop or threading.Event()
        self._bucket = Bucket(cluster.api_calls_per_s, clock, self._stop.wait)
        self._kinds = connect(cluster.context)
        self.namespace = cluster.namespace
        self.calls = 0

    def jobs(self, selector: str) -> list[Json]:
        """All Jobs with these labels."""
        return list(
            self._pages(lambda **page: self._kinds.batch.list_namespaced_job(**page), selector)
        )

    def pods(self, selector: str) -> list[Json]:
        """All pods with these labels."""
        return list(
            self._pages(lambda **page: self._kinds.core.list_namespaced_pod(**page), selector)
        )

    def create_job(self, manifest: Json) -> None:
        """Create a Job; `ApiError` of status 409 where one of that name exists."""
        self._call(
            f"create the Job {manifest['metadata']['name']}",
            lambda **how: self._kinds.batch.create_namespaced_job(body=manifest, **how),
            attempts=1,
        )

    def delete_job(self, name: str) -> None:
        """Delete a Job; it stays in lists until its pods are gone."""
        self._delete(
            f"delete the Job {name}",
            lambda **how: self._kinds.batch.delete_namespaced_job(
                name=name, propagation_policy="Foreground", **how
            ),
            attempts=1,
        )

    def delete_jobs(self, selector: str) -> None:
        """Delete all Jobs with these labels, and their pods."""
        self._delete(
            "delete the run's Jobs",
            lambda **how: self._kinds.batch.delete_collection_namespaced_job(
                label_selector=selector, propagation_policy="Foreground", **how
            ),
        )

    def failed_creates(self) -> list[Json]:
        """The namespace's events of Jobs for which a pod could not be made; asked for once."""
        fields = "involvedObject.kind=Job,reason=FailedCreate"
        return list(
            self._pages(
                lambda **page: self._kinds.core.list_namespaced_event(
                    field_selector=fields, **page
                ),
                "",
                what="list events of Jobs",
                attempts=1,
            )
        )

    def log(self, pod: str, container: str, lines: int) -> str:
        """The last lines that a pod's container wrote."""
        answer: bytes = self._call(
            f"read the log of the pod {pod}",
            lambda **how: self._kinds.core.read_namespaced_pod_log(
                name=pod, container=container, tail_lines=lines, **how
            ),
            attempts=1,
        )
        return answer.decode("utf-8", "replace")

    def create_secret(self, manifest: Json) -> None:
        """Create a Secret in the place of any of that name."""
        name = manifest["metadata"]["name"]

        def create() -> None:
            self._call(
                f"create the Secret {name}",
                lambda **how: self._kinds.core.create_namespaced_secret(body=manifest, **how),
            )

        try:
            create()
        except ApiError as error:
            if error.status != 409:
                raise
            self.delete_secret(name)
            create()

    def delete_secret(self, name: str) -> None:
        """Delete a Secret, if it is there."""
        self._delete(
            f"delete the Secret {name}",
            lambda **how: self._kinds.core.delete_namespaced_secret(name=name, **how),
        )

    def _pages(
        self,
        page: Callable[..., Any],
        selector: str,
        what: str = "list the run's pods and Jobs",
        attempts: int | None = None,
    ) -> Iterator[Json]:
        """Objects of a list; a list that changed too much between two pages is begun anew."""
        found: list[Json] = []
        token: str | None = None
        while True:
            more = {"_continue": token} if token else {}
            try:
                answer = self._call(
                    what,
                    lambda more=more, **how: page(
                        label_selector=selector, limit=PAGE, **more, **how
                    ),
                    attempts,
                )
            except ApiError as error:
                if error.status != 410 or token is None:
                    raise
                found, token = [], None
                continue
            try:
                values = json.loads(answer)
            except ValueError:  # of something between us and the API
                raise ApiError("list the run's pods and Jobs", 0, "the answer is no list") from None
            found += values["items"]
            token = values["metadata"].get("continue")
            if not token:
                return iter(found)

    def _delete(self, what: str, call: Callable[..., Any], attempts: int | None = None) -> None:
        try:
            self._call(what, call, attempts)
        except ApiError as error:
            if error.status != 404:
                raise

    def _call(self, what: str, call: Callable[..., Any], attempts: int | None = None) -> Any:
        """One call, tried again unless it has one attempt; the answer's bytes."""
        attempts = attempts or self._cluster.api_attempts
        wait_s = self._cluster.api_backoff_s
        # A pair: the client takes no notice of a single number that is not whole.
        timeout_s = (self._cluster.api_timeout_s, self._cluster.api_timeout_s)
        for attempt in range(1, attempts + 1):
            self._bucket.take()
            self.calls += 1
            try:
                answer = call(
                    namespace=self.namespace,
                    _preload_content=False,
                    _request_timeout=timeout_s,
                )
                return answer.data
            except (
                ApiException, urllib3.exceptions.HTTPError, OSError, config.ConfigException,
            ) as error:  # fmt: skip
                failure, asked_s = _explained(what, error)
            if failure.unauthorised:
                failure = self._renew(what, failure)
            last = attempt == attempts or self._stop.is_set()
            if last or not failure.passing:
                raise failure
            longest = asked_s if asked_s is not None else wait_s * random.uniform(0.5, 1)
            pause_s = min(longest, LONGEST_WAIT_S)
            self._on_retry(f"{failure}; tried again in {pause_s:.0f} s.")
            self._stop.wait(pause_s)
            wait_s *= 2
        raise AssertionError("api_attempts is at least 1")

    def _renew(self, what: str, failure: ApiError) -> ApiError:
        """Read the credentials anew: they expire during a run. What the failed call is then due to.

        Who renews them writes the file anew, which is empty for a moment: that is one more failure
        of the call, and no end.
        """
        try:
            self._kinds = self._connect(self._cluster.context)
        except GraceError as error:
            return ApiError(what, _UNAUTHORISED, f"its credentials cannot be renewed: {error}")
        return failure


def _quantities(text: str) -> dict[str, float]:
    """`count/jobs.batch=1,requests.cpu=2` as numbers. Raises `ValueError`."""
    return {key: quantity(value) for key, value in (one.split("=") for one in text.split(","))}


def _explained(what: str, error: Exception) -> tuple[ApiError, float | None]:
    """A failed call in the server's own words, and the seconds after which it wants to be asked."""
    if isinstance(error, config.ConfigException):
        return ApiError(what, _UNAUTHORISED, str(error)), None
    if not isinstance(error, ApiException) or not error.status:
        reason = getattr(error, "reason", None)
        silence = f"the cluster's API does not answer ({reason or error or type(error).__name__})"
        return ApiError(what, 0, silence), None
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else error.body
    try:
        message = json.loads(body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason or body or "no reason given"
    try:
        asked_s = float((error.headers or {}).get("Retry-After", ""))
    except ValueError:
        asked_s = None
    return ApiError(what, error.status, f"{message} (HTTP {error.status})"), asked_s
