"""What a cluster is: an entry of config/clusters.yaml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from grace.errors import ConfigError
from grace.settings.explain import (
    ABSOLUTE,
    BELOW,
    DNS_LABEL,
    DNS_SUBDOMAIN,
    IMAGE,
    LABEL,
    RESOURCE,
    TOKEN,
    explain,
    nearest,
)
from grace.settings.fields import Name, Seconds, Text, folder
from grace.settings.strict import Strict
from grace.settings.yaml_reader import read_sheet

DnsLabel = Annotated[str, Field(pattern=DNS_LABEL)]
DnsSubdomain = Annotated[str, Field(pattern=DNS_SUBDOMAIN)]
Resource = Annotated[str, Field(pattern=RESOURCE, max_length=300)]
Label = Annotated[str, Field(pattern=LABEL)]
Image = Annotated[str, Field(pattern=IMAGE, max_length=500)]
Mount = Annotated[str, Field(pattern=ABSOLUTE), AfterValidator(folder)]
MAX_ID = 2**31 - 1
"""Of a user, and of seconds: Kubernetes keeps them in 32 bits."""
Purpose = Literal["project", "weights", "journal", "other"]
Instance = Annotated[str, Field(pattern=DNS_LABEL, max_length=20)]
"""Short, so that names of Jobs keep words for people."""
SubPath = Annotated[str, Field(pattern=BELOW, max_length=200)]
HF_TOKEN_SECRET = "grace-hf-token"
"""The Secret that `make cluster-up` makes of HF_TOKEN, without the instance."""
RUN_SECRET = "grace-run"
"""The Secret of a run on the project's volume, without the instance; the Role names it."""


class Toleration(Strict):
    """A taint that pods may run beside, as Kubernetes writes it."""

    key: Resource | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: Label | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


GPU_TAINT = Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
"""What GPU operators put on nodes, to keep pods without GPUs away from them."""


class Gpu(Strict):
    """A kind of GPU, by its tag."""

    resource: Resource = Field(
        "nvidia.com/gpu", description="The extended resource that a pod requests."
    )
    labels: dict[Resource, Annotated[list[Label], Field(min_length=1)]] = Field(
        default_factory=dict, description="Node labels, each with the values that will do."
    )
    memory_gib: float = Field(gt=0, le=100_000, description="Memory of one GPU in GiB.")
    compute_capability: float = Field(
        gt=0, le=1000, description="NVIDIA's number for what it can compute; bfloat16 needs 8.0."
    )
    tolerations: list[Toleration] = Field(
        [GPU_TAINT],
        description="Taints of its nodes that pods run beside: that of GPU operators; [] for none.",
    )
    runtime_class: DnsSubdomain | None = Field(
        None, description="RuntimeClass of its pods; null, that of every pod."
    )
    priority_class: DnsSubdomain | None = None
    tflops: float | None = Field(
        None, gt=0, le=1e6, description="TFLOP/s in 16 bits, dense; for forecasts."
    )
    tflops_float32: float | None = Field(
        None, gt=0, le=1e6, description="TFLOP/s in float32; null: an eighth of `tflops`."
    )
    bandwidth_gb_s: float | None = Field(
        None, gt=0, le=1e6, description="GB/s of its memory; for forecasts."
    )
    link_gb_s: float = Field(
        25, gt=0, le=1e5, description="GB/s between GPUs of a node, each way; 25 is PCIe 4.0 x16."
    )
    price_per_hour: float | None = Field(
        None, ge=0, le=1e6, description="What an hour of one GPU costs, in your currency."
    )


class Volume(Strict):
    """A claim that every pod mounts.

    `project` holds the project and its results and is the pods' working directory, where the
    controller shares it with them; `weights` becomes HF_HOME, `journal` GRACE_JOURNAL_DIR.
    """

    claim: DnsSubdomain = Field(
        "",
        description="A PersistentVolumeClaim that exists; left out, Grace's own, `grace-<name>`.",
    )
    mount: Mount = Field(description="Where pods see it; absolute.")
    sub_path: SubPath | None = Field(
        None, description="Folder of the claim that is mounted; null, the whole."
    )
    purpose: Purpose = "other"
    storage_class: DnsSubdomain | None = Field(None, description="Checked against the policy.")
    read_only: bool = False


class SecretKey(Strict):
    """A key of a Secret."""

    name: DnsSubdomain = Field(
        "", description="A Secret that exists; left out, the one that `make cluster-up` makes."
    )
    key: Label = Field(min_length=1)


class RunAs(Strict):
    """Who containers run as: numbers, as Kubernetes takes them."""

    user: int = Field(1000, ge=1, le=MAX_ID)
    group: int = Field(1000, ge=1, le=MAX_ID)
    fs_group: int | None = Field(
        1000, ge=1, le=MAX_ID, description="Group that owns mounted volumes."
    )


