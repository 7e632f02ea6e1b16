# Functions only: what the rules of training take from the recipes.

from grace.models.adapters import FILES as ADAPTER_FILES
from grace.posttraining.checkpoints import DPO, SFT, TRAINS, named_step, online, stage_before
from grace.posttraining.checkpoints import FOLDER as TRAINING_FOLDER
from grace.posttraining.recipe_runs import BASE
from grace.posttraining.trainings import FILES as TRAINED_FILES
from grace.settings.training_outputs import TrainingOutputs

TRAININGS = TrainingOutputs(PROJECT)
# A wildcard's pattern where it can be nothing.
NOTHING = r"(?!)"
TRAINED = {
    name.replace(
        ".", "_"
    ): f"<results>/{TRAINING_FOLDER}/{{recipe}}/seed-{{training_seed}}/{{stage}}/{name}"
    for name in TRAINED_FILES
}


def adapter_of_model(wildcards):
    """The files of a recipe's checkpoint; none of any other model."""
    return [f"{AS_STORED}{file}" for file in PROJECT.adapter_files(wildcards.model)]


def adapter_before(wildcards):
    """The checkpoint that a recipe begins with; none where it begins with a model of models.yaml."""
    before = PROJECT.trainings[wildcards.recipe].before
    return PROJECT.adapter_files(before.key) if before else []


def trained_files(stage):
    """The outputs of a training."""
    return {name: path.replace("{stage}", stage) for name, path in TRAINED.items()}


def adapter_of_stage(stage):
    """What is read of them."""
    return [path for name, path in trained_files(stage).items() if path.endswith(ADAPTER_FILES)]


def stage_of(wildcards):
    """The stage of a job between the checkpoint that gives candidates and its successor."""
    number = int(getattr(wildcards, "round", 0))
    return online(number) if number else DPO


def rounds_of_recipes():
    """The numbers of all online rounds that recipes of the run have."""
    most = max((run.recipe.online_rounds for run in PROJECT.trainings.values()), default=0)
    return [str(number) for number in range(1, 1 + most)]


def adapter_before_stage(wildcards):
    """The checkpoint that gives a round's candidates, and that it trains on."""
    key, _ = asked_entry(wildcards, "before")
    return [f"{AS_STORED}{file}" for file in PROJECT.adapter_files(key)]


def step_config(step):
    """The output configuration of a step of all seeds."""
    return lambda wildcards: getattr(TRAININGS, step)(wildcards.recipe).model_dump()


def stage_config(step):
    """That of a step before one stage of one training seed."""
    return lambda wildcards: getattr(TRAININGS, step)(
        wildcards.recipe, int(wildcards.training_seed), stage_of(wildcards)
    ).model_dump()


def evaluate_config(wildcards):
    return TRAININGS.evaluate(wildcards.recipe, wildcards.evaluated).model_dump()


def adapter_evaluated(wildcards):
    """The adapter of what is evaluated; that of a base which another recipe trained."""
    key, _ = asked_entry(wildcards, "evaluated")
    return [f"{AS_STORED}{file}" for file in PROJECT.adapter_files(key)]


def trained_before(wildcards):
    """What the model that is evaluated was trained on, in this recipe and those before it."""
    run = PROJECT.trainings[wildcards.recipe]
    return [f"{AS_STORED}{file}" for file in run.trained_on(wildcards.evaluated, PROJECT.trainings)]


def evaluations_of(recipe):
    """The evaluations of a recipe in this run."""
    folder = PROJECT.trainings[recipe].folder
    names = TRAININGS.compare(recipe).evaluated
    return [f"{AS_STORED}{folder}/evaluation/{name}.json" for name in names]


def evaluations(wildcards):
    return evaluations_of(wildcards.recipe)


def all_evaluations():
    """Those of all recipes of the run."""
    return [file for recipe in PROJECT.trainings for file in evaluations_of(recipe)]


