"""Pods that the stand-in's API server refuses, in events of their Jobs, as Kubernetes tells of it.

The Job controller notes each refusal in an event of the Job (reason FailedCreate) and tries again;
no pod is in any list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
#: After `pods "NAME"`. LIMIT_RANGE, QUOTA and the webhooks' words are held to a real server's by
#: tests/cluster/real_words.py, which saw them on Kubernetes 1.20.2; POLICY is younger, and was read
#: in the source of the API server's library 0.36.4 (admission/plugin/policy/validating).
LIMIT_RANGE = "is forbidden: maximum memory usage per Container is 64Mi, but limit is 191Mi"
POLICY = "is forbidden: ValidatingAdmissionPolicy 'lab' with binding 'lab' denied request: no team"
QUOTA = (
    "is forbidden: exceeded quota: lab, requested: requests.nvidia.com/gpu=1, used:"
    " requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=2"
)
#: Without a pod's name.
WEBHOOK = 'admission webhook "lab.example.org" denied the request: name your team'
WEBHOOK_DOWN = (
    'Internal error occurred: failed calling webhook "lab.example.org": failed to call webhook:'
    ' an error on the server ("broken") has prevented the request from succeeding'
)


def policy(namespace: str) -> list[Json]:
    """A ValidatingAdmissionPolicy on the namespace's pods and its binding, which say POLICY."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    checks = [{"expression": "'team' in object.metadata.labels", "message": "no team"}]
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "lab"}}
    made: Json = {
        **head,
        "kind": "ValidatingAdmissionPolicy",
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"namespaceSelector": here, "resourceRules": [rule]},
            "validations": checks,
        },
    }
    binding: Json = {
        **head,
        "kind": "ValidatingAdmissionPolicyBinding",
        "spec": {"policyName": "lab", "validationActions": ["Deny"]},
    }
    return [made, binding]


class Admission:
    """Refuses the pods of which `refuses` gives words, and keeps the events of that."""

    def __init__(self, now: Callable[[], str]) -> None:
        self.refuses: Callable[[Json], str | None] = lambda template: None
        self.events: list[Json] = []
        self._now = now

    def refused(self, namespace: str, job: Json) -> bool:
        """Whether the Job's pod is refused; an event tells why."""
        words = self.refuses(job["spec"]["template"])
        if not words:
            return False
        metadata = job["metadata"]
        if words.startswith("is forbidden"):
            words = f'pods "{metadata["name"]}-abcde" {words}'
        known = [one for one in self.events if one["involvedObject"]["uid"] == metadata.get("uid")]
        if known:
            known[0] |= {"message": f"Error creating: {words}", "lastTimestamp": self._now()}
            return True
        self.events.append(
            {
                "metadata": {"name": f"event-{len(self.events)}", "namespace": namespace},
                "involvedObject": {
                    "kind": "Job", "name": metadata["name"], "uid": metadata.get("uid"),
                },
                "type": "Warning",
                "reason": "FailedCreate",
                "message": f"Error creating: {words}",
                "lastTimestamp": self._now(),
            }
        )  # fmt: skip
        return True

    def listed(self, namespace: str, fields: str) -> Json:
        """A list of events, by `involvedObject.kind` and `reason`."""
        wanted = dict(one.split("=") for one in fields.split(",") if one)
        found = [
            one
            for one in self.events
            if one["metadata"]["namespace"] == namespace
            and wanted.get("involvedObject.kind", "Job") == one["involvedObject"]["kind"]
            and wanted.get("reason", one["reason"]) == one["reason"]
        ]
        return {"kind": "EventList", "metadata": {"resourceVersion": "1"}, "items": found}
