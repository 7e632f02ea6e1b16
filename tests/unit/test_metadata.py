"""metadata.json: facts of the jobs that gave the answers; nothing of one is claimed for all."""

import pytest
from metadata_facts import job, plan, run, runs

from grace.provenance import environment
from grace.provenance.metadata import ELSEWHERE, NO_GPU, NOT_RECORDED, metadata

OWNERS = {
    "model_key", "model_name", "revision", "replication_index", "replication_id", "seeds",
    "timestamps", "deployment_info", "configuration", "git_commit", "image_digest",
}  # fmt: skip


def of(answers: list[dict]) -> dict:
    """Metadata of a replication with one experiment, answered by these jobs."""
    return metadata(plan(), {"study1_exp2": run(job("here", "now", "A100"), answers)})


def test_the_owners_keys_are_there():
    found = metadata(plan(), runs())
    assert found.keys() >= OWNERS
    assert found["deployment_info"].keys() >= {
        "pod", "node", "engine", "engine_version", "cuda", "gpu_count", "gpu_type",
    }  # fmt: skip
    assert found["configuration"]["temperatures"] == {"exp1": 0.7, "exp2": 1.0}
    assert metadata(plan(), {})["git_commit"] == "plan"


def test_provenance_of_older_runs_is_read():
    now = runs()
    former = {
        label: {"cell" if key == "output_config" else key: value for key, value in one.items()}
        for label, one in now.items()
    }
    assert metadata(plan(), former) == metadata(plan(), now)


def test_what_differs_is_claimed_for_none():
    found = metadata(plan(), runs())
    shared = found["deployment_info"]
    assert shared["node"] == ["node-a", "node-b"]
    assert shared["gpu_type"] == ["NVIDIA A100", "NVIDIA H100"]
    assert shared["gpu_count"] == [2, 4]
    assert (shared["engine"], shared["engine_version"]) == ("vllm", "0.32.0")
    assert found["git_commit"] == ["aaaa", "bbbb"]
    assert found["configuration"]["tensor_parallel_size"] == 2


def test_answers_of_earlier_jobs_have_their_machines_and_commits():
    first, second = metadata(plan(), runs())["runs"]["study1_exp2"]["answered_by"]
    assert (first["answers"], first["commit"]) == (1, "aaaa")
    assert (second["answers"], second["commit"], second["started"]) == (
        2, "bbbb", "2026-01-01T09:00",
    )  # fmt: skip
    assert second["deployment_info"]["node"] == "node-b"
    assert second["deployment_info"]["gpu_count"] == 4


def test_a_job_that_only_copied_answers_is_not_said_to_have_given_them():
    earlier = job("there", "then", "H100")
    found = of([{"session": "s", "answers": 3, **earlier}])
    assert found["deployment_info"]["node"] == "there"
    assert found["git_commit"] == "then"
    assert found["runs"]["study1_exp2"]["commit"] == "now"


def test_without_an_answer_it_is_the_job_that_tried():
    found = of([])
    assert found["deployment_info"]["node"] == "here"
    assert found["runs"]["study1_exp2"]["answered_by"][0]["answers"] == 0


def test_the_runtimes_cuda_is_not_the_drivers():
    found = metadata(plan(), runs())["deployment_info"]
    assert (found["cuda"], found["driver"]) == ("12.8", "570.1")


def test_tensor_parallel_size_is_not_the_number_of_gpus():
    found = of([{"session": "s", "answers": 3, **job("a", "b", "A100", gpus=8, tensor=4)}])
    assert found["configuration"]["tensor_parallel_size"] == 4
    assert found["deployment_info"]["gpu_count"] == 8


@pytest.mark.parametrize(
    ("image", "digest", "reason"),
    [
        ("r.example/grace:1@sha256:abc", "sha256:abc", None),
        ("r.example/grace:1", None, "named by a tag, r.example/grace:1"),
        (None, None, "not in a pod that Grace started"),
    ],
)
def test_the_images_digest_is_known_or_the_reason_why_not(image, digest, reason):
    answered = job("a", "b", "A100")
    answered["hardware"]["image"] = image
    found = of([{"session": "s", "answers": 3, **answered}])
    assert found["image_digest"] == found["deployment_info"]["image_digest"] == digest
    assert reason is None or reason in found["unknown"]["image_digest"]
    assert ("image_digest" in found["unknown"]) == (digest is None)


def test_every_null_has_a_reason():
    endpoint = job("laptop", "b", "A100", engine={"engine": "endpoint", "version": None})
    cpu = job("laptop", "b", "A100", gpus=0, tensor=1)
    former = job("old", "b", "A100")
    former["hardware"] = {"node": "old", "pod": None}
    former["engine"] = {"engine": "vllm", "version": "0.31.0"}
    for answered, reason in ((endpoint, ELSEWHERE), (cpu, NO_GPU), (former, NOT_RECORDED)):
        found = of([{"session": "s", "answers": 3, **answered}])
        unknown = found["unknown"]
        nulls = {name for name, value in found["deployment_info"].items() if value is None}
        assert nulls - {"pod", "image"} == set(unknown)
        assert unknown["cuda"] == unknown["gpu_type"] == reason
    assert metadata(plan(), {})["unknown"] == {}


def test_a_pod_gets_its_image(monkeypatch):
    monkeypatch.setenv("GRACE_IMAGE", "r.example/grace@sha256:abc")
    assert environment.hardware(gpus=False)["image"] == "r.example/grace@sha256:abc"
    monkeypatch.delenv("GRACE_IMAGE")
    assert environment.hardware(gpus=False)["image"] is None


def test_gpus_hidden_from_a_job_are_not_its_own(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in *"-i 1"*) ;; *) echo "NVIDIA A, 1000, 570.1";; esac\n'
        'echo "NVIDIA B, with a comma, [N/A], 570.1"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu["memory_mib"] for gpu in environment.visible_gpus()] == [1000, None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu["name"] for gpu in environment.visible_gpus()] == ["NVIDIA B, with a comma"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environment.visible_gpus() == []


def test_the_revision_is_the_commit_that_was_asked():
    asked = {"identity": {"model": {"hub": "org/model", "commit": "c" * 40}}}
    of_hub = {label: one | asked for label, one in runs().items()}
    assert metadata(plan(), of_hub)["revision"] == "c" * 40
    # The hub moved between two experiments: neither commit is claimed for both.
    first = next(iter(of_hub))
    of_hub[first] |= {"identity": {"model": {"hub": "org/model", "commit": "d" * 40}}}
    assert metadata(plan(), of_hub)["revision"] == ["d" * 40, "c" * 40]
    assert metadata(plan(), runs())["revision"] == plan()["model"]["revision"]
