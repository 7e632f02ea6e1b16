# Functions only: what the rules of costs and model cards take from the recipes.

from grace.posttraining.checkpoints import kind_of_stage
from grace.posttraining.spending import ledger_of


def stages_wanted(recipe):
    """The stages and training seeds of a recipe that the run trains."""
    run = PROJECT.trainings[recipe]
    return [
        (stage, seed)
        for seed in run.seeds
        for stage in run.needed(PROJECT.checkpoints_wanted, seed)
    ]


def trained_records(wildcards):
    """What is written last of each adapter that the run trains."""
    folder = PROJECT.trainings[wildcards.recipe].folder
    return [
        f"{AS_STORED}{folder}/seed-{seed}/{stage}/grace_adapter.json"
        for stage, seed in stages_wanted(wildcards.recipe)
    ]


def costs_config(wildcards):
    """The output configuration of a recipe's costs; of rounds only where the run has some."""
    run = PROJECT.trainings[wildcards.recipe]
    rounds = [
        [seed, number]
        for seed in run.seeds
        if (number := run.rounds(PROJECT.checkpoints_wanted, seed))
    ]
    told = {"rounds": rounds} if rounds else {}
    return {"seeds": list(run.seeds), "budget": run.recipe.budget.model_dump(), **told}


def costs_runtime(wildcards, threads):
    config = PROJECT.config
    return {
        "recipe": wildcards.recipe,
        "ledger": ledger_of(config.journal_dir, config.results, wildcards.recipe),
    }


def trained_files_of(wildcards):
    """All that a training leaves."""
    folder = f"{AS_STORED}{PROJECT.trainings[wildcards.recipe].folder}"
    return [
        f"{folder}/seed-{wildcards.training_seed}/{wildcards.stage}/{name}"
        for name in TRAINED_FILES
    ]


def data_trained_on(wildcards):
    """The texts of the rows or pairs of a training."""
    run = PROJECT.trainings[wildcards.recipe]
    if wildcards.stage == SFT:
        return f"{AS_STORED}{run.folder}/selection.json"
    return f"{AS_STORED}{run.pairs_file(wildcards.stage, int(wildcards.training_seed))}"


def rates_of_evaluation(wildcards):
    """What the evaluation says of the recipe's checkpoints, where there is one."""
    if not TRAININGS.compare(wildcards.recipe).evaluated:
        return []
    folder = PROJECT.trainings[wildcards.recipe].folder
    return [f"{AS_STORED}{folder}/evaluation/rates.csv"]


def card_config(wildcards):
    """The output configuration of a model card."""
    run = PROJECT.trainings[wildcards.recipe]
    about = run.base_entry.about
    return {
        "key": f"{wildcards.recipe}.{wildcards.stage}-{wildcards.training_seed}",
        "stage": wildcards.stage,
        "seed": int(wildcards.training_seed),
        "base": run.base_entry.name,
        "licence": about.licence if about else None,
        "principles": [one.text for one in run.constitution.principles],
        "hyperparameters": run.recipe.hyperparameters(kind_of_stage(wildcards.stage)),
    }


def training_records(wildcards):
    """Costs and model cards of the recipes of a run; none without recipes."""
    found = []
    for name, run in PROJECT.recipes_wanted.items():
        found.append(f"{AS_STORED}{run.folder}/costs.json")
        found += [
            f"{AS_STORED}{run.folder}/seed-{seed}/{stage}/README.md"
            for stage, seed in stages_wanted(name)
        ]
    return found
