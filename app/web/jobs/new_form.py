"""The form of a new job: what was typed, kept as typed, and the TrainConfig that it means.

A field of the settings that is left empty takes the preset's value, so the form means the same
with and without JavaScript, and what differs from the preset can be seen at a glance.
"""

from dataclasses import dataclass, field
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError

from app.core.errors import Problems
from app.core.models import BaseModel, Job
from app.training.config import (
    PRESETS,
    Objective,
    Preset,
    TrainConfig,
    paper_learning_rate,
    proposed_learning_rate,
)
from app.web.forms import row_number
from app.web.jobs.page import decimal, in_words

DEFAULT_PRESET = "balanced"


@dataclass(frozen=True)
class SettingField:
    """One setting that can be changed: what stands beside its input."""

    name: str
    label: str
    help: str
    unit: str
    span: str  # the allowed values, e.g. "1 to 256"
    is_whole: bool
    is_advanced: bool
    choices: list[tuple[str, str]]
    presets: dict[str, str]  # preset's name -> its value in words


@dataclass
class JobForm:
    """What a browser sent, or what an empty form starts with."""

    name: str = ""
    version_id: str = ""
    # A version of its own to test on, as programs send one; only a copied job brings it along.
    validation_version_id: str = ""
    base_model_id: str = ""
    start_adapter_id: str = ""  # empty: a fresh adapter
    preset: str = DEFAULT_PRESET
    rate_rule: str = "width"  # where the learning rate comes from if it is not typed
    changes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, sent: dict[str, str]) -> "JobForm":
        """Take the known fields out of a sent form."""
        return cls(
            name=sent.get("name", ""),
            version_id=sent.get("version_id", ""),
            validation_version_id=sent.get("validation_version_id", ""),
            base_model_id=sent.get("base_model_id", ""),
            start_adapter_id=sent.get("start_adapter_id", ""),
            preset=sent.get("preset", DEFAULT_PRESET),
            rate_rule="paper" if sent.get("rate_rule") == "paper" else "width",
            changes={
                name: sent[name].strip()
                for name in TrainConfig.model_fields
                if sent.get(name, "").strip()
            },
        )

    @classmethod
    def of_job(cls, job: Job, preset: str) -> "JobForm":
        """Fill a form in like an earlier job: its preset, and what differs from that."""
        config = job.config
        usual = PRESETS[preset].settings(
            job.base_model.config, config.get("objective", "supervised")
        )
        base = usual.model_dump() | {"objective": "supervised"}
        return cls(
            name=job.name,
            version_id=str(job.version_id),
            validation_version_id=str(job.validation_version_id or ""),
            base_model_id=str(job.base_model_id),
            start_adapter_id=str(job.start_adapter_id or ""),
            preset=preset,
            changes={
                name: _typed(config[name])
                for name in base
                if config.get(name, base[name]) != base[name]
            },
        )

    def config(
        self, model: BaseModel | None, inherited: dict[str, Any] | None = None
    ) -> tuple[TrainConfig | None, dict[str, str]]:
        """Work out the settings for a model; where that fails, a sentence for each wrong field.

        Args:
            inherited: From the adapter that it starts from, whatever was typed.
        """
        if self.preset not in PRESETS:
            return None, {"preset": "Choose Quick, Balanced or Thorough."}
        values: dict[str, Any] = (
            PRESETS[self.preset].settings(_config(model), self.objective).model_dump()
        )
        if self.rate_rule == "paper":
            values["learning_rate"] = paper_learning_rate(
                model.num_parameters if model else None, self.objective
            )
        values |= {name: _number(typed) for name, typed in self.changes.items()}
        values |= inherited or {}
        try:
            return TrainConfig.model_validate(values), {}
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors()}
            return None, {each.name: _sentence(each) for each in FIELDS if each.name in wrong}

    @property
    def objective(self) -> Objective:
        return "dpo" if self.changes.get("objective") == "dpo" else "supervised"

    def rate_sentence(self, config: TrainConfig, model: BaseModel | None) -> str:
        """Say which learning rate the job gets and where that comes from."""
        proposed = decimal(proposed_learning_rate(_config(model), self.objective))
        rate = decimal(config.learning_rate)
        if "learning_rate" in self.changes:
            sentence = f"Learning rate {rate}, as you typed it; Etude proposes {proposed}."
        elif self.rate_rule == "paper":
            sentence = f"Learning rate {rate}, from the QLoRA paper; Etude proposes {proposed}."
        else:
            factor = PRESETS[self.preset].rate_factor
            sentence = f"Learning rate {rate}, as proposed for this model."
            if factor > 1:
                sentence = f"Learning rate {rate}: twice the {proposed} proposed for this model."
            elif factor < 1:
                sentence = f"Learning rate {rate}: half the {proposed} proposed for this model."
        if self.objective == "dpo":
            sentence += " For pairs, the proposal is a tenth of the usual rate."
        return sentence

    def suggest(self, method: str) -> None:
        """Begin with a method other than the preset's, unless one is chosen already."""
        if method and method != PRESETS[DEFAULT_PRESET].config.method:
            self.changes.setdefault("method", method)

    def ids(self) -> tuple[int, int, int | None]:
        """Return the chosen version, base model and, where there is one, version to test on.

        Raises:
            Invalid: one of them is missing.
        """
        version, base_model = row_number(self.version_id), row_number(self.base_model_id)
        problems = Problems()
        if version is None:
            problems.add("Choose the data to learn from.", "version_id")
        if base_model is None:
            problems.add("Choose a starting model.", "base_model_id")
        problems.check()
        assert version is not None
        assert base_model is not None
        return version, base_model, row_number(self.validation_version_id)


