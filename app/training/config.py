"""TrainConfig: hyperparameters, limits, help texts. Web, worker and trainer agree here; no torch.

Also `config.json` (TrainerSpec), the file from supervisor to trainer; events.py is the way back.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["qlora", "lora"]
Objective = Literal["supervised", "dpo"]
OptimizerKind = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
Optimizer = Literal["auto", "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
Schedule = Literal["cosine", "linear", "constant"]
UnfitRows = Literal["join", "leave_out"]
Targets = Literal["all", "attention", "feed_forward"]


def _setting(
    default: Any,
    label: str,
    help_text: str,
    *,
    unit: str = "",
    is_advanced: bool = False,
    **limits: Any,
) -> Any:
    return Field(
        default=default,
        title=label,
        description=help_text,
        json_schema_extra={"unit": unit, "is_advanced": is_advanced},
        **limits,
    )


class TrainConfig(BaseModel):
    """What a person may choose about a job; frozen in the job's row when it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = _setting(
        "qlora",
        "Method",
        "QLoRA keeps the starting model in 4 bits and trains a small adapter on top. "
        "LoRA keeps it in 16 bits and needs more memory.",
    )
    objective: Objective = _setting(
        "supervised",
        "What it learns from",
        "The right answers. Where the data has pairs, it can instead learn to prefer the better "
        "answer (DPO).",
    )
    dpo_beta: float = _setting(
        0.1,
        "Closeness (DPO beta)",
        "How close the model must stay to the starting model while it learns to prefer the better "
        "answers. A larger number keeps it closer. Only used for pairs.",
        gt=0,
        le=10,
    )
    num_epochs: float = _setting(
        3,
        "Passes over the practice set",
        "How often the model sees every example. More passes teach more, until it starts to "
        "memorise.",
        unit="passes",
        gt=0,
        le=50,
    )
    num_steps: int = _setting(
        0,
        "Steps",
        "How often the adapter changes in total. It overrides the passes; 0 uses the passes.",
        unit="steps",
        ge=0,
        le=1_000_000,
        is_advanced=True,
    )
    batch_size: int = _setting(
        16,
        "Examples per step",
        "How many examples the model sees before the adapter changes once.",
        unit="examples",
        ge=1,
        le=256,
    )
    learning_rate: float = _setting(
        5e-4,
        "Learning rate",
        "How far each step may change the adapter. Too large and the model forgets; too small and "
        "it learns little. Etude proposes a value from the starting model's width.",
        gt=0,
        le=0.01,
    )
    warmup_share: float = _setting(
        0.05,
        "Warm-up",
        "The share of steps during which the learning rate rises from zero.",
        unit="of all steps",
        ge=0,
        le=0.5,
        is_advanced=True,
    )
    schedule: Schedule = _setting(
        "cosine",
        "Schedule",
        "What the learning rate does after the warm-up: it falls along half a cosine, falls in a "
        "straight line, or stays constant.",
        is_advanced=True,
    )
    weight_decay: float = _setting(
        0.0,
        "Weight decay",
        "Pulls the adapter's weights slightly towards zero.",
        ge=0,
        le=1,
        is_advanced=True,
    )
    max_grad_norm: float = _setting(
        1.0,
        "Gradient limit",
        "Limits how strongly a single step can change the adapter.",
        gt=0,
        le=100,
        is_advanced=True,
    )
    lora_rank: int = _setting(
        16,
        "Adapter rank",
        "How much the adapter can hold. A higher rank learns more detail and makes a larger file.",
        ge=1,
        le=256,
    )
    lora_alpha: int = _setting(
        32, "Adapter alpha", "How strongly the adapter acts. Usually twice the rank.", ge=1, le=512
    )
    lora_dropout: float = _setting(
        0.0,
        "Adapter dropout",
        "The share of the adapter's inputs left out at random in each step. 0 is fastest.",
        ge=0,
        le=0.5,
        is_advanced=True,
    )
    lora_targets: Targets = _setting(
        "all",
        "Layers with an adapter",
        "Which layers of the starting model get an adapter. All layers learn best; attention or "
        "feed-forward layers alone make a smaller file.",
        is_advanced=True,
    )
    use_rslora: bool = _setting(
        False,
        "Rank-stabilized scaling (rsLoRA)",
        "Divides alpha by the square root of the rank instead of the rank, so that large ranks "
        "learn as strongly as small ones. Use a smaller alpha with it: at rank 16 the adapter "
        "acts four times as strongly.",
        is_advanced=True,
    )
    use_dora: bool = _setting(
        False,
        "Separate size and direction (DoRA)",
        "Learns the size of each weight separately from its direction. Slower, and sometimes a "
        "little better at small ranks.",
        is_advanced=True,
    )
    lora_plus_ratio: float = _setting(
        1,
        "LoRA+ ratio",
        "How many times faster the second half of each adapter (B) learns than the first. 1 is "
        "plain LoRA; LoRA+ suggests 16 with half the learning rate.",
        unit="times",
        ge=1,
        le=64,
        is_advanced=True,
    )
    neftune_alpha: float = _setting(
        0,
        "Noise (NEFTune)",
        "Noise added to what the model reads during training, so that it memorises less. 5 is "
        "usual; 0 adds none.",
        ge=0,
        le=100,
        is_advanced=True,
    )
    max_length_tokens: int = _setting(
        1024,
        "Longest example",
        "Longer conversations lose the beginning of their question; the job says how many. Longer "
        "plain texts are cut into pieces.",
        unit="tokens",
        ge=32,
        le=131072,
    )
    num_evaluations: int = _setting(
        5,
        "Checks during training",
        "How often the model is checked during training, besides once at the start.",
        unit="times",
        ge=1,
        le=100,
    )
    early_stopping_patience: int = _setting(
        0,
        "Stop early after",
        "Training ends after this many checks in a row without improvement. 0 never stops early.",
        unit="checks",
        ge=0,
        le=100,
    )
    optimizer: Optimizer = _setting(
        "auto",
        "Optimizer",
        "The rule that turns gradients into changes. Paged AdamW moves its memory aside when a GPU "
        "is nearly full; 8-bit AdamW needs a quarter of the memory. On the CPU it is always "
        "torch's AdamW.",
        is_advanced=True,
    )
    micro_batch_tokens: int = _setting(
        0,
        "Tokens at once",
        "How much text is processed at once; 0 lets Etude choose. It affects speed and memory, "
        "not what is learned.",
        unit="tokens",
        ge=0,
        le=1048576,
        is_advanced=True,
    )
    unfit_rows: UnfitRows = _setting(
        "join",
        "Chats that the model cannot take",
        "Some starting models want question and answer to take turns, or know no instruction amid "
        "a chat. Turns that follow each other are joined, or their rows are left out; a row that "
        "does not fit either way is always left out.",
        is_advanced=True,
    )
    seed: int = _setting(
        0,
        "Seed",
        "The same seed, data and settings repeat the same training.",
        ge=0,
        le=2**31 - 1,
    )


def proposed_learning_rate(
    model_config: dict[str, Any] | None, objective: Objective = "supervised"
) -> float:
    """Propose a learning rate from the width of a model: the wider, the smaller.

    Ten times the rate of full fine-tuning, as LoRA wants it, times (2000 / width) to a power that
    was fitted for Llamas and for Qwens, kept between 1e-4 and 5e-4.

    Args:
        model_config: The model's config.json; one that is not known yet is taken for narrow.
        objective: Preferences are learned with a tenth; they drive a model off course sooner.

    Source: tinker-cookbook, hyperparam_utils.get_lr; LoRA Without Regret, thinkingmachines.ai.
    """
    config = model_config or {}
    width = int(config.get("hidden_size") or 0)
    power = 0.0775 if str(config.get("model_type", "")).startswith("qwen") else 0.781
    rate = min(max(5e-4 * (2000 / width) ** power, 1e-4), 5e-4) if width else 5e-4
    return float(f"{rate if objective == 'supervised' else rate / 10:.2g}")


def paper_learning_rate(num_parameters: int | None, objective: Objective = "supervised") -> float:
    """Return the QLoRA paper's rate for a model of this size (arXiv:2305.14314, table 9).

    Of preferences it says nothing: they get a tenth, as above.
    """
    rate = 2e-4 if (num_parameters or 0) < 14e9 else 1e-4
    return rate if objective == "supervised" else rate / 10


