"""Instructions of a recipe: from its bank, and written by the base."""

from pathlib import Path
from typing import Any

from grace.digests import digest
from grace.errors import ConfigError
from grace.posttraining import instructions
from grace.posttraining.asking import asked
from grace.posttraining.instruction_bank import read_bank
from grace.posttraining.overlap import ProtectedTexts, refuse
from grace.posttraining.protected import protected_texts
from grace.results.records import write_json, write_records
from grace.settings.training_configs import InstructionsStep


def gather(
    rows: Path, report: Path, config: InstructionsStep, settings: dict[str, Any]
) -> dict[str, Any]:
    """Write instructions.json, and what became of those of the base. Gives facts of the model."""
    bank = read_bank(Path(settings["bank"]), config.held_out_types)
    if digest(bank.asked()) != config.bank:
        raise ConfigError(f"{settings['bank']}: was edited after this run had read it. Run again.")
    evaluation = instructions.of_evaluation(bank, config)
    items = [item.record(instructions.EVALUATION) for item in evaluation]
    protected = protected_texts(settings["stimuli"], items)
    by_base = round(config.train * config.by_base)
    facts: dict[str, Any] = {}
    invented = instructions.Invented()
    known = [*evaluation, *instructions.of_training(bank, config, config.train - by_base)]
    # What people wrote is refused before the base is asked anything.
    check(protected, known[len(evaluation) :], settings, bank.invented)
    if config.model is not None and by_base:
        with asked(config.model, settings, "exp1", f"{settings['recipe']}, instructions") as model:
            invented = instructions.invent(
                bank, config, by_base, known, model.tokenizer, model.engine.generate, protected
            )
        facts = model.facts
    training = instructions.of_training(bank, config, config.train - len(invented.rows))
    check(protected, training, settings, ())
    write_records(rows, instructions.records([*training, *invented.rows], evaluation))
    write_json(
        report,
        {
            "held_out_types": list(bank.held_out(config.held_out_types)),
            "train": len(training) + len(invented.rows),
            "evaluation": len(evaluation),
            "by_base": len(invented.rows),
            "by_base_asked": invented.asked,
            "by_base_left_out": invented.dropped,
            "protected_texts": protected.number,
        },
    )
    return facts


def check(
    protected: ProtectedTexts, items: list[Any], settings: dict[str, Any], invented: Any
) -> None:
    """Raise `ConfigError` where a text that a person wrote overlaps."""
    texts = [
        *((f"instruction {item.text!r}", item.text) for item in items),
        *((f"the constitution's {name}", text) for name, text in settings["constitution"].items()),
        *((f"the bank's invented {text!r}", text) for text in invented),
    ]
    refuse(protected.all_shared(texts), f"{len(texts)} training texts")


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__) as record:
        record |= gather(
            Path(snakemake.output.rows),
            Path(snakemake.output.report),
            InstructionsStep.model_validate(snakemake.params.output_config),
            dict(snakemake.params.runtime),
        )
