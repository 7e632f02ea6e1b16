"""Calls to the Kubernetes API: how many, how often again, and how failures are told."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from kube_faults import NO_ROLES_YET, no_right
from kube_standin import Cluster as Standin
from kubernetes.config import ConfigException, incluster_config

from grace.cluster.plan.settings import Cluster
from grace.cluster.run import api
from grace.errors import GraceError

QUICK = {
    "api_attempts": 3, "api_backoff_s": 0.01, "api_timeout_s": 60, "api_calls_per_s": 4.9,
}  # fmt: skip


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now = 0.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def standin(tmp_path, monkeypatch):
    with Standin(simulate=lambda pod: 0) as standin:
        monkeypatch.setenv("KUBECONFIG", str(standin.kubeconfig(tmp_path / "kubeconfig")))
        yield standin


class Pauses(threading.Event):
    """A run that is never over; keeps for how long it was waited for, which takes its clock on."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()

    def wait(self, timeout=None):
        self.clock.sleep(timeout)
        return False


def connected(pauses=None, **settings):
    """The calls, without their pauses, and what is told of them."""
    retries = []
    pauses = pauses or Pauses()
    cluster = Cluster(**{**QUICK, **settings})
    return api.Api(cluster, clock=pauses.clock, stop=pauses, on_retry=retries.append), retries


def manifest(name="one", **labels):
    limits = {"cpu": "1", "memory": "100Mi"}
    container = {"name": "c", "image": "i", "resources": {"requests": limits, "limits": limits}}
    pod = {"restartPolicy": "Never", "containers": [container]}
    spec = {"template": {"metadata": {"labels": labels}, "spec": pod}}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def test_the_bucket_lets_no_more_through_than_it_says():
    clock = Clock()
    bucket = api.Bucket(4, clock, clock.sleep)
    times = []
    for _ in range(41):
        bucket.take()
        times.append(clock.now)
    assert times[-1] == pytest.approx((41 - 2) / 4)
    most = max(sum(begin <= t < begin + 1 for t in times) for begin in times)
    assert most <= 5


def test_jobs_and_pods_by_their_labels(standin):
    calls, _ = connected()
    calls.create_job(manifest("one", run="a"))
    calls.create_job(manifest("two", run="b"))
    assert [job["metadata"]["name"] for job in calls.jobs("run=a")] == ["one"]


def test_long_lists_come_in_pages(standin, monkeypatch):
    monkeypatch.setattr(api, "PAGE", 2)
    calls, _ = connected()
    for number in range(5):
        calls.create_job(manifest(f"job-{number}", run="a"))
    before = calls.calls
    assert len(calls.jobs("run=a")) == 5
    assert calls.calls - before == 3


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_what_passes_is_tried_again(standin, status):
    calls, retries = connected()
    standin.fails(status, times=2)
    assert calls.jobs("run=a") == []
    assert len(retries) == 2


def test_retry_after_is_kept(standin):
    pauses = Pauses()
    calls, retries = connected(pauses)
    standin.fails(429, times=1, headers={"Retry-After": "7.5"})
    calls.jobs("run=a")
    assert pauses.clock.slept == [7.5]
    assert "HTTP 429" in retries[0]


def test_a_call_that_hangs_is_given_up_and_tried_again(standin):
    calls, retries = connected(api_timeout_s=2)
    standin.fails(200, times=1, hang_s=600)
    assert calls.jobs("run=a") == []
    assert "does not answer" in retries[0]


def test_an_expired_token_is_read_anew(standin, tmp_path):
    calls, _ = connected()
    standin.token = "another"
    standin.kubeconfig(tmp_path / "kubeconfig")
    assert calls.jobs("run=a") == []


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_kubeconfig_that_is_being_rewritten_is_one_more_failure(standin, tmp_path, attempts):
    calls, retries = connected(api_attempts=attempts)
    file = tmp_path / "kubeconfig"
    standin.token = "renewed"
    whole = standin.kubeconfig(file).read_bytes()
    for cut in (b"", b"clusters", b"users: [", b"current-context: standin\n", whole[:-40], b"\xff"):
        file.write_bytes(cut)
        with pytest.raises(api.ApiError, match="run's pods and Jobs") as error:
            calls.jobs("run=a")
        assert error.value.passing, cut
    assert len(retries) == 6 * (attempts - 1)
    file.write_bytes(whole)
    if attempts == 1:  # the one with the old token
        with pytest.raises(api.ApiError):
            calls.jobs("run=a")
    assert calls.jobs("run=a") == []


def test_a_token_file_of_a_pod_that_is_empty_for_a_moment(standin, monkeypatch):
    calls, retries = connected()

    def empty(**how):
        raise ConfigException("Token file exists but empty.")

    monkeypatch.setattr(calls._kinds.batch, "list_namespaced_job", empty)
    assert calls.jobs("run=a") == []
    assert "Token file exists but empty" in retries[0]


def test_nobody_s_call_is_tried_again_with_new_credentials(standin):
    """A plug-in that gives no token, since its own server is away, makes the client anonymous."""
    calls, retries = connected()
    words = 'pods is forbidden: User "system:anonymous" cannot list resource "pods"'
    standin.fails(403, times=1, message=words)
    assert calls.jobs("run=a") == []
    assert "system:anonymous" in retries[0]


def test_in_a_pod_an_expired_token_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    authority.write_text("made up")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    tokens = []
    for value in ("first", "renewed"):
        token.write_text(value)
        settings = api.connect(None).batch.api_client.configuration
        tokens.append(settings.get_api_key_with_prefix("authorization"))
    assert [one.split()[-1] for one in tokens] == ["first", "renewed"]


