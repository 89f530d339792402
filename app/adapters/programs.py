"""How an export is used: one screen a program, with commands that work as they are pasted.

The page “How to use it” and the card in each zip say the same. No command reaches a hub; names that
people chose get into commands only as `exports.file_stem` spells them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.adapters import exports
from app.core.models import Adapter, ExportForm, Quantization


@dataclass(frozen=True)
class Step:
    """One sentence, and what is pasted."""

    words: str
    command: str = ""
    is_python: bool = False


@dataclass(frozen=True)
class Program:
    """A program that people already run."""

    key: str
    name: str
    about: str
    forms: tuple[ExportForm, ...]  # any of these does
    steps: Sequence[Step]
    traps: Sequence[str]


def of(adapter: Adapter, address: str = "http://127.0.0.1:8000") -> list[Program]:
    """Return the programs in the order of the page.

    Args:
        address: Under which people reach this Etude.
    """
    if not adapter.has_weights:
        return []
    return [
        _browser(adapter),
        _python(adapter),
        _llama_cpp(adapter),
        _ollama(adapter),
        _lm_studio(adapter),
        _open_webui(adapter, address),
        _vllm(adapter),
    ]


def for_form(adapter: Adapter, form: ExportForm) -> list[Program]:
    """Return the programs that take a form."""
    return [program for program in of(adapter) if form in program.forms]


def _unpack(name: str) -> str:
    # Python is there wherever the rest is; `unzip` is not.
    return f"python3 -m zipfile -e {name}.zip ."


def _name(adapter: Adapter, form: ExportForm, quantization: Quantization | None = None) -> str:
    quantization = quantization or exports.FORMS[form].quantizations[0]
    return exports.filename(adapter, form, quantization)


def _browser(adapter: Adapter) -> Program:
    return Program(
        key="browser",
        name="In this browser",
        about="Nothing to install, and nothing to take along: Etude answers by itself.",
        forms=(),
        steps=(
            Step(
                "Open “Ask it” on the model's page. Colleagues find it under “Ask” once it was "
                "released to them (“Share”)."
            ),
            Step(
                "A program asks it through Etude's API, with a token from your account's page.",
                f"etude ask {adapter.public_name} 'Your question'",
            ),
        ),
        traps=(),
    )


def _python(adapter: Adapter) -> Program:
    merged, alone = _name(adapter, ExportForm.MERGED), _name(adapter, ExportForm.ADAPTER)
    return Program(
        key="python",
        name="Python",
        about="transformers, 4.57 or 5; with PEFT for the adapter alone.",
        forms=(ExportForm.MERGED, ExportForm.ADAPTER),
        steps=(
            Step("Unpack the merged model.", _unpack(merged)),
            Step(
                "Ask it.",
                f"""\
import os
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is looked up elsewhere
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{merged}"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
chat = [{{"role": "user", "content": "Your question"}}]
inputs = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**inputs, max_new_tokens=200, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
""",
                is_python=True,
            ),
            Step(
                "Or load the adapter on top of its starting model, whose folder you have.",
                f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

base = "starting-model"  # the folder of {adapter.base_model.label}
folder = "{alone}"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
model = PeftModel.from_pretrained(model, folder)
model.generation_config = GenerationConfig.from_pretrained(folder)  # where an answer ends
""",
                is_python=True,
            ),
        ),
        traps=(
            "Without add_generation_prompt=True it goes on with your question instead of "
            "answering.",
            'On a processor without bfloat16, say dtype="float32": it is several times faster '
            "there.",
            "do_sample=False says the same each time; without it a model's own settings may draw "
            "lots.",
        ),
    )


def _llama_cpp(adapter: Adapter) -> Program:
    name, stem = _name(adapter, ExportForm.GGUF_MERGED), exports.file_stem(adapter)
    beside = _name(adapter, ExportForm.GGUF)
    return Program(
        key="llama.cpp",
        name="llama.cpp",
        about="One file on a laptop, without Python.",
        forms=(ExportForm.GGUF_MERGED, ExportForm.GGUF),
        steps=(
            Step("Unpack the GGUF file.", _unpack(name)),
            Step(
                "Ask it in the terminal.",
                f"llama-cli -m {name}/{stem}-q8_0.gguf --jinja --temp 0 -c 4096",
            ),
            Step(
                "Or serve it, with a page of its own at http://127.0.0.1:8080.",
                f"llama-server -m {name}/{stem}-q8_0.gguf --jinja --temp 0 -c 4096 --port 8080",
            ),
            Step(
                "With the GGUF adapter, the starting model and what was learned stay apart.",
                f"{_unpack(beside)}\nllama-server -m {beside}/starting-model-f16.gguf "
                f"--lora {beside}/{stem}-adapter.gguf --jinja --temp 0 -c 4096 --port 8080",
            ),
        ),
        traps=(
            "Without --jinja it takes a template of its own that looks like the model's.",
            "Its temperature is 0.8 unless you say --temp 0.",
            "-c says how many tokens question and answer may have together.",
        ),
    )


