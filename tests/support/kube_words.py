"""A namespace of a real cluster, its Jobs, a node without a machine, and a webhook that refuses.

For tests/cluster/real_words.py.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import tempfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest
from waiting import PATIENCE_S, wait_until

Json = dict[str, Any]
NAMESPACE = "words"
#: It takes what is bound to it, and does nothing of it.
NODE = "no-machine"
HOOK = "lab.example.org"


def minor() -> int:
    """Minor version of the server, 24 of 1.24. Without one, the module that asks is skipped."""
    if "GRACE_TEST_MINOR" not in os.environ:
        reason = "no Kubernetes beside this: make test-cluster, or tests/cluster/inside.sh COMMAND"
        pytest.skip(reason, allow_module_level=True)
    return int(os.environ["GRACE_TEST_MINOR"])


def admin(*arguments: str, given: str | None = None) -> str:
    """kubectl with all rights, in the namespace; what it printed."""
    done = subprocess.run(
        ["kubectl", "--namespace", NAMESPACE, *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shape(words: str) -> str:
    """Words without the names and numbers in them."""
    quoted = re.sub(r'"[^"]*"', '"…"', words)
    return re.sub(r"\b\d+(\.\d+)?(Mi|Gi|m)?\b", "N", quoted)


def job(name: str, gpus: int = 0, **pod: Any) -> Json:
    """A Job of one container of the name that Grace's have, for the node without a machine."""
    sizes = {"cpu": "100m", "memory": "32Mi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    container = {
        "name": "grace",
        "image": "localhost/none:1",
        "resources": {"requests": sizes, "limits": sizes},
    }
    spec = {
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/hostname": NODE},
        "containers": [container],
        **pod,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }


def limit(kind: str, **spec: Any) -> None:
    """Make a ResourceQuota or LimitRange, and wait for its controller."""
    one = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "lab"}, "spec": spec}
    admin("create", "-f", "-", given=json.dumps(one))
    if kind == "ResourceQuota":
        path = "jsonpath={.status.hard}"
        wait_until(
            lambda: admin("get", "resourcequota", "lab", "-o", path), 60, "the quota's status"
        )


def pods_of(name: str) -> list[Json]:
    """A Job's pods."""
    found: list[Json] = json.loads(admin("get", "pods", "-l", f"job-name={name}", "-o", "json"))[
        "items"
    ]
    return found


def events() -> str:
    """The namespace's events, for a message."""
    return admin("get", "events")


def standing_node() -> None:
    """Make the node, ready, with 1 GPU."""
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    room = {"cpu": "4", "memory": "8Gi", "pods": "50", "nvidia.com/gpu": "1"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }
    admin("create", "-f", "-", given=json.dumps(node))
    # Until the controller of nodes has seen it, it is tainted as not ready.
    path = "jsonpath={.spec.taints}"
    wait_until(lambda: not admin("get", "node", NODE, "-o", path), 60, "the node's taint to go")


def kill_api_server() -> None:
    """The API server ends at once; tests/cluster/inside.sh starts it again."""
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "kube-apiserver":
            with suppress(psutil.Error):
                process.kill()


class Webhook:
    """A validating webhook of the namespace's new pods or Jobs, which `denies` or `fails` with 500.

    Its denial has the HTTP `status` that it chooses. One that is `down` refuses connections. With
    `rule`, it is asked for those of this rule alone.
    """

    def __init__(
        self,
        kind: str,
        denies: str = "",
        *,
        status: int = 403,
        fails: bool = False,
        down: bool = False,
        rule: str = "",
    ):
        self._kind, self._down, self._rule = kind, down, rule

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                review = json.loads(self.rfile.read(length))
                answer = {"uid": review["request"]["uid"], "allowed": False}
                if denies:
                    answer["status"] = {"message": denies, "code": status}
                head = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
                body = b"broken" if fails else json.dumps({**head, "response": answer}).encode()
                self.send_response(500 if fails else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = Path(folder) / "key", Path(folder) / "certificate"
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                    *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
                    *("-keyout", str(key), "-out", str(certificate)),
                ],
                check=True,
                capture_output=True,
            )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._authority = base64.b64encode(certificate.read_bytes()).decode()
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Webhook:
        port = self._server.server_address[1]
        if self._down:
            self._server.server_close()
        else:
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
        asked = {
            "apiGroups": ["batch" if self._kind == "jobs" else ""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": [self._kind],
        }
        admin("label", "namespace", NAMESPACE, f"hook={NAMESPACE}", "--overwrite")
        hook = {
            "name": HOOK,
            "rules": [asked],
            "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": self._authority},
            "namespaceSelector": {"matchLabels": {"hook": NAMESPACE}},
            "objectSelector": {"matchLabels": {"grace/rule": self._rule} if self._rule else {}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail",
            "timeoutSeconds": 5,
        }
        made = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "lab"},
            "webhooks": [hook],
        }
        admin("create", "-f", "-", given=json.dumps(made))
        wait_until(self._effective, 60, "the webhook's effect")
        return self

    def _effective(self) -> bool:
        """Whether the API server calls it: it learns of webhooks a moment later."""
        kind = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}}
        probe: Json = {**kind, "spec": {"containers": [{"name": "a", "image": "b"}]}}
        if self._kind == "jobs":
            probe = job("probe")
        probe["metadata"]["labels"] = {"grace/rule": self._rule}
        done = subprocess.run(
            ["kubectl", "--namespace", NAMESPACE, "create", "--dry-run=server", "-f", "-"],
            input=json.dumps(probe),
            capture_output=True,
            text=True,
            check=False,
        )
        return "webhook" in done.stderr

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        admin("delete", "validatingwebhookconfiguration", "lab")
        if not self._down:
            self._server.shutdown()
            self._server.server_close()
