"""The README.md of an export: the adapter's card, its proof, and how this form is used.

No path of this machine is in it, and none of the people's rows.
"""

from collections.abc import Sequence

from app.adapters import exports, model_card, programs, registry
from app.core.models import Adapter, Export, Json


def write(
    adapter: Adapter, row: Export, agreement: Sequence[Json], notes: Sequence[str], counted: str
) -> str:
    """Write the card of what was just proved.

    Args:
        counted: How many answers are right, in sentences; empty: nobody has counted.
        agreement: One for each time that a foreign program opened it, as its row keeps them.
        notes: Sentences about this very file.
    """
    path = registry.folder(adapter) / "README.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else f"# {adapter.name}\n"
    if counted:
        card = model_card.with_count(card, counted)
    form = exports.FORMS[row.form]
    lines = [
        "## What this is",
        "",
        f"{form.name}, {exports.QUANTIZATION_WORDS[row.quantization]}. {form.about}",
        *(f"\n{sentence}" for sentence in notes),
        "",
        "## How near it is to the adapter as it was trained",
        "",
        *_table(agreement),
        "",
        "The reference is transformers with PEFT in float32 on the starting model's weights, as "
        f"they were imported.{_cost_of_four_bits(adapter)} An answer that is not over within the "
        "words that are named counts as one without an end, for the reference, too.",
        "",
        "## How to use it",
        "",
    ]
    for program in programs.for_form(adapter, row.form, row.quantization):
        lines += [f"### {program.name}", ""]
        for step in program.steps:
            lines += [step.words, ""]
            if step.command:
                kind = "python" if step.is_python else "sh"
                lines += [f"```{kind}", step.command.rstrip("\n"), "```", ""]
        lines += [*(f"- {trap}" for trap in program.traps), ""]
    return model_card.with_use(card, "\n".join(lines))


def _cost_of_four_bits(adapter: Adapter) -> str:
    """Say what leaving them costs; empty where nothing was trained on any."""
    if adapter.job is not None and adapter.job.config.get("method") == "lora":
        return ""
    return (
        " It was trained on a starting model in 4 bits; leaving those costs a little of its own, "
        "which is in none of these figures. Of this adapter it was not measured. Of one of "
        "SmolLM2-135M-Instruct, trained for 54 steps on Etude's sample of a clinic, it was 0.015 "
        "of the held-out loss (29 November 2026)."
    )


def _table(agreement: Sequence[Json]) -> list[str]:
    rows = [
        "| opened by | numbers | same likeliest word | loss | reference's | judged over "
        "| answers that end | reference's |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in agreement:
        rows.append(
            f"| {each['program']} | {each['quantization']} | {each['same_share'] * 100:.1f} % | "
            f"{each['loss']:.4f} | {each['reference_loss']:.4f} | {each['num_positions']:,} words "
            f"of {each['num_rows']} {each['rows']} | {_endings(each)} |"
        )
    return rows


def _endings(each: Json) -> str:
    said = each.get("endings")
    if not said:
        return "not counted | "
    ended = f"{said['num_ended']} of {said['num_asked']} within {said['max_tokens']} words"
    return f"{ended} | {said['reference_ended']}"
