"""A server that answers as vLLM does, for the few calls that Etude makes; fields by its documents.

It goes on from a prompt with words of its own: which, the last bytes of the prompt say, one token a
byte ("words=3 pause=0.1 break=2 status=500").
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY = "the site's key"


class Vllm(ThreadingHTTPServer):
    """One base model, and what is loaded onto it."""

    daemon_threads = True

    def __init__(self, served: str, alphabet: list[str], letters: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served = served
        self.alphabet = alphabet  # by token id
        self.bytes = letters  # the byte that a letter of the alphabet stands for
        self.adapters: dict[str, str] = {}
        self.requests: list[dict[str, Any]] = []
        self.num_cut_off = 0
        self.refuses_adapters = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # whoever asked has gone


class _Handler(BaseHTTPRequestHandler):
    server: Vllm

    def do_GET(self) -> None:
        if not self._is_known():
            return
        models = [{"id": self.server.served, "root": "/somewhere", "max_model_len": 200}]
        models += [
            {"id": name, "root": path, "parent": self.server.served}
            for name, path in self.server.adapters.items()
        ]
        self._answer(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._is_known():
            return
        if self.path == "/v1/load_lora_adapter":
            name, path = body["lora_name"], Path(body["lora_path"])
            if self.server.refuses_adapters or not (path / "adapter_config.json").exists():
                self._answer(400, {"error": {"message": f"LoRA rank 64 of {path} is too great"}})
                return
            self.server.adapters[name] = str(path)
            self._plain(f"Success: LoRA adapter '{name}' added successfully.")
        elif self.path == "/v1/unload_lora_adapter":
            if self.server.adapters.pop(body["lora_name"], None) is None:
                self._answer(404, {"error": {"message": "not found"}})
            else:
                self._plain("Success: removed.")
        elif body["model"] not in {self.server.served, *self.server.adapters}:
            self._answer(404, {"error": {"message": f"The model {body['model']} does not exist."}})
        else:
            self.server.requests.append(body)
            self._complete(body)

    def _complete(self, body: dict[str, Any]) -> None:
        letters = [self.server.alphabet[i] for i in body["prompt"] if i < len(self.server.alphabet)]
        prompt = bytes(self.server.bytes[letter] for letter in letters).decode()
        words = dict((word + "=1").split("=")[:2] for word in prompt.split())
        if "status" in words:
            self._answer(int(words["status"]), {"error": {"message": f"no: {prompt}"}})
            return
        if not body.get("stream"):
            found = [None] + [{str(i): {"logprob": -0.25, "rank": 1}} for i in body["prompt"][1:]]
            choice = {"index": 0, "text": "x", "prompt_logprobs": found, "finish_reason": "length"}
            self._answer(200, {"choices": [choice]})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        most, num_words = body["max_tokens"], int(words.get("words", 3))
        if body["stop"] and body["n"] == 1:
            self._complete_until(body, num_words)
            return
        try:
            for number in range(min(most, num_words)):
                time.sleep(float(words.get("pause", 0)))
                if number == int(words.get("break", -1)):
                    self.close_connection = True
                    return
                for index in range(body["n"]):
                    self._event({"choices": [self._choice(index, f"{number} ", None, body)]})
            reason = "length" if num_words > most else "stop"
            for index in range(body["n"]):
                self._event({"choices": [self._choice(index, "", reason, body)]})
            usage = {
                "prompt_tokens": len(body["prompt"]),
                "completion_tokens": num_words * body["n"],
            }
            self._event({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")
            self.close_connection = True
        except OSError:
            self.server.num_cut_off += 1
            raise

    def _complete_until(self, body: dict[str, Any], num_words: int) -> None:
        """Text that may begin a stop word is held back, its logprobs are not."""
        whole, told, (stop,) = "", 0, body["stop"]
        for number in range(num_words):
            whole += f"{number} "
            found = self._choice(0, f"{number} ", None, body)
            end = whole.find(stop)
            certain = end if end >= 0 else max(told, len(whole) - len(stop) + 1)
            found["text"], told = whole[told:certain], certain
            if end >= 0:
                self._event({"choices": [found | {"finish_reason": "stop"}]})
                break
            self._event({"choices": [found]})
        else:
            self._event(
                {"choices": [self._choice(0, whole[told:], "stop", body | {"logprobs": None})]}
            )
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _choice(self, index: int, text: str, reason: str | None, body: Any) -> dict[str, Any]:
        found = None
        if text and body.get("logprobs") is not None:
            found = {
                "tokens": [text],
                "token_logprobs": [-0.5],
                # The drawn one comes beside as many as were asked for.
                "top_logprobs": [{text: -4.0, "yes": -0.5, "no": -2.0}],
                "text_offset": [0],
            }
        return {"index": index, "text": text, "logprobs": found, "finish_reason": reason}

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def _is_known(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        self._answer(401, {"error": "Unauthorized"})
        return False

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._plain(json.dumps(body), status)

    def _plain(self, text: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass
