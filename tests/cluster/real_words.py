"""What a real API server, controller manager and scheduler say, and what Grace makes of it.

`make test-cluster` runs these with the rest. With GRACE_TEST_PODS=no they need no image, containerd
or kubelet: their node is an object that no machine stands behind. The stand-in's words
(tests/support/kube_admission.py, kube_faults.py) are compared with the server's.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import kube_admission
import pytest
from kube_faults import NO_ROLES_YET, ApiFaults, no_right
from kube_objects import Refused
from kube_words import (
    NAMESPACE,
    NODE,
    Webhook,
    admin,
    events,
    job,
    kill_api_server,
    limit,
    minor,
    pods_of,
    shape,
)
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError
from waiting import wait_until

from grace.cluster.plan.settings import Cluster
from grace.cluster.run.api import Api, ApiError, connect
from grace.cluster.run.disruptions import disruption
from grace.cluster.run.pod_refusals import PodRefusal, refusals
from grace.cluster.run.states import JobState, job_state, lacks

ROOT = Path(__file__).parents[2]
MINOR = minor()
RESTARTS = int(os.environ.get("GRACE_TEST_RESTARTS", "5"))
MANIFESTS = sorted((ROOT / "tests/unit/golden/pods").glob("*-*.yaml"))
pytestmark = pytest.mark.usefixtures("empty_namespace")


def since(minor: int, what: str) -> pytest.MarkDecorator:
    """For a test of what Kubernetes has since this version."""
    return pytest.mark.skipif(minor > MINOR, reason=f"{what} is younger than Kubernetes 1.{MINOR}")


@pytest.fixture
def api(rights: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Grace's own calls, as the controller makes them."""
    monkeypatch.setenv("KUBECONFIG", str(rights))
    made = Api(Cluster(namespace=NAMESPACE, api_attempts=2, api_backoff_s=0.1))
    monkeypatch.undo()
    return made


