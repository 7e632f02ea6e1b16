"""metadata.json: a replication's seeds, times, hardware, versions and configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metadata(plan: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The replication's metadata from its plan and each experiment's provenance.

    `runs` maps labels such as `study1_exp1` to the content of their provenance files.
    """
    model = plan["model"]
    first = next(iter(runs.values()), {})
    forms = [
        run["cell"]["surface_forms"] for run in runs.values() if "surface_forms" in run["cell"]
    ]
    decoding = [run["cell"]["decoding"] for run in runs.values() if "decoding" in run["cell"]]
    hardware = first.get("hardware", {})
    found_gpus = hardware.get("gpus", [])
    return {
        "model_key": model["key"],
        "model_name": model["name"],
        "revision": model["revision"],
        "weights_digest": model["weights"],
        "replication_index": plan["replication"],
        "replication_id": f"replication-{plan['replication']}",
        "seeds": plan["seeds"],
        "timestamps": {
            "start": min((run["started"] for run in runs.values()), default=plan["created"]),
            **{f"{label}_complete": run["completed"] for label, run in runs.items()},
            "end": max((run["completed"] for run in runs.values()), default=plan["created"]),
        },
        "deployment_info": {
            "pod": hardware.get("pod"),
            "node": hardware.get("node"),
            "engine": first.get("engine"),
            "cuda": found_gpus[0]["driver"] if found_gpus else None,
            "gpu_count": first.get("gpus"),
            "gpu_type": found_gpus[0]["name"] if found_gpus else None,
            "hardware": hardware,
            "versions": first.get("versions"),
        },
        "configuration": {
            "temperatures": {
                "exp1": decoding[0]["temperature"] if decoding else None,
                "exp2": 1.0,
            },
            "decoding": decoding[0] if decoding else None,
            "surface_forms": forms[0] if forms else None,
            "max_model_len": model["max_model_len"],
            "tensor_parallel_size": max(1, first.get("gpus", 0)),
            "dtype": model["dtype"],
            "quantization": model["quantization"],
            "prompts": {label: run["cell"]["prompts"] for label, run in runs.items()},
            "trials": {label: run["cell"]["limit"] for label, run in runs.items()},
        },
        "git_commit": plan["commit"],
        "git_dirty": plan["dirty"],
        "image_digest": None,
        "runs": {
            label: {
                key: run[key]
                for key in ("started", "completed", "requests", "code", "commit", "dirty")
            }
            for label, run in runs.items()
        },
    }
