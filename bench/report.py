"""Tables and picture of docs/performance.md from bench/results/*.json, between two marks.

    python -m bench.report

What no result file holds says "not measured".
"""

import json
from html import escape
from pathlib import Path
from typing import Any

from bench.pages_exempt import HEAVY, OTHERS_FAULTS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- made by bench/report.py: begin -->", "<!-- end -->"
MISSING = "not measured"
GIB = 1024**3
_MOST_PAGES = 12
GPU_ROWS = [(shape, load) for shape in ("1b", "3b", "8b") for load in "ABC"]
WHAT = {
    "etude": "Etude, as a job runs",
    "etude:nf4-resident": "4-bit weights unpacked in every pass",
    "etude:checkpointing": "activation checkpointing",
    "etude:one-by-one": "one example at a time, nothing packed",
    "etude:whole-logits": "logits of all answer tokens at once",
    "etude:all-logits": "logits of all tokens at once, masked ones too",
    "etude:peft-lora": "PEFT's own LoRA layers",
    "etude:own-layers": "norms and feed-forwards as transformers has them",
    "etude:sdpa-loop": "attention example by example",
    "etude:long-spin": "OpenMP's own waiting",
    "etude:many-shapes": "oneDNN keeping a thousand shapes",
    "trl-stock": "TRL as it comes: padding, checkpointing, bfloat16",
    "trl-packed": "TRL packed (bfd), no checkpointing, bfloat16",
    "trl-packed-fp32": "the same computed in float32",
    "llamafactory": "LLaMA-Factory as it comes",
}


def write() -> None:
    """Put the newest results into the page and draw the picture."""
    train, ablation = newest("train-cpu"), newest("ablation-cpu")
    parts = ["## On a CPU", *_cpu(train), *_ablation(ablation)]
    parts += ["## The estimate on a CPU", *_estimates()]
    parts += ["## To the screen", _start(newest("start-cpu")), _live(newest("live"))]
    parts += ["## While nobody does anything", _idle(newest("idle-cpu"))]
    parts += ["## Pages", *_pages(newest("pages-cpu"))]
    parts += ["## Asking on a CPU", *_ask(newest("ask-cpu"))]
    parts += ["## Taking a model along, on a CPU", *_exports(newest("exports-cpu"))]
    parts += ["## On a GPU", *_gpu()]
    parts += ["## Memory on a CPU", *_memory(newest("memory-cpu"))]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = "\n\n".join(part for part in parts if part)
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")
    if train:
        PICTURE.write_text(draw(train["arms"]), encoding="utf-8")


def newest(kind: str) -> dict[str, Any] | None:
    """Return the newest result file of a kind, or None."""
    return next(iter(newest_first(kind)), None)


def newest_first(kind: str) -> list[dict[str, Any]]:
    """Return all results of a kind."""
    found = sorted(RESULTS.glob(f"{kind}-*.json"), reverse=True)
    return [json.loads(path.read_text(encoding="utf-8")) | {"file": path.name} for path in found]


def table(rows: list[list[str]]) -> str:
    """Write a Markdown table; the first row is its head, all but the first column are numbers."""
    head = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [*head, *rows[1:]])