def test_it_is_away_for_longer_than_the_tries(standin):
    calls, _ = connected()
    standin.fails(503)
    with pytest.raises(api.ApiError) as error:
        calls.jobs("run=a")
    assert error.value.passing
    standin.works()
    assert calls.jobs("run=a") == []


def test_an_api_server_that_restarts_is_asked_again(standin):
    """It is away, and then knows no one's rights for a moment."""
    pauses = Pauses()
    calls, retries = connected(pauses, api_attempts=9)
    standin.faults.clock = pauses.clock
    standin.faults.restart(away_s=0.05, forbids=2)
    assert calls.jobs("run=a") == []
    assert "does not answer" in retries[0]
    assert "serviceaccount:default:grace-controller" in retries[-1]


@pytest.mark.parametrize(
    "words",
    [
        "jobs.batch \"one\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no",
        'admission webhook "check" denied the request: no',
    ],
)
def test_a_refusal_with_401_is_about_the_job_and_not_about_who_asks(standin, words):
    """Policies may refuse with it (`reason: Unauthorized`), webhooks with any status."""
    connections, retries = [], []
    calls = api.Api(
        Cluster(**QUICK),
        connect=lambda context: connections.append(context) or api.connect(context),
        on_retry=retries.append,
    )
    standin.fails(401, message=words, times=1)
    with pytest.raises(api.ApiError, match="denied") as error:
        calls.create_job(manifest())
    assert not error.value.passing
    assert not error.value.unauthorised
    assert (len(connections), retries) == (1, [])


@pytest.mark.parametrize(
    ("words", "passing"),
    [
        ('jobs.batch is forbidden: User "me" cannot create resource "jobs"', True),
        *((no_right("GET", "/jobs") + more, True) for more in NO_ROLES_YET),
        ('jobs.batch "one" is forbidden: not yet ready to handle request', True),
        ('admission webhook "check" denied the request: no', False),
        ("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", False),
        ('pods "one" is forbidden: violates PodSecurity "restricted:latest"', False),
    ],
)
def test_which_403_may_pass(words, passing):
    assert api.ApiError("create", 403, words).passing is passing


def test_a_quota_that_is_full_and_one_that_is_too_small(standin):
    calls, _ = connected()
    standin.faults.quotas["jobs"] = 1
    calls.create_job(manifest("one"))
    with pytest.raises(api.ApiError) as full:
        calls.create_job(manifest("two"))
    standin.faults.quotas["jobs"] = 0
    with pytest.raises(api.ApiError) as small:
        calls.create_job(manifest("two"))
    assert [full.value.quota, small.value.quota] == [True, True]
    assert [full.value.beyond_quota, small.value.beyond_quota] == [False, True]
    assert not full.value.passing


def test_what_is_about_one_job_is_asked_once(standin):
    calls, retries = connected()
    standin.faults.webhook = lambda job: True
    before = calls.calls
    with pytest.raises(api.ApiError, match="failed calling webhook") as error:
        calls.create_job(manifest("one"))
    assert error.value.passing
    assert (calls.calls - before, retries) == (1, [])


def test_an_answer_that_is_no_list_passes(standin, monkeypatch):
    calls, _ = connected()
    page = SimpleNamespace(data=b"<html>log in</html>")
    monkeypatch.setattr(calls._kinds.batch, "list_namespaced_job", lambda **how: page)
    with pytest.raises(api.ApiError) as error:
        calls.jobs("run=a")
    assert error.value.passing


@pytest.mark.parametrize("status", [400, 422])
def test_a_wrong_call_is_not_tried_again(standin, status):
    calls, retries = connected()
    standin.fails(status, times=1)
    with pytest.raises(api.ApiError, match=f"create the Job one: scripted {status}") as error:
        calls.create_job(manifest())
    assert not error.value.passing
    assert retries == []


def test_the_servers_words_are_reported(standin):
    wrong = manifest()
    wrong["spec"]["template"]["spec"]["containers"][0]["resources"] = {
        "requests": {"nvidia.com/gpu": "1"},
        "limits": {"memory": "100Mi"},
    }
    calls, _ = connected()
    with pytest.raises(api.ApiError, match="Limit must be set for non overcommitable"):
        calls.create_job(wrong)


def test_what_is_gone_is_deleted(standin):
    calls, _ = connected()
    calls.delete_job("nobody")
    calls.delete_secret("nobody")


def test_a_secret_takes_the_place_of_its_namesake(standin):
    calls, _ = connected()
    for value in ("b2xk", "bmV3"):
        metadata = {"name": "one"}
        calls.create_secret(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"key": value}}
        )
    assert [one["data"]["key"] for one in standin.objects("secrets")] == ["bmV3"]


def test_a_list_that_expires_between_two_pages_is_begun_anew(standin, monkeypatch):
    monkeypatch.setattr(api, "PAGE", 2)
    calls, _ = connected()
    for number in range(3):
        calls.create_job(manifest(f"job-{number}", run="a"))
    standin.fails(410, path="continue=", times=1)
    assert sorted(one["metadata"]["name"] for one in calls.jobs("run=a")) == [
        "job-0", "job-1", "job-2",
    ]  # fmt: skip


def test_nothing_is_waited_for_once_it_is_over(standin):
    stop = threading.Event()
    calls = api.Api(
        Cluster(**{**QUICK, "api_backoff_s": 3600}), stop=stop, on_retry=lambda line: None
    )
    standin.fails(503)
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(api.ApiError):  # and not in an hour
        calls.jobs("run=a")


def test_calls_are_few(standin):
    pauses = Pauses()
    calls, _ = connected(pauses, api_calls_per_s=4)
    for _ in range(12):
        calls.jobs("run=a")
    assert len(standin.calls) == 12
    assert pauses.clock.now == pytest.approx((12 - 2) / 4)


def test_no_cluster_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(GraceError, match="Set KUBECONFIG"):
        connected()
