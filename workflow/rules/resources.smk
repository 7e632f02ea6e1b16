# Functions only: what rules ask of the machine or the cluster that they run on. None of it changes a
# byte of an output.

from grace.runs import continuation
from grace.cluster.plan import (
    indexed,
    pod_plan,
    policy,
    policy_report,
    reading_pods,
    training_pods,
)
from grace.cluster.run import plugin
from grace.cluster.run.pod_requests import ExecutorPlan
from grace.cluster.plan.timeouts import LEAST_MIN
from grace.cluster.plan.sizes import CLIENT_CORES, CPU_CORES, DISK_MB, memory_for_attempt
from grace.cluster.run.storage import adapt
from grace.places import is_used_from_elsewhere
from grace.runs.scripting import show


def refuse_what_breaks_policy(jobs):
    """Raise `GraceError` where the pods of these jobs would break a rule of the cluster."""

    def names(job):
        of_recipe = step_of(job) is not None and step_of(job).of_recipe
        return ("recipe", "training_seed") if of_recipe else ("model", "replication")

    policy_report.refuse(
        PROJECT,
        [
            (rule_of(job), *(job.wildcards_dict.get(name) for name in names(job)))
            for job in jobs
            if rule_of(job)
        ],
        shared=workflow.storage_settings.default_storage_provider is None,
    )


def cluster_plan():
    """What `--executor kubernetes` knows of the project, once it is known what is to run.

    Raises `GraceError` where that would break the cluster's rules; nothing is submitted yet.
    """
    refuse_what_breaks_policy(workflow.dag.needrun_jobs())
    loaded = reading_pods.models_loaded(PROJECT)
    trained = training_pods.loaded(PROJECT)
    return ExecutorPlan(
        name=PROJECT.config.cluster,
        cluster=PROJECT.cluster,
        results=PROJECT.config.results,
        # What trains comes before the models that wait for it.
        placements={
            **{key: placements for key, (placements, _) in trained.items()},
            **{model: placements for model, (_, placements) in loaded.items()},
        },
        recipes={
            (recipe, training_pods.pod_rule(step.name)): training_pods.loads(recipe, step.name)
            for recipe in PROJECT.trainings
            for step in STEPS.values()
            if step.trains
        },
        parallelism={
            **{key: at_once for key, (_, at_once) in trained.items()},
            **{
                model: pod_plan.parallelism(entry, next(iter(placements), None))
                for model, (entry, placements) in loaded.items()
            },
        },
        environment=(
            {continuation.VARIABLE: continuation.encoded(PROJECT.failed)} if PROJECT.failed else {}
        ),
        expected=pod_plan.expected_minutes(PROJECT),
        reads_answers=PROJECT.extraction.asks_model,
        reader=PROJECT.reader.key if PROJECT.reader else None,
        reading=reading_pods.secrets(PROJECT),
        secrets=[] if PROJECT.cluster.hf_token else ["HF_TOKEN"],
        keys={
            model: [entry.api_key_env]
            for model, entry in PROJECT.models.items()
            if entry.api_key_env
        },
    )


def fit_cluster():
    """Whether pods can run this; raises `GraceError`."""
    if is_used_from_elsewhere(ROOT):
        raise GraceError(
            "Pods get the code from the folder that a run is started in, and this one uses Grace"
            " from elsewhere: run it on a cluster in a checkout of Grace, with your config in it."
        )
    # Of recipes, whose trainings need a GPU on which they fit, too.
    assert PROJECT.training_places is not None
    return PROJECT.placements


# Snakemake looks for executors and makes files after this.
KUBERNETES = plugin.register(workflow, cluster_plan, fit=fit_cluster)
adapt(workflow, PROJECT.config.results)


def stop_where_policy_is_broken(jobs):
    """For `policy` and `manifests` alone; Snakemake tells of a job that fails three times over."""
    names = {rule_of(job) for job in jobs}
    try:
        if "policy" in names:
            verdicts = policy_report.verdicts(PROJECT)
            if policy.broken(verdicts):
                show(policy_report.text(PROJECT), f"{PROJECT.config.results}/logs/policy.log")
        elif "manifests" in names:
            verdicts = policy_report.verdicts(PROJECT)
            assert all(indexed.text(PROJECT, model) for model in PROJECT.models)
        else:
            verdicts = []
        policy.refuse(verdicts, PROJECT.config.cluster, submitting=False)
    except GraceError as error:
        raise WorkflowError(str(error)) from None


