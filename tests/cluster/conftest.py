"""The namespace of tests that need no kubelet: the controller's rights, and a node."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kube_words import NAMESPACE, NODE, admin, standing_node
from waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def rights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the controller, with the rights of its Role alone."""
    admin("create", "namespace", NAMESPACE)
    role = (ROOT / "workflow/kubernetes/base/rbac.yaml").read_text()
    admin("apply", "-f", "-", given=role.replace("namespace: grace", f"namespace: {NAMESPACE}"))
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/grace-controller/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = json.loads(admin("create", "--raw", account, "-f", "-", given=json.dumps(request)))
    settings = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    settings["users"][0]["user"] = {"token": answer["status"]["token"]}
    settings["contexts"][0]["context"]["namespace"] = NAMESPACE
    path = tmp_path_factory.mktemp("rights") / "kubeconfig"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def empty_namespace(rights: Path) -> Iterator[None]:
    """A test begins with a node, and ends with neither Jobs nor rules."""
    standing_node()
    yield
    kinds = "jobs,pods,resourcequotas,limitranges,events"
    admin("delete", kinds, "--all", "--force", "--grace-period=0", "--wait=false")
    wait_until(lambda: not admin("get", "jobs,pods", "-o", "name"), 120, "an empty namespace")
    admin("delete", "node", NODE)
