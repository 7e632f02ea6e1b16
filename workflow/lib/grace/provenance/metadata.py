"""metadata.json: a replication's seeds, times, machines, versions and configuration.

Facts are those of the jobs that gave the answers, which may have been earlier ones: answers come
from the journal, too. What all of them share is one value; where they differ it is the list of what
there was, and `runs` says which answers are whose. What cannot be known is null, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from grace.digests import digest
from grace.engines import registry

NOT_RECORDED = "the version of Grace that got these answers did not record it"
ELSEWHERE = "the model runs on a server elsewhere, which does not tell"
NO_GPU = "the model was computed without a GPU"

#: What an engine says of how it computed.
COMPUTED = ("dtype", "quantization", "max_model_len")

T = TypeVar("T")
#: One value where all answers share it, else the different ones.
Shared: TypeAlias = T | list[T | None] | None


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Deployment(_Facts):
    """Where and with what answers were computed. `pod` and `node` are those of Grace's own job."""

    pod: Shared[str] = None
    node: Shared[str] = None
    engine: Shared[str] = None
    engine_version: Shared[str] = None
    #: Version of the CUDA runtime that the engine computes with; the driver has one of its own.
    cuda: Shared[str] = None
    driver: Shared[str] = None
    #: GPUs that the model was spread over.
    gpu_count: Shared[int] = None
    gpu_type: Shared[str] = None
    #: Of those, how many shared every layer.
    tensor_parallel_size: Shared[int] = None
    #: What the engine computed in, as it said itself. Of `quantization` null is none.
    dtype: Shared[str] = None
    quantization: Shared[str] = None
    #: Tokens of prompt and answer together.
    max_model_len: Shared[int] = None
    #: Image of the pod as Kubernetes was told it, and its digest: that name's own, or its node's.
    image: Shared[str] = None
    image_digest: Shared[str] = None


class AnsweredBy(_Facts):
    """A job that gave answers: how many, when it began, of which commit, where and with what."""

    session: str | None
    answers: int
    started: str | None
    commit: str | None
    dirty: bool | None
    deployment_info: Deployment
    #: Why a value of `deployment_info` is null, by its name.
    unknown: dict[str, str]
    #: All that the engine said of itself when it gave them: way of scoring, kernels, threads.
    engine: dict[str, Any]
    hardware: dict[str, Any]
    versions: dict[str, str | None]


class Rereadings(_Facts):
    """Queries of experiment 2 that were read twice (`grace.experiments.rereading`).

    Differences are of natural logs of probabilities.
    """

    #: Share of the distinct queries that was to be read again, and what the choice follows from.
    share: float
    seed: int
    #: Distinct queries; those to be read again; those that were; those without a first reading,
    #: answered by the journal alone, and without a second reading, and why.
    of: int
    planned: int
    read: int
    unanswered: int
    waived: int
    unread: int
    reasons: list[str]
    #: How many were read again in which way; that of the first reading is in the engine's facts.
    ways: dict[str, int]
    #: Numbers that were read twice, and how far they lie apart.
    values: int
    p95: float | None
    largest: float | None
    #: The largest as a share of what rounding allows at that value; above 1 nothing is written.
    worst: float | None
    #: Bounds of a remote server's of which no value fits both readings.
    contradictions: int
    #: Null where only a server knows; then the coarsest is allowed.
    dtype: str | None
    allowed: float
    #: Depth that rounding was reckoned with; null from versions that did not look at it.
    layers: int | None = None
    #: Of a mixture of experts, numbers further apart than by rounding: other experts gave them.
    routed: int | None = None


class SentinelText(_Facts):
    """What a model made of one sentinel: the text, its class, and what shows that."""

    name: str
    prompt: str
    text: str | None
    kind: str
    sign: str | None


