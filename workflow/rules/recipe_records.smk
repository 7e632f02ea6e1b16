# Functions only: what the rules of costs and model cards take from the recipes.

from grace.posttraining.spending import ledger_of


def stages_wanted(recipe):
    """The stages and training seeds of a recipe that the run trains."""
    run = PROJECT.trainings[recipe]
    return [
        (stage, seed)
        for seed in run.seeds
        for stage in ("sft", "dpo")
        if needs_pairs(recipe, seed) or f"{recipe}.{stage}-{seed}" in PROJECT.checkpoints_wanted
    ]


def trained_records(wildcards):
    """What is written last of each adapter that the run trains."""
    folder = PROJECT.trainings[wildcards.recipe].folder
    return [
        f"{AS_STORED}{folder}/seed-{seed}/{stage}/grace_adapter.json"
        for stage, seed in stages_wanted(wildcards.recipe)
    ]


def costs_config(wildcards):
    """The output configuration of a recipe's costs."""
    run = PROJECT.trainings[wildcards.recipe]
    return {"seeds": list(run.seeds), "budget": run.recipe.budget.model_dump()}


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
    folder = f"{AS_STORED}{PROJECT.trainings[wildcards.recipe].folder}"
    pairs = f"{folder}/seed-{wildcards.training_seed}/pairs.json"
    return f"{folder}/selection.json" if wildcards.stage == "sft" else pairs


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
        "hyperparameters": run.recipe.hyperparameters(wildcards.stage),
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