def checks_of_recipes():
    """By recipe how answers to each type of instructions are checked."""
    return {
        name: {one.name: one.check and one.check.model_dump() for one in run.bank.types}
        for name, run in PROJECT.trainings.items()
    }


def training_curves(wildcards):
    """The curves of the checkpoints that are evaluated."""
    folder = PROJECT.trainings[wildcards.recipe].folder
    found = [name.partition("-") for name in TRAININGS.compare(wildcards.recipe).curves]
    return [
        f"{AS_STORED}{folder}/seed-{seed}/{stage}/training_curve.csv" for stage, _, seed in found
    ]


def train_config(stage=None):
    """That of a training; of a round where no stage is named."""
    return lambda wildcards: TRAININGS.train(
        wildcards.recipe, stage or stage_of(wildcards), int(wildcards.training_seed)
    ).model_dump()


def asked_entry(wildcards, of):
    """Key and entry of the model that a step asks or trains: the base, or a checkpoint."""
    run = PROJECT.trainings[wildcards.recipe]
    if of == "before":
        return run.checkpoint(stage_before(stage_of(wildcards)), int(wildcards.training_seed))
    if of == "evaluated":
        return run.model_of(wildcards.evaluated)
    return run.base, run.base_entry


def asking_code(script, of, experiment):
    """The code behind a step that asks a model."""
    return lambda wildcards: TRAININGS.asking_code(
        script, asked_entry(wildcards, of)[1], experiment
    )


def training_code(script):
    return TRAININGS.code(script)


def stimuli_of_studies():
    """By study its file and where it lies, as jobs compare training text with them."""
    jobs = PROJECT.study_jobs()
    return {name: {"file": PROJECT.stimuli_path(name), "study": jobs[name]} for name in jobs}


def stimuli_files(wildcards):
    return [PROJECT.stimuli_path(study) for study in PROJECT.studies]


def spending_of(recipe, step, seed):
    """What a step needs to hold itself against the recipe's budget, and to note what it takes."""
    from grace.forecast.recipe_site import spending_settings

    cores = CPU_CORES if on_cluster() else workflow.cores or CPU_CORES
    return spending_settings(PROJECT, recipe, step, seed, cores)


def approvals_before(run, of, gate, wildcards):
    """What must be approved before a step: a sample, pairs, or the checkpoint that it asks."""
    if gate == "sample":
        return run.gate(gate)
    seed = int(getattr(wildcards, "training_seed", 0))
    if gate == "pairs":
        return run.gate(gate, seed, stage_of(wildcards))
    return run.gate_after(stage_before(stage_of(wildcards)), seed) if of == "before" else []


def training_runtime(of="base", gate=None, step=None):
    """What a step needs that changes no byte: folders, the model's entry, decisions before it.

    A `step` that computes also gets the recipe's budget. A param function that takes `threads` is
    not recorded.
    """

    def settings(wildcards, threads):
        config = PROJECT.config
        run = PROJECT.trainings[wildcards.recipe]
        key, entry = asked_entry(wildcards, of)
        seed = getattr(wildcards, "training_seed", None)
        number = int(seed) if seed else None
        base = {run.base: run.base_entry.model_dump()} if entry.engine_spec.runs_server else {}
        name = named_step(step, dict(wildcards.items())) if step else None
        spent = {"spending": spending_of(wildcards.recipe, name, number)} if step else {}
        return {
            **spent,
            **({"sharing": {**base, key: entry.model_dump()}} if base and entry.adapter else {}),
            "recipe": wildcards.recipe,
            "key": key,
            "entry": entry.model_dump(),
            "approvals": [one.dump() for one in approvals_before(run, of, gate, wildcards)],
            "trained": f"{run.name}.{SFT if step == SFT else stage_of(wildcards)}-{seed}",
            "stimuli": stimuli_of_studies(),
            "bank": str(TRAININGS.bank_file(wildcards.recipe)),
            "held_out_types": run.recipe.instructions.held_out_types,
            "constitution": run.constitution.texts(),
            "environment": config.training.environment,
            "requests": config.requests.model_dump(),
            "scoring": config.scoring.model_dump(),
            "serving": config.serving.model_dump(),
            "root": str(ROOT),
            "journal_dir": config.journal_dir,
            "journal_timeout_s": config.journal_timeout_s,
            "log_dir": f"{config.results}/logs/{TRAINING_FOLDER}/{wildcards.recipe}",
            "threads": threads,
        }

    return settings