class Sentinels(_Facts):
    """How a base model continues the bank of sentinel texts (`grace.experiments.sentinels`)."""

    #: Digest of the texts and of how they are continued.
    bank: str
    asked: int
    answered: int
    #: Texts that this tokeniser has a mark in, with the reason.
    not_asked: dict[str, str]
    #: Shares of the answered ones: `assistant`, `plain`, `degenerate`.
    rates: dict[str, float | None]
    alarm_from: float
    alarm: bool
    continuations: list[SentinelText]


class GpuUse(_Facts):
    """A GPU while the model answered (`grace.provenance.gpu_use`)."""

    gpu: str
    samples: int
    #: Mean share of the time in which something ran on it; null where the driver does not tell.
    busy_percent: float | None
    #: The most that was taken.
    memory_mib: float | None


class Pace(_Facts):
    """How fast the job that wrote the records had its answers, those of the journal left out."""

    answers: int
    #: From the moment that the model was there.
    seconds: float
    #: Null where this machine has no GPU, or the job was too short for a look.
    gpu_use: list[GpuUse] | None


class RunFacts(_Facts):
    """An experiment: the job that wrote its records, and those that gave its answers."""

    started: str
    completed: str
    requests: int
    code: Any
    commit: str | None
    dirty: bool | None
    temperature: float
    answered_by: list[AnsweredBy]
    #: Null for experiment 1, and where the version of Grace that asked read nothing twice.
    rereadings: Rereadings | None = None
    #: Null where the model is asked in a chat.
    sentinels: Sentinels | None = None
    #: Null where the journal held all answers, and in runs of earlier versions.
    pace: Pace | None = None


class Metadata(_Facts):
    """metadata.json."""

    model_key: str
    #: The model's key in config/models.yaml, as in the folder's name.
    model_name: str
    #: Hub id of the weights; null for a folder of the project and for somebody else's server.
    hub_id: Shared[str]
    #: `name` of the entry as it ran: hub id, folder, or what a server calls the model.
    model_source: str
    #: The hub's commit that was asked, also where the entry leaves `revision` out.
    revision: Shared[str]
    weights_digest: Any
    replication_index: int
    #: Of this plan of the replication and no other: another run of the same has another.
    replication_id: str
    seeds: dict[str, int]
    timestamps: dict[str, str]
    deployment_info: Deployment
    configuration: dict[str, Any]
    git_commit: Shared[str]
    git_dirty: Shared[bool]
    image_digest: Shared[str]
    #: Why values of `deployment_info` and `image_digest` are null, by their names.
    unknown: dict[str, Shared[str]]
    runs: dict[str, RunFacts]