def _cpu(result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return [MISSING.capitalize() + "."]
    arms, load = result["arms"], result["workload"]
    rows = [
        ["arm", "tokens/s", "labelled tokens/s", "× stock", "peak memory", "grown by", "first step"]
    ]
    stock = arms.get("trl-stock", {}).get("tokens_per_second")
    for name, arm in arms.items():
        label = f"{name}: {WHAT.get(name, '')}"
        if "tokens_per_second" not in arm:
            rows.append([label, MISSING, "", "", "", "", ""])
            continue
        rate = arm["tokens_per_second"]
        rows.append(
            [
                label,
                f"{rate:.0f}",
                f"{arm['labelled_tokens_per_second']:.0f}",
                f"{rate / stock:.1f}" if stock else "",
                f"{arm['peak_bytes'] / GIB:.2f} GiB",
                f"{arm['growth_bytes'] / GIB:.2f} GiB",
                f"{arm['seconds_to_first_step']:.0f} s",
            ]
        )
    return [
        f"{_origin(result)} {result['model']} on {load['examples_per_step']} examples of "
        f"`{result['data']}` a step (mean {load['mean_tokens']:.0f} tokens, "
        f"{load['labelled_share']:.0%} of them answers); {result['rounds']} rounds of one process "
        "an arm in turn, median of the steps after warm-up. Tokens are those of examples, without "
        "padding. *Peak* is the most resident memory of the process, *grown by* the same less what "
        "it held after its imports; *first step* counts from the start of the process.",
        table(rows),
        "![Tokens per second and peak memory of each arm](performance.svg)",
        _losses(arms, "trl-stock"),
        _whole(result.get("whole_job")),
        _disturbed(arms),
    ]


def _whole(job: dict[str, Any] | None) -> str:
    if not job:
        return ""
    return (
        f"A whole job of {job['steps']} steps and {job['evaluations']} evaluations took "
        f"{job['seconds']:.0f} s from the start of its process, {job['save_seconds']:.1f} s of "
        f"them ({job['save_share']:.1%}) for {job['checkpoints']} checkpoints."
    )


def _ablation(result: dict[str, Any] | None) -> list[str]:
    title = "### What each part brings"
    if result is None:
        return [title, MISSING.capitalize() + "."]
    arms = result["arms"]
    full = arms["etude"]
    rows = [
        ["in place of Etude's way", "tokens/s", "of Etude's", "peak memory", "losses differ by"]
    ]
    for name, arm in arms.items():
        if "tokens_per_second" not in arm:
            rows.append([WHAT[name], MISSING, "", "", ""])
            continue
        rows.append(
            [
                "– (nothing taken away)" if name == "etude" else WHAT[name],
                f"{arm['tokens_per_second']:.0f}",
                f"{arm['tokens_per_second'] / full['tokens_per_second']:.2f}",
                f"{arm['peak_bytes'] / GIB:.2f} GiB",
                f"{max(arm['loss_differences']):.1g}",
            ]
        )
    return [
        title,
        f"{_origin(result)} One optimization off at a time; the losses of the same steps tell "
        "whether it changes what is learned.",
        table(rows),
        _disturbed(arms),
    ]


_WHOLE_JOB = {"said_seconds": ".0f", "seconds": ".0f", "ratio": ".2f"}
# Kinds of processor, by what is best in them for products.
_KINDS = {
    "avx2": "AVX2",
    "avx512-bf16": "AVX512-BF16",
    "amx": "AMX",
    "imitated-avx2": "AVX2, imitated on another",
}


def _estimates() -> list[str]:
    """Say for each kind of processor what was foretold and what was measured."""
    head = ["kind", "load", "a layer, GFLOP/s", "said, tokens/s", "measured", "said / measured"]
    rows = [[*head, "whole job: said, s", "took, s", "said / took"]]
    origins = []
    for kind, words in _KINDS.items():
        found = newest(f"estimate-{kind}")
        if found is None:
            rows.append([words, *["not measured"] * 8])
            continue
        origins.append(_origin(found))
        whole = found["whole_job"]
        rows.append(
            [
                words,
                f"{found['load']:.1f}",
                f"{found['layer_rate'] / 1e9:.0f}",
                f"{found['said']['tokens_per_second']:.0f}",
                f"{found['measured']['tokens_per_second']:.0f}",
                f"{found['ratio']:.2f}",
                *(
                    [f"{whole[key]:{form}}" for key, form in _WHOLE_JOB.items()]
                    if whole
                    else [""] * 3
                ),
            ]
        )
    text = (
        "What the page says before a job (`app/training/plan/`), from a layer that is timed here "
        "and from what else the machine does (*load*: programs that want a core), beside what was "
        "measured; the aim is ±15 % on a quiet machine. Kinds of processor without figures have "
        "not been met."
    )
    return [text, " ".join(origins), table(rows)]


def _start(result: dict[str, Any] | None) -> str:
    title = "From the press of “Start training” with a warm worker"
    if result is None:
        return f"{title}: not measured."
    found, first, wanted = result["medians"], result["first_round"], result["targets"]
    return (
        f"{title}: the first phase after {found['phase_seconds']:.1f} s (aim "
        f"{wanted['phase_seconds']:.0f}), the first loss on the chart after "
        f"{found['loss_seconds']:.1f} s (aim {wanted['loss_seconds']:.0f}), median of "
        f"{len(result['rounds'])} rounds in Chromium; {first['phase_seconds']:.1f} and "
        f"{first['loss_seconds']:.1f} s in the first, in which the starting model was packed to 4 "
        f"bits. {_origin(result)}"
    )


def _live(result: dict[str, Any] | None) -> str:
    title = "From the trainer's line to the point on the screen"
    if result is None:
        return f"{title}: not measured."
    return (
        f"{title}: median {result['p50_ms']:.0f} ms, 95 % within {result['p95_ms']:.0f} ms (aim "
        f"{result['target_p95_ms']}), {result['num_points']} points, {result['num_lost']} lost; "
        f"browser on the same machine. {_origin(result)}"
    )


def _idle(result: dict[str, Any] | None) -> str:
    if result is None:
        return MISSING.capitalize() + "."
    each = sorted(result["percent_each"].items(), key=lambda one: -one[1])
    parts = ", ".join(f"{name} {percent:.2f} %" for name, percent in each if percent >= 0.005)
    return (
        f"`etude up` with a trainer that waits: {result['percent']:.2f} % of one core over "
        f"{result['seconds']} s (aim {result['target_percent']:.0f} %), PostgreSQL and Valkey "
        f"apart. Of each: {parts}. {_origin(result)}"
    )


def _pages(result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return [MISSING.capitalize() + "."]
    pages, aims = result["pages"], result["aims"]
    rows = [["page", "own time, ms", "times an empty one", "kB, first", "kB, again", "paint, ms"]]
    slowest = sorted(pages.items(), key=lambda each: -each[1]["ms"])[:_MOST_PAGES]
    for path, row in slowest:
        bytes_ = [f"{row[name] / 1000:.1f}" for name in ("first_bytes", "again_bytes")]
        figures = [f"{row['ms']:.0f}", f"{row['ratio']:.1f}", *bytes_]
        rows.append([f"`{path}`", *figures, f"{row['largest_paint_ms']}"])
    over, axe = len(result["over"]), result["axe"]
    before, after = result["load_before_and_after"]
    words = (
        f"The {len(slowest)} slowest of {len(pages)} pages, with 1,000 jobs and 200 datasets; an "
        f"empty one takes {result['empty_ms']:.0f} ms. *Paint* is the largest, on a phone (390 "
        "pixels, a fourth of the speed) that has been here before. Aims: "
        f"{aims['ms']:.0f} ms (where an empty page takes 25 or less), {aims['ratio']:.0f} times an "
        f"empty page, {aims['first_bytes'] / 1000:.0f} kB the first time and "
        f"{aims['again_bytes'] / 1000:.0f} after, paint within {aims['largest_paint_ms']:.0f} ms; "
        f"{over or 'no'} figures are over them, and axe found "
        f"{'nothing' if not axe else f'{len(axe)} things'} on all pages in both widths and themes. "
        f"{_not_judged(result)} Other work on the machine: a load of {before} before and {after} "
        f"after. {_origin(result)}"
    )
    return [words, table(rows), *([_list_of(result["over"])] if over else [])]


def _not_judged(result: dict[str, Any]) -> str:
    """Name what a page may do that no other may, and what is measured without an aim."""
    pages, aims = result["pages"], result["aims"]
    said = []
    for path in sorted({*HEAVY, *OTHERS_FAULTS} & pages.keys()):
        row, words = pages[path], []
        if "first_bytes" in HEAVY.get(path, ()):
            words.append(f"its {row['first_bytes'] / 1000:.0f} kB of the first time")
        if "largest_paint_ms" in HEAVY.get(path, ()):
            words.append("its paint")
        if rules := sorted(OTHERS_FAULTS.get(path, ())):
            words.append(f"axe's rules {' and '.join(rules)}")
        said.append(f"`{path}`, which another program (Swagger UI) draws: {', '.join(words)}")
    first = [row["first_paint_ms"] for row in pages.values()]
    slow = sum(each > aims["largest_paint_ms"] for each in first)
    said.append(
        f"the paint of a first visit, at which {slow} of {len(first)} pages take longer than the "
        f"aim (at most {max(first)} ms)"
    )
    return f"Not judged: {'; '.join(said)}."


def _list_of(lines: list[str]) -> str:
    return "\n".join(["Over their aims:", "", *(f"- {line}" for line in lines)])


def _ask(result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return [MISSING.capitalize() + "."]
    aims = result["aims"]
    rows = [["chats at once", "Etude, tokens/s", "llama.cpp's server", "ratio (aim)", "memory"]]
    for name, chats in (("one_chat", "1"), ("eight_chats", "8")):
        found = result.get(name)
        if found is None:
            rows.append([chats, MISSING, "", "", ""])
            continue
        rates = found["tokens_per_second"], found["llama_cpp_tokens_per_second"]
        row = [chats, *(f"{rate:.0f}" for rate in rates)]
        rows.append([*row, f"{found['ratio']:.2f} ({aims[name]})", f"{found['memory_mb']} MB"])
    threads = result["num_threads"]
    return [
        f"{_origin(result)} {result['model']} with an adapter on all its layers, in 8 bits and on "
        f"{threads} thread{'s' if threads > 1 else ''}, in turns with llama.cpp's own server over "
        "the same files; medians. *Memory* is that of the process that holds the model.",
        table(rows),
        *filter(
            None,
            (
                _first_tokens(result.get("first_tokens"), aims),
                _beside_training(result.get("beside_training"), aims),
                _crowd(result.get("crowd"), aims),
            ),
        ),
    ]


def _exports(result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return [MISSING.capitalize() + "."]
    rows = [
        ["form", "from asking to being offered", "processor time", "peak memory", "load beside",
         "same likeliest word", "answers that end (reference)"]
    ]  # fmt: skip
    for name, found in result["forms"].items():
        last = found["agreement"][-1]
        ended = last["endings"]
        rows.append(
            [
                name,
                f"{found['seconds']:.0f} s",
                f"{found['processor_seconds']:.0f} s",
                f"{found['peak_gb']:.2f} GB",
                f"{found['load_before']:.1f}",
                f"{last['same_share']:.1%}",
                f"{ended['num_ended']} of {ended['num_asked']} ({ended['reference_ended']})",
            ]
        )
    aims, beside = result["targets"], result["beside"]
    return [
        f"{_origin(result)} {result['model']} with an adapter on all its layers, each form made, "
        "opened by a program that is not Etude, and packed, by a real worker. *Peak memory* is the "
        "most of one of its processes; *load beside* the machine's load average at the beginning, "
        "other programs' work. Aims on two cores: the adapter, vLLM and GGUF adapter forms "
        f"within {aims['adapter_seconds']} s, the merged ones within {aims['merged_seconds']} s, "
        f"memory of the 16-bit weights and {aims['memory_beside_weights_gb']:g} GB.",
        table(rows),
        _beside_export(beside),
    ]


def _beside_export(beside: dict[str, Any]) -> str:
    if "rounds" in beside:
        found, without = beside["beside"], beside["without"]
        num = len(beside["rounds"]["beside"])
        return (
            f"By turns, {num} merged models were made and none: beside them a trainer went on with "
            f"{found['tokens_per_second']:.0f} tokens a second, without them with "
            f"{without['tokens_per_second']:.0f} ({beside['trainer_ratio']:.2f} of its speed), and "
            f"95 % of the pages took at most {found['page_p95_ms']:.0f} ms, without them "
            f"{without['page_p95_ms']:.0f} ({beside['page_p95_ratio']:.2f} times), while it "
            "trained. The pages are those of `make bench-queue`, opened in the same way. The load "
            f"average was {found['load']:.0f} beside them and {without['load']:.0f} without, its "
            "own work and other programs' together."
        )
    # A result of before they were taken by turns.
    return (
        f"Beside a merged model that was made, a trainer went on with "
        f"{beside['beside']['tokens_per_second']:.0f} tokens a second where it had "
        f"{beside['alone']['tokens_per_second']:.0f} before and "
        f"{beside['again']['tokens_per_second']:.0f} after ({beside['trainer_ratio']:.2f} of its "
        f"speed), and 95 % of the pages took at most {beside['beside']['page_p95_ms']:.0f} ms, "
        f"{beside['alone']['page_p95_ms']:.0f} before and {beside['again']['page_p95_ms']:.0f} "
        "after, all three while it trained. The load average was then "
        f"{beside['alone']['load']:.0f}, {beside['beside']['load']:.0f} and "
        f"{beside['again']['load']:.0f}, its own work and other programs' together."
    )


def _first_tokens(found: dict[str, Any] | None, aims: dict[str, Any]) -> str:
    if found is None:
        return ""
    return (
        f"The first word came after {found['cold_seconds']:.2f} s where the process had to be "
        f"started (aim {aims['cold_seconds']:g}), and after {found['warm_seconds']:.2f} s in a "
        f"conversation of which {found['warm_new_tokens']} tokens were new (aim "
        f"{aims['warm_seconds']:g} with at most 64)."
    )


def _beside_training(found: dict[str, Any] | None, aims: dict[str, Any]) -> str:
    if found is None:
        return ""
    alone, beside = found["train_tokens_per_second"]
    return (
        f"While a job trained on the same cores, {found['num_answers']} answers one right after "
        f"the other began after {found['first_seconds']:.2f} s, and after "
        f"{found['first_seconds_max']:.2f} s at most (aim "
        f"{aims['first_seconds_beside_training']:g}); training went on with {beside:,} of "
        f"{alone:,} tokens a second, {found['ratio']:.2f} of its speed "
        f"(aim {aims['training_speed_kept']})."
    )


def _crowd(found: dict[str, Any] | None, aims: dict[str, Any]) -> str:
    if found is None:
        return ""
    statuses = {int(status): num for status, num in found["statuses"].items()}
    return (
        f"Of {found['num_requests']:,} requests within {found['asked_within_seconds']:.0f} s, "
        f"{statuses.get(200, 0):,} were answered, {statuses.get(429, 0):,} were told to come back "
        f"(429), and {found['num_lost']:,} were lost; pages took {found['page_ms']} ms at the "
        f"median (aim {aims['page_ms']}) and {found['page_max_ms']} ms at most."
    )


def gpu_cells(
    results: list[dict[str, Any]],
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Take each shape's and workload's arms from the newest run that measured Etude there.

    A lent GPU's time may end before all are measured; what stands in one row is of one run.

    Returns:
        The arms by name, and the runs that they are of.
    """
    arms: dict[str, dict[str, Any]] = {}
    runs = []
    taken: set[str] = set()
    for result in results:
        cells = {
            name.partition("/")[2]
            for name, arm in result["arms"].items()
            if name.startswith("etude/") and "tokens_per_second" in arm
        } - taken
        if cells:
            runs.append(result)
        taken |= cells
        arms |= {n: arm for n, arm in result["arms"].items() if n.partition("/")[2] in cells}
    return arms, runs


def _gpu() -> list[str]:
    arms, runs = gpu_cells(newest_first("train-gpu"))
    rows = [
        [
            *("shape, workload", "etude tokens/s", "trl-stock", "trl-best", "× stock", "× best"),
            *("MFU of 989", "of 790", "memory in use", "said / in use"),
        ]
    ]
    for shape, load in GPU_ROWS:
        rates = [
            arms.get(f"{name}/{shape}/{load}", {}).get("tokens_per_second")
            for name in ("etude", "trl-stock", "trl-best")
        ]
        cells = [MISSING if rate is None else f"{rate:,.0f}" for rate in rates]
        cells += [f"{rates[0] / rate:.2f}" if rates[0] and rate else MISSING for rate in rates[1:]]
        cells += _gpu_use(arms.get(f"etude/{shape}/{load}", {}))
        rows.append([f"Llama {shape.upper()}, {load}", *cells])
    small = arms.get("etude-nf4-4k/8b/A", {})
    if "tokens_per_second" in small:
        rate = f"{small['tokens_per_second']:,.0f}"
        name = "Llama 8B, A, in little memory"
        rows.append([name, rate, *[""] * 4, *_gpu_use(small)])
    text = (
        "Workloads: A uniform 2,048 tokens, 16 examples a step; B short and mixed (mean 215), 16; "
        "C 16,384 tokens, 2 a step; random weights and ids. *trl-best* does without padding and "
        "checkpointing, and has Liger's kernels where they are installed. MFU by the 4N rule "
        "(frozen weights need no gradient of their own), without recomputation, of the data "
        "sheet's 989 TFLOP/s and of the 790 measured of plain products. *In little memory*: "
        "weights stay packed in 4 bits, 4,096 tokens at once, layers computed twice, their inputs "
        "and the token embeddings in the computer's memory. *Memory in use* is all of the GPU's, "
        "the driver's part included, beside what the planner said."
    )
    if not runs:
        return [f"{text} `bench/gpu.sh` fills this table where a GPU is at hand.", table(rows)]
    return [*map(_gpu_origin, runs), text, table(rows)]


def _gpu_origin(result: dict[str, Any]) -> str:
    versions: dict[str, str] = {}
    for arm in result["arms"].values():
        versions |= arm.get("versions", {})
    names = ("torch", "transformers", "trl", "liger-kernel")
    with_what = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    found = [_origin(result), f"With {with_what}.", result["peers"], result.get("remarks", "")]
    return " ".join(filter(None, found))


def _gpu_use(arm: dict[str, Any]) -> list[str]:
    if "mfu_989" not in arm:
        return [MISSING] * 4
    found = [f"{arm['mfu_989']:.0%}", f"{arm['mfu_790']:.0%}"]
    used, said = arm.get("used_bytes"), arm.get("plan", {}).get("peak_bytes")
    found.append(f"{used / 1e9:.1f} GB" if used else MISSING)
    return [*found, f"{said / used:.2f}" if used and said else MISSING]


def _memory(result: dict[str, Any] | None) -> list[str]:
    text = (
        "The planner (`app/training/plan/`) foretells a job's memory; here it stands beside what "
        "a trainer's process grows by in two real steps, for shapes that add 1 GB and more. Two of "
        "them are measured by every run of the tests, which ask for ±15 %."
    )
    if result is None:
        return [text, MISSING.capitalize() + "."]
    rows = [["shape", "weights", "tokens at once", "said, MB", "grew by, MB", "said / grew by"]]
    for name, found in result["shapes"].items():
        shape, way = found["shape"], found["way"]
        what = f"{shape['num_hidden_layers']} layers of {shape['hidden_size']}"
        config = found["config"]
        is_pair = config.get("objective") == "dpo"
        what += f", {'pairs' if is_pair else 'examples'} of {found['length']} tokens"
        what += " an answer" if is_pair else ""
        what += ", DoRA" if config.get("use_dora") else ""
        rows.append(
            [
                f"{name}: {what}{', computed twice' if way[2] else ''}",
                way[0],
                f"{way[1]:,}",
                f"{found['predicted'] / 2**20:,.0f}",
                f"{found['measured'] / 2**20:,.0f}",
                f"{found['predicted'] / found['measured']:.2f}",
            ]
        )
    allocator = result["machine"]["allocator"]
    return [text, f"{_origin(result)} The allocator was {allocator}'s.", table(rows)]


def _origin(result: dict[str, Any]) -> str:
    machine = result["machine"]
    sets = [name for name, there in machine["instruction_sets"].items() if there]
    lacking = [name for name, there in machine["instruction_sets"].items() if not there]
    device = machine.get("gpu") or (
        f"{machine['cpu']}, {machine['cores']} cores, with {', '.join(sets) or 'no vector set'}"
        + (f" and without {', '.join(lacking)}" if lacking else "")
    )
    return (
        f"`{result['command']}` on {result['date']} at revision {result['revision']} "
        f"(`bench/results/{result['file']}`): {device}."
    )


def _losses(arms: dict[str, Any], reference: str) -> str:
    found = [
        f"{name} {max(arm['loss_differences']):.2g}"
        for name, arm in arms.items()
        if name != reference and arm.get("loss_differences")
    ]
    if not found:
        return ""
    return (
        f"Largest difference of a step's loss from {reference}'s, over the steps that both did, "
        f"from the same first adapter: {'; '.join(found)}."
    )


def _disturbed(arms: dict[str, Any]) -> str:
    worst = max((arm.get("busy_elsewhere", 0.0) for arm in arms.values()), default=0.0)
    if worst <= 0.05:
        return ""
    return (
        f"While an arm ran, other programs took up to {worst:.0%} of what it took itself of the "
        "processor: these speeds are lower bounds, and their ratios rough."
    )


def draw(arms: dict[str, Any]) -> str:
    """Draw two groups of bars: tokens per second and peak memory."""
    found = {name: arm for name, arm in arms.items() if "tokens_per_second" in arm}
    bar, gap, left, width = 22, 10, 150, 230
    height = 60 + len(found) * (bar + gap)
    groups = [
        ("tokens/s (more is better)", "tokens_per_second", 1.0, "{:.0f}"),
        ("peak memory, GiB (less is better)", "peak_bytes", 1 / GIB, "{:.1f}"),
    ]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img">',
        "<title>Tokens per second and peak memory of each arm</title>",
        f'<rect width="760" height="{height}" fill="#ffffff"/>',
    ]
    for group, (title, key, scale, form) in enumerate(groups):
        x = left + group * (width + 80)
        values = {name: arm[key] * scale for name, arm in found.items()}
        most = max(values.values())
        lines.append(f'<text x="{x}" y="28" font-weight="600" fill="#1f2933">{title}</text>')
        for place, (name, value) in enumerate(values.items()):
            y = 44 + place * (bar + gap)
            length = max(2.0, width * value / most)
            ours = name.startswith("etude")
            lines.append(
                f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{bar}" rx="3" '
                f'fill="{"#0f766e" if ours else "#9aa5b1"}"/>'
                f'<text x="{x + length + 6:.1f}" y="{y + 16}" fill="#1f2933">'
                f"{form.format(value)}</text>"
            )
            if group == 0:
                lines.append(
                    f'<text x="{left - 8}" y="{y + 16}" text-anchor="end" fill="#1f2933">'
                    f"{escape(name)}</text>"
                )
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    write()