class Policy(Strict):
    """The cluster's rules, and the budget of a run. What is left out is not checked."""

    max_limit_ratio: float | None = Field(
        None, ge=1, le=1000, description="Most that a limit may be, as a multiple of its request."
    )
    equal_limits_above_jobs: int | None = Field(
        None, ge=0, le=MAX_ID, description="With more Jobs than this, limits must equal requests."
    )
    max_gpus_per_pod: int | None = Field(None, ge=1, le=MAX_ID)
    reserved_resources: list[Resource] = Field(
        default_factory=list,
        description="GPU resources with a quota of 0; opportunistic pods get around it.",
    )
    opportunistic_classes: list[DnsSubdomain] = Field(
        default_factory=list, description="Priority classes that no quota binds."
    )
    priority_classes: list[DnsSubdomain] = Field(
        default_factory=list, description="Priority classes that may be set; empty for any."
    )
    forbidden_storage_classes: list[DnsSubdomain] = Field(default_factory=list)
    one_node_storage_classes: list[DnsSubdomain] = Field(
        default_factory=list, description="Classes whose volumes one node mounts at a time."
    )
    forbid_sleep: bool = Field(False, description="No `sleep infinity`, no command ending so.")
    allowed_hosts: list[Text] = Field(
        default_factory=list,
        description="Hosts of APIs that pods may ask, such as api.deepseek.com; empty for any.",
    )
    max_hours_per_pod: float | None = Field(None, gt=0, le=MAX_ID)
    max_gpu_hours: float | None = Field(
        None,
        gt=0,
        le=MAX_ID,
        description="GPU-hours of a whole run, if every pod takes its full time.",
    )