def refused_create(api: Api, name: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        api.create_job(job(name))
    return caught.value


def pod_refusal(api: Api, name: str) -> PodRefusal:
    """What the controller of Jobs noted of a pod that could not be made, as Grace reads it."""

    def found() -> dict[str, PodRefusal]:
        return refusals(
            one for one in api.failed_creates() if one["involvedObject"]["name"] == name
        )

    wait_until(found, 120, f"the event of {name}'s pod; there are {events()}")
    (refusal,) = found().values()
    return refusal


def of_any_age(words: str) -> str:
    """The shape of words on a webhook: Kubernetes 1.20 leaves some of them out."""
    return shape(words).replace("failed to call webhook: ", "")


def of_any_role(words: str) -> str:
    """A 403 without which roles, and how many, are not known yet."""
    one = r'(cluster)?role\.rbac\.authorization\.k8s\.io "…" not found'
    return re.sub(rf"RBAC: \[?{one}(, {one})*\]?", "RBAC: not found", words)


def state(name: str) -> JobState:
    found = json.loads(admin("get", "job", name, "-o", "json"))
    return job_state(found, pods_of(name), "grace")


def test_a_quota_on_jobs_counts_those_that_ended_until_they_are_deleted(api: Api) -> None:
    limit("ResourceQuota", hard={"count/jobs.batch": "1"})
    api.create_job(job("first"))
    error = refused_create(api, "second")
    faults = ApiFaults()
    faults.quotas = {"jobs": 1}
    with pytest.raises(Refused) as ours:
        faults.admit("jobs", job("second"), 1)
    assert shape(str(error)) == shape(f"create the Job second: {ours.value} (HTTP 403)")
    assert error.quota
    assert not error.beyond_quota
    assert not error.passing
    api.delete_job("first")
    # No kubelet ends its pod, which holds the Job.
    admin("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")

    def made() -> bool:
        try:
            api.create_job(job("second"))
        except ApiError as again:
            if not again.quota:
                raise
            return False
        return True

    wait_until(made, 60, "room in the quota")


def test_a_quota_without_room_for_one_is_known_as_that(api: Api) -> None:
    limit("ResourceQuota", hard={"count/jobs.batch": "0"})
    assert refused_create(api, "none").beyond_quota


def test_a_quota_on_gpus_refuses_pods_in_passing(api: Api) -> None:
    limit("ResourceQuota", hard={"requests.nvidia.com/gpu": "0"})
    api.create_job(job("gpu", gpus=1))
    refusal = pod_refusal(api, "gpu")
    assert shape(refusal.words) == shape(f'pods "gpu-x" {kube_admission.QUOTA}')
    assert not refusal.final
    assert lacks(refusal.words, "nvidia.com/gpu")


def test_a_limit_range_refuses_pods_for_good(api: Api) -> None:
    limit("LimitRange", limits=[{"type": "Container", "max": {"memory": "16Mi"}}])
    api.create_job(job("large"))
    refusal = pod_refusal(api, "large")
    assert shape(refusal.words) == shape(f'pods "large-x" {kube_admission.LIMIT_RANGE}')
    assert refusal.final


def test_a_priority_class_that_is_missing_refuses_pods_for_good(api: Api) -> None:
    api.create_job(job("urgent", priorityClassName="opportunistic"))
    refusal = pod_refusal(api, "urgent")
    assert "no PriorityClass with name opportunistic was found" in refusal.words
    assert refusal.final


def test_a_service_account_that_is_missing_is_told(api: Api) -> None:
    api.create_job(job("account", serviceAccountName="nobody"))
    assert 'serviceaccount "nobody" not found' in pod_refusal(api, "account").words


def test_a_webhook_that_denies_pods_refuses_them_for_good(api: Api) -> None:
    with Webhook("pods", denies="name your team"):
        api.create_job(job("unnamed"))
        refusal = pod_refusal(api, "unnamed")
    assert refusal.words == kube_admission.WEBHOOK
    assert refusal.final


@pytest.mark.parametrize("how", ["answers 500", "is down"])
def test_a_webhook_that_fails_refuses_pods_in_passing(api: Api, how: str) -> None:
    with Webhook("pods", fails=how == "answers 500", down=how == "is down"):
        api.create_job(job("waits"))
        refusal = pod_refusal(api, "waits")
    assert not refusal.final, refusal
    if how == "answers 500":
        assert of_any_age(refusal.words) == of_any_age(kube_admission.WEBHOOK_DOWN)
    else:
        assert "failed calling webhook" in refusal.words
        assert "connection refused" in refusal.words
    wait_until(lambda: pods_of("waits"), 120, "its pod, once the webhook is gone")


def test_a_webhook_that_denies_jobs_with_401_says_nothing_of_who_asks(api: Api) -> None:
    with Webhook("jobs", denies="name your team", status=401):
        error = refused_create(api, "denied")
    assert (error.status, error.unauthorised, error.passing) == (401, False, False)


def test_a_webhook_on_jobs_denies_them_at_once_and_fails_in_passing(api: Api) -> None:
    with Webhook("jobs", denies="name your team"):
        error = refused_create(api, "denied")
        assert "denied the request: name your team" in str(error)
        assert not error.passing
    with Webhook("jobs", fails=True):
        error = refused_create(api, "fails")
        faults = ApiFaults()
        faults.webhook = lambda body: True
        with pytest.raises(Refused) as ours:
            faults.admit("jobs", job("fails"), 0)
        said = of_any_age(f"create the Job fails: {ours.value} (HTTP 500)")
        assert of_any_age(str(error)) == said
        assert error.passing


@since(30, "ValidatingAdmissionPolicy")
def test_a_policy_refuses_pods_for_good(api: Api) -> None:
    for one in kube_admission.policy(NAMESPACE):
        admin("create", "-f", "-", given=json.dumps(one))
    try:
        time.sleep(5)  # the server compiles it in the background
        api.create_job(job("teamless"))
        refusal = pod_refusal(api, "teamless")
        assert shape(refusal.words) == shape(f'pods "teamless-x" {kube_admission.POLICY}')
        assert refusal.final
    finally:
        admin("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "lab")


def test_a_taint_is_the_schedulers_word_and_a_toleration_passes(api: Api) -> None:
    admin("taint", "node", NODE, "nvidia.com/gpu=present:NoSchedule")
    tolerates = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    api.create_job(job("shy"))
    api.create_job(job("bold", tolerations=tolerates))
    wait_until(lambda: state("bold").phase == "starting", 60, "a node for what tolerates")
    wait_until(lambda: state("shy").phase == "unscheduled", 60, "the scheduler's words")
    assert "taint" in state("shy").reason
    assert "nvidia.com/gpu" in state("shy").reason


def test_a_lack_of_gpus_is_the_schedulers_word(api: Api) -> None:
    api.create_job(job("many", gpus=3))
    wait_until(lambda: state("many").phase == "unscheduled", 60, "the scheduler's words")
    assert lacks(state("many").reason, "nvidia.com/gpu")
    assert not lacks(state("many").reason, "nvidia.com/a100")


def test_a_pod_that_is_pre_empted_names_the_scheduler(api: Api) -> None:
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    admin("apply", "-f", "-", given=json.dumps({**urgent, "metadata": {"name": "urgent"}}))
    api.create_job(job("low", gpus=1))
    wait_until(lambda: state("low").phase == "starting", 60, "its node")
    api.create_job(job("high", gpus=1, priorityClassName="urgent"))

    def ended() -> list[dict[str, Any]]:  # its next pod may be there, too
        return [pod for pod in pods_of("low") if pod["metadata"].get("deletionTimestamp")]

    wait_until(ended, 60, "pre-emption")
    (pod,) = ended()
    if MINOR >= 26:
        assert (disruption(pod) or {}).get("reason") == "PreemptionByScheduler"
        assert state("low").disrupted
    else:
        assert state("low").phase in ("ending", "unscheduled")  # the second: of its next pod


def test_a_pod_that_is_evicted_names_the_eviction(api: Api) -> None:
    api.create_job(job("drained"))
    wait_until(lambda: state("drained").phase == "starting", 60, "its node")
    (pod,) = pods_of("drained")
    version = "policy/v1" if MINOR >= 22 else "policy/v1beta1"
    name = {"name": pod["metadata"]["name"], "namespace": NAMESPACE}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name['name']}/eviction"
    body = {"apiVersion": version, "kind": "Eviction", "metadata": name}
    admin("create", "--raw", path, "-f", "-", given=json.dumps(body))

    def goes() -> bool:
        same = [
            one for one in pods_of("drained") if one["metadata"]["uid"] == pod["metadata"]["uid"]
        ]
        return not same or "deletionTimestamp" in same[0]["metadata"]

    wait_until(goes, 60, "the eviction")
    if MINOR >= 26:
        (seen, *_) = pods_of("drained")
        assert (disruption(seen) or {}).get("reason") == "EvictionByEvictionAPI"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_pass_the_servers_own_checks(api: Api, path: Path) -> None:
    text = re.sub(r"namespace: [\w-]+", f"namespace: {NAMESPACE}", path.read_text())
    # What an old server does not know it drops, unless kubectl is asked to look first.
    strict = "strict" if MINOR >= 29 else "false"
    admin("create", "-f", "-", "--dry-run=server", f"--validate={strict}", given=text)


@since(29, "backoffLimitPerIndex")
def test_an_index_that_fails_leaves_the_others_and_disruptions_are_not_counted(api: Api) -> None:
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    indexed = job("indexed")
    indexed["spec"] |= {
        "completionMode": "Indexed",
        "completions": 2,
        "parallelism": 2,
        "backoffLimitPerIndex": 0,
        "podFailurePolicy": {"rules": [rule]},
    }
    del indexed["spec"]["backoffLimit"]
    api.create_job(indexed)
    wait_until(lambda: len(pods_of("indexed")) == 2, 60, "both indices' pods")
    first, second = (pod["metadata"]["name"] for pod in pods_of("indexed"))
    target = [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]
    for name, conditions in ((first, []), (second, target)):
        status = {"phase": "Failed", "conditions": conditions}
        patch = json.dumps({"status": status})
        admin("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)

    def told() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(admin("get", "job", "indexed", "-o", "json"))["status"]
        return found

    wait_until(lambda: told().get("failedIndexes"), 60, "the index that failed")
    assert told()["failedIndexes"] in ("0", "1")
    wait_until(lambda: told().get("active") == 1, 60, "the disrupted index's next pod")


def test_no_answer_of_a_server_that_starts_again_is_taken_as_final(
    rights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(rights))
    kinds = connect(None)
    monkeypatch.undo()
    kinds.batch.list_namespaced_job(NAMESPACE, _preload_content=False)
    forbidden_s: list[float] = []
    answers: set[tuple[int, str]] = set()
    for _ in range(RESTARTS):
        kill_api_server()
        first, good, begun = None, 0, time.monotonic()
        while good < 50:
            assert time.monotonic() - begun < 180, f"the API server is not back; seen: {answers}"
            try:
                kinds.batch.list_namespaced_job(
                    NAMESPACE, _request_timeout=5, _preload_content=False
                )
                if first is not None and not good:
                    forbidden_s.append(time.monotonic() - first)
                good += 1
                continue
            except ApiException as error:
                body = json.loads(error.body)
                failure = ApiError("list", error.status, body["message"])
                answers.add((error.status, shape(body["message"])))
            except (HTTPError, OSError) as error:
                failure = ApiError("list", 0, str(error))
            good = 0
            assert failure.passing, failure
            first = time.monotonic() if first is None and failure.status == 403 else first
    print(f"{RESTARTS} restarts, {len(forbidden_s)} with 403, for {forbidden_s} s: {answers}")
    forbidden = {of_any_role(words) for status, words in answers if status == 403}
    ours = no_right("GET", "/jobs")
    assert forbidden <= {of_any_role(shape(ours + more)) for more in NO_ROLES_YET}