def training_threads(wildcards):
    """As `inference_threads`, of the recipe's base."""
    return threads_of(PROJECT.trainings[wildcards.recipe].base_entry)


def gpus_of_step(step):
    """GPUs of a step: those of the base, and one of a training."""

    def gpus(wildcards):
        entry = PROJECT.trainings[wildcards.recipe].base_entry
        found = entry.engine_spec.gpus(entry)
        return min(found, 1) if step in TRAINS else found

    return gpus


def memory_of_step(step):
    """MB of memory; more each time."""

    def memory(wildcards, attempt):
        run = PROJECT.trainings[wildcards.recipe]
        first = None
        if on_cluster() or PROJECT.config.gpus:
            first = next(iter(training_pods.placements(PROJECT, run.name, step)), None)
        needed = training_pods.step_memory_mb(PROJECT, run, step, first)
        return memory_for_attempt(needed, attempt)

    return memory


def minutes_of_step(step):
    """Minutes after which a job of a step is ended. On this machine none is."""

    def minutes(wildcards):
        if not on_cluster() and workflow.local_exec:
            return LEAST_MIN
        seed = getattr(wildcards, "training_seed", None)
        try:
            return training_pods.step_minutes(
                PROJECT, wildcards.recipe, step, int(seed) if seed else None
            )
        except GraceError as error:
            raise WorkflowError(str(error)) from None

    return minutes


def contamination_reports(wildcards):
    """The comparison of each recipe's training text with the stimuli; none without recipes."""
    return [
        f"{AS_STORED}{run.folder}/contamination.json" for run in PROJECT.recipes_wanted.values()
    ]


def comparison_figures():
    """Figures of a recipe's evaluation and trainings, and the same in other formats beside them."""
    folder = "<results>/training/{recipe}/evaluation/figures"
    names = ("rates", "types", "losses")
    shown = {f"{name}_figure": f"{folder}/{name}.png" for name in names}
    return shown | {
        f"{name}_{kind}": f"{folder}/{name}.{kind}"
        for name in names
        for kind in declared.FIGURE_FORMATS
    }


def training_results(wildcards):
    """What the report shows of recipes: comparisons, and what of the training text was left out."""
    found = []
    for recipe, run in PROJECT.trainings.items():
        if TRAININGS.compare(recipe).evaluated:
            compared = [
                file.format(recipe=recipe) for file in map(plain_name, rules.compare.output)
            ]
            names = ("contamination.json", "selection.json", "costs.csv")
            pairs = run.pairs_needed(PROJECT.checkpoints_wanted)
            own = [*(f"{run.folder}/{name}" for name in names), *pairs]
            found += [f"{AS_STORED}{file}" for file in (*compared, *own)]
    return found


def training_texts(wildcards):
    """All files of a recipe that hold training text, of the checkpoints that the run has.

    Those of the recipes behind its base come first.
    """
    run = PROJECT.trainings[wildcards.recipe]
    before = run.trained_on(BASE, PROJECT.trainings)
    pairs = run.pairs_needed(PROJECT.checkpoints_wanted)
    files = (*before, f"{run.folder}/selection.json", *pairs)
    return [f"{AS_STORED}{file}" for file in files]


def approvals_asked():
    """What `snakemake approve` may approve: the gate's, of the recipes of the run."""
    gate = PROJECT.config.gate
    return (
        [one.dump() for run in PROJECT.trainings.values() for one in run.gates(gate)]
        if gate
        else []
    )