def on_cluster():
    """Whether jobs become pods; known once the DAG is built."""
    return KUBERNETES.chosen


def threads_of(entry):
    """All cores for a model that computes on them, a few for one that has GPUs or a server."""
    if not entry.engine_spec.computes_on_cores(entry):
        return CLIENT_CORES
    return CPU_CORES if on_cluster() else workflow.cores or CPU_CORES


def inference_threads(wildcards):
    return threads_of(PROJECT.models[wildcards.model])


def gpus(wildcards):
    entry = PROJECT.models[wildcards.model]
    return entry.engine_spec.gpus(entry)


def inference_memory(wildcards, attempt):
    """MB of memory; more each time. Where no tag says more, as for the model's own GPUs."""
    model, first = wildcards.model, None
    if on_cluster() or PROJECT.config.gpus:
        first = next(iter(PROJECT.placements[model]), None)
    return memory_for_attempt(pod_plan.inference_memory_mb(PROJECT.entries[model], first), attempt)


def in_asking_order():
    """Models and replications as they are asked: one model after the other.

    Those that share a server are neighbours.
    """
    near = (key for model in PROJECT.models for key in (*PROJECT.sharing(model), model))
    return [
        (model, str(replication))
        for model in dict.fromkeys(near)
        for asked, replication in PROJECT.replications
        if asked == model
    ]


ASKING = in_asking_order()
# What only reads answers is quick, and shows what is wrong with them; plans come before all.
PRIORITY_OF_TABLES = 2 * len(ASKING) + 2
PRIORITY_OF_PLANS = PRIORITY_OF_TABLES + 1


def asking_priority(experiment):
    """Falls from model to model, so that each is loaded once, and its server started once.

    Jobs of the same priority Snakemake takes in any order: each might load another model. Of one
    model and replication, answers are sampled before distributions are measured.
    """

    def priority(wildcards):
        asked = (wildcards.model, wildcards.replication)
        place = len(ASKING) - ASKING.index(asked) if asked in ASKING else 0
        return 2 * place + (experiment == "exp1")

    return priority


def inference_minutes(experiment):
    """Minutes after which a job that asks the model is ended. On this machine none is."""

    def minutes(wildcards):
        if not on_cluster() and workflow.local_exec:
            return LEAST_MIN
        try:
            return pod_plan.inference_minutes(PROJECT, wildcards.model, wildcards.study, experiment)
        except GraceError as error:
            raise WorkflowError(str(error)) from None

    return minutes


def serialize_on_cluster(wildcards):
    """1 in a pod's plan, so that its jobs come one after the other and their sizes do not add up.

    Of `inference` a group may have 1 at a time; on one machine such jobs run side by side.
    """
    return int(on_cluster())


def reading_inference(wildcards):
    """1 where the job loads a model, as other such jobs do; else as for all jobs of tables."""
    return 1 if PROJECT.reader else serialize_on_cluster(wildcards)


def reading_threads(wildcards):
    """As `inference_threads`, of the model that reads answers; 1 where that is an API's."""
    reader = PROJECT.reader
    return threads_of(reader.entry) if reader else 1


def reading_gpus(wildcards):
    reader = PROJECT.reader
    return reader.entry.engine_spec.gpus(reader.entry) if reader else 0


def reading_memory(wildcards, attempt):
    """MB of memory; more each time."""
    return memory_for_attempt(reading_pods.reading_memory_mb(PROJECT), attempt)


def reading_disk(wildcards):
    return DISK_MB if PROJECT.reader else 0


def reading_minutes(wildcards):
    """Minutes after which a job that lets a model read answers is ended."""
    return reading_pods.reading_minutes(PROJECT, wildcards.model)


def memory(step):
    """MB of memory for a job of the step; more each time."""
    return lambda wildcards, attempt: memory_for_attempt(STEPS[step].mem_mb, attempt)