def metadata(plan: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The replication's metadata from its plan and each experiment's provenance.

    `runs` maps labels such as `study1_exp1` to the content of their provenance files.
    """
    model = plan["model"]
    configs = {label: _output_config(run) for label, run in runs.items()}
    forms = [one["surface_forms"] for one in configs.values() if "surface_forms" in one]
    decoding = [one["decoding"] for one in configs.values() if "decoding" in one]
    facts = {label: _run(run) for label, run in runs.items()}
    jobs = [job for run in facts.values() for job in run.answered_by]
    deployments = [job.deployment_info for job in jobs]
    deployment = Deployment(
        **{
            name: shared(getattr(one, name) for one in deployments)
            for name in Deployment.model_fields
        }
    )
    return Metadata(
        model_key=model["key"],
        model_name=model["key"],
        hub_id=shared(_asked(run).get("hub") for run in runs.values()),
        model_source=model["name"],
        revision=shared(_asked(run).get("commit") for run in runs.values()) or model["revision"],
        weights_digest=model["weights"],
        replication_index=plan["replication"],
        replication_id=replication_id(plan),
        seeds={
            **plan["seeds"],
            **{f"{label}_seed": run["seeds"]["experiment"] for label, run in runs.items()},
        },
        timestamps={
            "start": min((run["started"] for run in runs.values()), default=plan["created"]),
            **{f"{label}_complete": run["completed"] for label, run in runs.items()},
            "end": max((run["completed"] for run in runs.values()), default=plan["created"]),
        },
        deployment_info=deployment,
        configuration={
            "temperatures": {
                "exp1": decoding[0]["temperature"] if decoding else None,
                "exp2": 1.0 if forms else None,
            },
            "decoding": decoding[0] if decoding else None,
            "surface_forms": forms[0] if forms else None,
            **{
                name: getattr(deployment, name)
                for name in ("max_model_len", "tensor_parallel_size", "dtype", "quantization")
            },
            "prompting": model.get("prompting", "chat"),
            **({"batch_invariant": True} if model.get("batch_invariant") else {}),
            **_reasoning(runs, configs),
            "prompts": {label: one["prompts"] for label, one in configs.items()},
            "trials": {label: one["limit"] for label, one in configs.items()},
            **_wordings(runs),
            **_few_shot(runs),
            **_adapter(runs),
        },
        git_commit=shared([job.commit for job in jobs]) if jobs else plan["commit"],
        git_dirty=shared([job.dirty for job in jobs]) if jobs else plan["dirty"],
        image_digest=deployment.image_digest,
        unknown={
            name: shared(job.unknown[name] for job in jobs if name in job.unknown)
            for name in Deployment.model_fields
            if any(name in job.unknown for job in jobs)
        },
        runs=facts,
    ).model_dump()


def _wordings(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What variants declare of themselves, by variant; nothing where all are plain templates."""
    found = {
        name: facts for run in runs.values() for name, facts in run.get("wordings", {}).items()
    }
    return {"wordings": found} if found else {}


def _reasoning(
    runs: Mapping[str, Mapping[str, Any]], configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """How the model reasoned, and how it was measured after that; nothing of one that does not."""
    known = [run["reasoning"] for run in runs.values() if "reasoning" in run]
    measured = [one["thinking"] for one in configs.values() if one.get("thinking") is not None]
    return {
        **({"reasoning": known[0]} if known else {}),
        **({"thinking": measured[0]} if measured else {}),
    }


def _few_shot(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The examples before questions, by experiment and variant; nothing for a model that chats."""
    found = {label: run["few_shot"] for label, run in runs.items() if "few_shot" in run}
    return {"few_shot": found} if found else {}


def _adapter(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What stood on the base: of each experiment the same; nothing where there was no adapter."""
    models = [run.get("model") or {} for run in runs.values()]
    found = [model["adapter"] for model in models if "adapter" in model]
    return {"adapter": found[0]} if found else {}


def _output_config(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run's part of the configuration; older runs call it a cell."""
    config: Mapping[str, Any] = run["output_config"] if "output_config" in run else run["cell"]
    return config


def replication_id(plan: Mapping[str, Any]) -> str:
    """A name that no other replication has: of another model, number, run, folder or machine.

    Its end follows from all of plan.json: model, seeds, commit, and when it was made, in ms.
    """
    return f"{plan['model']['key']}-replication-{plan['replication']}-{digest(plan)[:12]}"


def _asked(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model that was asked, as the journal's keys name it; older runs did not record it."""
    model: Mapping[str, Any] = (run.get("identity") or {}).get("model") or {}
    return model


def shared(values: Iterable[Any]) -> Any:
    """The value that all share, None of none; else the different ones, in order."""
    different = list(dict.fromkeys(values))
    return different if len(different) > 1 else next(iter(different), None)


def _run(run: Mapping[str, Any]) -> RunFacts:
    config = _output_config(run)
    # Where every request failed no job gave an answer; then it is the last that tried.
    jobs = [job for job in run.get("answers") or [] if job["answers"]] or [
        {**run, "answers": 0, "session": None}
    ]
    return RunFacts(
        **{key: run[key] for key in ("started", "completed", "requests", "code")},
        commit=run["commit"],
        dirty=run["dirty"],
        temperature=config["decoding"]["temperature"] if "decoding" in config else 1.0,
        answered_by=[_answered_by(job) for job in jobs],
        rereadings=run.get("rereadings"),
        sentinels=run.get("sentinels"),
        pace=_pace(run),
    )


def _pace(run: Mapping[str, Any]) -> Pace | None:
    timing = run.get("timing") or {}
    if not timing.get("answers"):
        return None
    return Pace(
        answers=timing["answers"], seconds=timing["with_model_s"], gpu_use=run.get("gpu_use")
    )


def _answered_by(job: Mapping[str, Any]) -> AnsweredBy:
    hardware = job.get("hardware") or {}
    engine = job.get("engine") or {}
    name = engine.get("engine")
    # An engine that is no longer there counts as one of this machine.
    remote = name in registry.names() and registry.spec(str(name)).is_remote
    found, unknown = (_elsewhere if remote else _here)(hardware, engine)
    image, image_id = hardware.get("image"), hardware.get("image_id")
    digest_known = _digest_in(image) or _digest_in(image_id)
    if digest_known is None:
        unknown["image_digest"] = _why_no_digest(hardware)
    return AnsweredBy(
        session=job.get("session"),
        answers=job["answers"],
        started=job.get("started"),
        commit=job.get("commit"),
        dirty=job.get("dirty"),
        deployment_info=Deployment(
            pod=hardware.get("pod"),
            node=hardware.get("node"),
            engine=engine.get("engine"),
            # What a server says is not of our making.
            engine_version=None if engine.get("version") is None else str(engine["version"]),
            image=image,
            image_digest=digest_known,
            **found,
        ),
        unknown=unknown,
        engine=engine,
        hardware=hardware,
        versions=job.get("versions") or {},
    )


def _digest_in(image: str | None) -> str | None:
    """A registry's digest in the name of an image, or in what a node says of it."""
    return (image or "").partition("@")[2] or None


def _why_no_digest(hardware: Mapping[str, Any]) -> str:
    image, image_id = hardware.get("image"), hardware.get("image_id")
    if image and image_id:
        return f"the pod's node knows its image, {image}, by no registry's digest: {image_id}"
    if image:
        return (
            f"the pod's image was named by a tag, {image}, and a pod is not told its digest; the"
            " run that made it shares no folder with it, or had not looked yet"
        )
    return "not in a pod that Grace started" if "image" in hardware else NOT_RECORDED


def _elsewhere(
    hardware: Mapping[str, Any], engine: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What is known of the GPUs behind a remote server, and why it is not more."""
    names = ("cuda", "driver", "gpu_count", "gpu_type", "tensor_parallel_size")
    unknown = dict.fromkeys((*names, *COMPUTED), ELSEWHERE)
    if engine.get("version") is None:
        unknown["engine_version"] = ELSEWHERE
    return {}, unknown


def _here(
    hardware: Mapping[str, Any], engine: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What is known of the GPUs that this machine computed with, and why it is not more."""
    gpus = hardware.get("gpus") or []
    used = engine.get("gpus")
    if used is None and engine.get("device") == "cpu":
        used = 0
    found: dict[str, Any] = {
        "gpu_count": used,
        "tensor_parallel_size": engine.get("tensor_parallel_size"),
        **{name: engine.get(name) for name in COMPUTED},
    }
    unknown = {
        name: NOT_RECORDED
        for name, value in found.items()
        # No quantisation is said, too.
        if value is None and not (name == "quantization" and name in engine)
    }
    if used == 0:
        unknown |= dict.fromkeys(("cuda", "driver", "gpu_type"), NO_GPU)
        return found, unknown
    types = {gpu["name"] for gpu in gpus}
    found |= {
        "cuda": engine.get("cuda"),
        "driver": gpus[0]["driver"] if gpus else None,
        # A machine may have GPUs of several kinds; the engine knows which one it took.
        "gpu_type": engine.get("device_name") or (", ".join(sorted(types)) or None),
    }
    unknown |= {
        name: NOT_RECORDED for name in ("cuda", "driver", "gpu_type") if found[name] is None
    }
    return found, unknown