class Cluster(Strict):
    """An entry of config/clusters.yaml."""

    namespace: DnsLabel = "default"
    context: Text | None = Field(None, description="Context of the kubeconfig; null, its current.")
    instance: Instance | None = Field(
        None,
        description="Prefix of every name and a label of every object, where several people share"
        " the namespace.",
    )
    images: dict[Name, Image] = Field(
        default_factory=lambda: {"default": "grace:latest"},
        description="Container image by rule or group; `default` for the rest.",
    )
    image_pull_secrets: dict[Name, list[DnsSubdomain]] = Field(
        default_factory=dict,
        description="Registries' Secrets by rule or group, as `images`; `default` is for all.",
    )
    gpus: dict[Name, Gpu] = Field(default_factory=dict, description="Kinds of GPU, by tag.")
    tolerations: list[Toleration] = Field(default_factory=list, description="Of every pod.")
    annotations: dict[Resource, str] = Field(default_factory=dict, description="Of every pod.")
    affinity: dict[str, Any] = Field(
        default_factory=dict,
        description="Of every pod, as Kubernetes writes it; a tag's labels hold as well.",
    )
    runtime_class: DnsSubdomain | None = Field(None, description="RuntimeClass of every pod.")
    volumes: dict[DnsLabel, Volume] = Field(default_factory=dict)
    hf_token: SecretKey | None = Field(
        None, description="Secret that holds HF_TOKEN; null takes it from the environment."
    )
    service_account: DnsSubdomain | None = Field(None, description="Of the pods; they use no API.")
    controller_account: DnsSubdomain | None = Field(
        None,
        description="Service account of the controller that exists, with its rights; null, one that"
        " `make cluster-up` makes with a Role.",
    )
    environment_secret: DnsSubdomain | None = Field(
        None,
        description="Secret with the controller's variables; null, `grace-environment`.",
    )
    run_as: RunAs | None = Field(None, description="Run containers as this user, not as root.")
    policy: Policy = Policy()
    patience_s: Seconds = Field(900, description="Seconds that a pod may stay unscheduled.")
    start_patience_s: Seconds = Field(
        2700, description="Seconds from being scheduled to running: pulling images, mounting."
    )
    grace_s: Seconds = Field(60, description="Seconds after which a Job that is gone counts.")
    removal_s: Seconds = Field(180, description="Seconds that deleted Jobs may take to go.")
    poll_s: Seconds = Field(5.0, description="Seconds between two looks at all pods.")
    api_calls_per_s: float = Field(4.0, gt=0, lt=5, description="Most API calls in a second.")
    api_attempts: int = Field(
        6, ge=1, le=20, description="Tries for each API call, the first included."
    )
    api_backoff_s: float = Field(
        1.0, ge=0, le=3600, description="Seconds before the second try; doubles, with jitter."
    )
    api_timeout_s: Seconds = Field(30.0, description="Seconds that an API call may take.")
    api_patience_s: Seconds = Field(
        1800, description="Seconds that the API may be away before the run ends."
    )
    tries: int = Field(
        3,
        ge=1,
        le=1000,
        description="Tries of a Job that the cluster ended: evicted, deleted, OOMKilled.",
    )
    more_memory: float = Field(
        1.5, gt=1, le=16, description="Times as much memory for a Job that was OOMKilled."
    )
    ttl_s: int = Field(
        86400, ge=0, le=MAX_ID, description="Seconds that finished Jobs stay by themselves."
    )
    peak_gpus: int | None = Field(
        None,
        ge=1,
        le=MAX_ID,
        description="GPUs in use at once; a pod with more runs alone. null: no limit.",
    )
    models_in_sequence: bool = Field(True, description="One model after the other.")

    @field_validator("hf_token", mode="before")
    @classmethod
    def _is_no_token(cls, value: object) -> object:
        names = value.values() if isinstance(value, Mapping) else [value]
        pasted = any(isinstance(name, str) and TOKEN.fullmatch(name) for name in names)
        if pasted or not isinstance(value, Mapping | SecretKey | None):
            raise ValueError(
                "must be {name: ..., key: ...} of a Secret that exists in the cluster, never the"
                " token itself; `HF_TOKEN=... make cluster-up` makes the Secret"
            )
        return value

    @field_validator("hf_token")
    @classmethod
    def _own_token(cls, value: SecretKey | None, info: ValidationInfo) -> SecretKey | None:
        if value is None or value.name:
            return value
        name = own_name(HF_TOKEN_SECRET, info.data.get("instance"))
        return value.model_copy(update={"name": name})

    @field_validator("volumes")
    @classmethod
    def _own_claims(cls, volumes: dict[str, Volume], info: ValidationInfo) -> dict[str, Volume]:
        instance = info.data.get("instance")
        return {
            name: volume
            if volume.claim
            else volume.model_copy(update={"claim": own_name(f"grace-{name}", instance)})
            for name, volume in volumes.items()
        }

    @field_validator("volumes")
    @classmethod
    def _distinct(cls, volumes: dict[str, Volume]) -> dict[str, Volume]:
        for own in ("shm", "workdir"):
            if own in volumes:
                raise ValueError(f"`{own}` is Grace's own; give the volume another name")
        for purpose in ("project", "weights", "journal"):
            names = [name for name, volume in volumes.items() if volume.purpose == purpose]
            if len(names) > 1:
                raise ValueError(f"{' and '.join(names)} both have `purpose: {purpose}`")
        return volumes

    @model_validator(mode="after")
    def _has_an_image(self) -> Self:
        if "default" not in self.images:
            meant = [f"'{name}'" for name in self.images if nearest(name, ["default"])]
            hint = f" (meant by {' and '.join(meant)}?)" if meant else ""
            raise ValueError(
                f"`images` needs `default`{hint}, the image of rules without their own"
            )
        return self

    def image(self, rule: str) -> str:
        """The image of a rule or group."""
        return self.images.get(rule, self.images["default"])

    def pull_secrets(self, rule: str) -> list[str]:
        """Names of the Secrets with which a rule's or group's image is pulled."""
        every = self.image_pull_secrets.get("default", [])
        return list(dict.fromkeys([*every, *self.image_pull_secrets.get(rule, [])]))

    def own(self, name: str) -> str:
        """The name of an object of Grace's own, with the instance before it."""
        return own_name(name, self.instance)

    def volume(self, purpose: Purpose) -> Volume | None:
        """The volume for a purpose, if there is one."""
        return next((v for v in self.volumes.values() if v.purpose == purpose), None)


def own_name(name: str, instance: str | None) -> str:
    """The name of an object of Grace's own in a namespace that it may share."""
    return f"{instance}-{name}" if instance else name


class Clusters(Strict):
    """config/clusters.yaml: names and entries."""

    clusters: dict[Name, Cluster]


def load_clusters(path: Path) -> dict[str, Cluster]:
    """Read config/clusters.yaml. Raises `ConfigError`."""
    try:
        return Clusters.model_validate({"clusters": read_sheet(path, "cluster")}).clusters
    except ValidationError as error:
        raise explain(str(path), error, Clusters, wrapped=True) from None


def select_cluster(name: str, clusters: dict[str, Cluster]) -> Cluster:
    """The configured cluster. Raises `ConfigError`."""
    if name not in clusters:
        raise ConfigError(
            f"config: unknown cluster '{name}' in `cluster`.{nearest(name, clusters)}"
            f" config/clusters.yaml holds: {', '.join(sorted(clusters))}."
        )
    return clusters[name]