class Preset(BaseModel):
    """Settings by one name; how fast to learn depends on the model as well."""

    name: str
    label: str
    summary: str
    config: TrainConfig  # with the rate for a narrow model, such as the starter model
    rate_factor: float  # times the rate proposed for the model

    def settings(
        self, model_config: dict[str, Any] | None, objective: Objective = "supervised"
    ) -> TrainConfig:
        """Return the settings for a model, by its config.json, and what it is to learn from."""
        proposed = proposed_learning_rate(model_config, objective)
        rate = float(f"{proposed * self.rate_factor:.3g}")
        return self.config.model_copy(update={"learning_rate": rate, "objective": objective})


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="quick",
            label="Quick",
            summary="A first try: a few passes, in minutes on a small file.",
            # In so few steps more can be moved each time (LoRA Without Regret: 15 times the rate of
            # full fine-tuning instead of 10); at twice the starter model learns the clinic sample.
            rate_factor=2,
            config=TrainConfig(num_epochs=4, learning_rate=1e-3, num_evaluations=3),
        ),
        Preset(
            name="balanced",
            label="Balanced",
            summary="For most data: trains until the checks stop improving.",
            rate_factor=1,
            config=TrainConfig(
                num_epochs=6, learning_rate=5e-4, num_evaluations=8, early_stopping_patience=3
            ),
        ),
        Preset(
            name="thorough",
            label="Thorough",
            summary="Learns more detail, in smaller steps and with more patience. Takes longest.",
            rate_factor=0.5,
            config=TrainConfig(
                num_epochs=10,
                learning_rate=2.5e-4,
                lora_rank=32,
                lora_alpha=64,
                num_evaluations=15,
                early_stopping_patience=4,
            ),
        ),
    )
}


# What a job takes over from the adapter that it starts from: the shape of its weights, and how
# strongly they act.
INHERITED = ("lora_rank", "lora_alpha", "lora_targets", "use_rslora", "use_dora")


class StartAdapter(BaseModel):
    """An adapter whose weights a job begins with."""

    model_config = ConfigDict(extra="forbid")

    name: str
    dir: str  # absolute, read-only
    manifest_sha256: str


class TrainerSpec(BaseModel):
    """JOB_DIR/config.json: all that a trainer needs beside examples.arrow; no credentials."""

    model_config = ConfigDict(extra="forbid")

    job_id: int
    attempt: int
    job_name: str
    config: TrainConfig
    # "cpu" or "cuda:0"; the supervisor has set CUDA_VISIBLE_DEVICES.
    device: str
    # As many processes train together, each on one of the devices that are visible.
    num_devices: int = Field(default=1, ge=1)
    base_model_name: str
    base_model_dir: str  # absolute, read-only
    base_model_manifest_sha256: str
    start: StartAdapter | None = None  # none: a fresh adapter
    cache_dir: str = ""  # absolute, may be deleted at any time; empty: nothing is kept
    # Below JOB_DIR, e.g. "checkpoints/step-00040"; its manifest has been verified.
    resume_from: str | None = None
    # What the rows are called that are not practised: versions of two parts choose by the test set.
    checks_on: Literal["check", "test"] = "test"
    num_samples: int = 3
    stall_seconds: float = 600
    # Between evaluations a checkpoint is written this often, if that does not cost more than this
    # share of the time; at an evaluation as often as the share allows.
    checkpoint_seconds: float = Field(default=60, ge=0)
    checkpoint_share: float = Field(default=0.02, gt=0)
