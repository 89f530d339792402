"""llama.cpp's own server, as xllamacpp brings it: the rate that our engine is held against.

Order, one JSON line on standard input: {"gguf", "adapter", "num_threads", "num_slots",
"context_tokens"}; then a line for each round: {"prompts": [[id, …], …], "max_new_tokens"}. Each
answers with one line: {"seconds", "num_tokens"} of all prompts side by side.
"""

import json
import sys
import threading
import time
from typing import Any

import xllamacpp


def main() -> None:
    order = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = order["gguf"]
    params.n_ctx = order["context_tokens"] * order["num_slots"]
    params.n_parallel = order["num_slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["num_threads"]
    params.cache_ram_mib = 0
    if order["adapter"]:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(order["adapter"], 1.0)]
    server = xllamacpp.Server(params)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        turn = json.loads(line)
        began = time.monotonic()
        answers: list[Any] = [None] * len(turn["prompts"])
        threads = [
            threading.Thread(target=_ask, args=(server, turn, index, answers))
            for index in range(len(answers))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        num_tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
        print(
            json.dumps({"seconds": time.monotonic() - began, "num_tokens": num_tokens}), flush=True
        )


def _ask(server: Any, turn: dict[str, Any], index: int, answers: list[Any]) -> None:
    answers[index] = server.handle_completions(
        {
            "prompt": turn["prompts"][index],
            "n_predict": turn["max_new_tokens"],
            "temperature": 0,
            "cache_prompt": False,
            "ignore_eos": True,  # the same number of tokens in every round
        }
    )


if __name__ == "__main__":
    main()