def _ollama(adapter: Adapter) -> Program:
    name, stem = _name(adapter, ExportForm.OLLAMA), exports.file_stem(adapter)
    return Program(
        key="ollama",
        name="Ollama",
        about="The Modelfile in the folder brings template, end of an answer and licence.",
        forms=(ExportForm.OLLAMA,),
        steps=(
            Step(
                "Unpack the folder and make the model.",
                f"{_unpack(name)}\ncd {name} && ollama create {stem} -f Modelfile",
            ),
            Step("Ask it.", f"ollama run {stem} 'Your question'"),
        ),
        traps=(
            "A program that asks through /v1 gets another temperature than the Modelfile says: "
            'send "temperature": 0 with each request.',
            "Ollama cuts long conversations at its own length (num_ctx); the Modelfile sets it.",
            "This folder was not opened by Ollama here: its GGUF file was, by llama.cpp.",
        ),
    )


def _lm_studio(adapter: Adapter) -> Program:
    name, stem = _name(adapter, ExportForm.GGUF_MERGED), exports.file_stem(adapter)
    return Program(
        key="lm-studio",
        name="LM Studio",
        about="A window on Windows, macOS and Linux.",
        forms=(ExportForm.GGUF_MERGED,),
        steps=(
            Step(
                "Unpack the GGUF file and hand it over.",
                f"{_unpack(name)}\nlms import {name}/{stem}-q8_0.gguf",
            ),
            Step(
                "Choose it at the top of a new chat, or serve it.",
                f"lms load {stem}-q8_0\nlms server start",
            ),
        ),
        traps=(
            "Set the temperature to 0 in the model's settings; LM Studio's own is higher.",
            "Leave the prompt template as it is: the file brings the right one.",
            "It adds no system prompt unless you write one; give it the one that is in your data.",
        ),
    )


def _open_webui(adapter: Adapter, address: str) -> Program:
    stem = exports.file_stem(adapter)
    return Program(
        key="open-webui",
        name="Open WebUI",
        about="A page for a whole team, in front of Ollama, or of this Etude.",
        forms=(ExportForm.OLLAMA,),
        steps=(
            Step(
                "Make the model in Ollama first, then start Open WebUI beside it.",
                "HF_HUB_OFFLINE=1 OFFLINE_MODE=1 OLLAMA_BASE_URL=http://127.0.0.1:11434 "
                "open-webui serve --port 3000",
            ),
            Step(
                "Or let it ask Etude itself, with a token from your account's page.",
                f"HF_HUB_OFFLINE=1 OFFLINE_MODE=1 OPENAI_API_BASE_URL={address}/v1 "
                "OPENAI_API_KEY=your-token open-webui serve --port 3000",
            ),
            Step(f"Choose “{stem}”, or “{adapter.public_name}” of Etude, at the top of a chat."),
        ),
        traps=(
            "It asks the model to find titles and tags for each chat; turn that off under Admin "
            "Settings, Interface, or choose another model for it.",
            "Its own system prompt comes before what your data says; leave it empty.",
            "Set the temperature to 0 under Advanced Params of the model.",
        ),
    )


def _vllm(adapter: Adapter) -> Program:
    name, stem = _name(adapter, ExportForm.VLLM), exports.file_stem(adapter)
    command = vllm_command(adapter)
    return Program(
        key="vllm",
        name="vLLM",
        about="A server with a GPU, for many people at once.",
        forms=(ExportForm.VLLM,),
        steps=(
            Step("Unpack the folder.", _unpack(name)),
            Step("Serve it.", f"cd {name}\n{command}"),
            Step(
                "Ask it.",
                "curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: "
                f'application/json\' \\\n  -d \'{{"model": "{stem}", "temperature": 0, '
                '"messages": [{"role": "user", "content": "Your question"}]}\'',
            ),
        ),
        traps=(
            "vLLM takes temperature and the like from generation_config.json of the starting "
            "model; --generation-config vllm takes its own instead.",
            "--max-lora-rank must be at least the adapter's rank, and is 16 unless it is said.",
            "Under the starting model's name it answers without what was learned.",
            "Another server of yours may listen on port 8000 already: say --port 8001.",
        ),
    )


def vllm_command(adapter: Adapter) -> str:
    """Return the command that serves a vLLM folder, from within it."""
    stem, config = exports.file_stem(adapter), exports.adapter_config(adapter)
    offline = "HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 vllm serve"
    if config.get("use_dora"):
        return f"{offline} . --served-model-name {stem} --generation-config vllm"
    rank = exports.vllm_rank(int(config.get("r", 16)))
    return (
        f"{offline} ./base --served-model-name {stem}-base --enable-lora "
        f"--lora-modules {stem}=./adapter --max-lora-rank {rank} --generation-config vllm"
    )