def _fields() -> list[SettingField]:
    fields = []
    for name, info in TrainConfig.model_fields.items():
        extra = info.json_schema_extra
        about = extra if isinstance(extra, dict) else {}
        fields.append(
            SettingField(
                name=name,
                label=info.title or name,
                help=info.description or "",
                unit=str(about.get("unit", "")),
                span=_span(info.metadata),
                is_whole=info.annotation is int,
                is_advanced=bool(about.get("is_advanced")),
                choices=_choices(name, info.annotation),
                presets={preset.name: _in_preset(name, preset) for preset in PRESETS.values()},
            )
        )
    return fields


def _config(model: BaseModel | None) -> dict[str, Any] | None:
    return model.config if model else None


def _in_preset(name: str, preset: Preset) -> str:
    if name == "learning_rate":
        times = {1: "as proposed", 2: "twice the proposed", 0.5: "half the proposed"}
        return times[preset.rate_factor]
    return in_words(name, getattr(preset.config, name))


def _choices(name: str, kind: Any) -> list[tuple[str, str]]:
    values = [True, False] if kind is bool else get_args(kind)
    return [(_typed(value), in_words(name, value)) for value in values]


def _span(limits: list[Any]) -> str:
    low = high = ""
    for limit in limits:
        match limit:
            case Ge(ge=bound):
                low = f"{bound:,}"
            case Gt(gt=bound):
                low = f"more than {bound:,}"
            case Le(le=bound):
                high = f"{bound:,}"
            case Lt(lt=bound):
                high = f"less than {bound:,}"
    if not high:
        return low
    return f"{low}, up to {high}" if low.startswith("more") else f"{low} to {high}"


def _sentence(wrong: SettingField) -> str:
    if wrong.choices:
        choices = ", ".join(words for _, words in wrong.choices)
        return f"“{wrong.label}”: choose one of {choices}."
    if wrong.is_whole:
        return f"“{wrong.label}” needs a whole number: {wrong.span}."
    return f"“{wrong.label}” needs a number: {wrong.span}."


def _number(typed: str) -> str:
    # People type 1,024 and 0,5: a comma before one or two final digits is a decimal comma.
    head, comma, tail = typed.rpartition(",")
    if comma and "." not in typed and "," not in head and len(tail) != 3:
        return f"{head}.{tail}"
    return typed.replace(",", "").replace(" ", "")


def _typed(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return decimal(value) if isinstance(value, float) else str(value)


# What it learns from is asked apart, and only where the data has pairs.
PAIR_FIELDS = ("objective", "dpo_beta")
FIELDS = _fields()
