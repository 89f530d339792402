"""The part of MLflow's REST interface that Etude speaks, as MLflow 3.17 answers it; small and real.

tests/ops/test_real_loggers.py says the same of MLflow itself.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.ops.receivers import serving

Json = dict[str, Any]
_API = "/api/2.0/mlflow/"


@dataclass
class Mlflow:
    """Keeps experiments and runs."""

    url: str = ""
    experiments: list[str] = field(default_factory=list)
    runs: list[Json] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)  # of all requests
    calls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    # Calls of which the next answer is lost on the way: what was asked for has been done.
    to_lose: set[str] = field(default_factory=set)
    refusal: tuple[int, str] | None = None

    def points(self, name: str, run: int = 0) -> list[tuple[int, float]]:
        found = [(step, value) for key, value, step, _ in self.runs[run]["metrics"] if key == name]
        return sorted(found)

    def answer(self, call: str, asked: Json) -> tuple[int, Json]:
        match call:
            case "experiments/get-by-name":
                if asked["experiment_name"] not in self.experiments:
                    return _unknown(f"No experiment {asked['experiment_name']}")
                number = self.experiments.index(asked["experiment_name"])
                return 200, {"experiment": {"experiment_id": str(number)}}
            case "experiments/create":
                self.experiments.append(asked["name"])
                return 200, {"experiment_id": str(len(self.experiments) - 1)}
            case "runs/search":
                found = [
                    run for run in self.runs if f"= '{run['tags']['etude.job']}'" in asked["filter"]
                ]
                return 200, {
                    "runs": [{"info": {"run_id": run["id"]}} for run in found]
                } if found else {}
            case "runs/create":
                tags = {tag["key"]: tag["value"] for tag in asked["tags"]}
                name, number = asked["run_name"], len(self.bodies)
                run = {"id": f"run-{number}", "name": name, "tags": tags, "metrics": set(),
                       "params": {}, "status": "RUNNING"}  # fmt: skip
                self.runs.append(run)
                return 200, {"run": {"info": {"run_id": run["id"]}}}
        run = next((each for each in self.runs if each["id"] == asked["run_id"]), {})
        if not run:
            return _unknown(f"Run {asked['run_id']} not found")
        if call == "runs/get":
            stage = "deleted" if run.get("is_deleted") else "active"
            return 200, {"run": {"info": {"run_id": run["id"], "lifecycle_stage": stage}}}
        if run.get("is_deleted"):
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "it is deleted"}
        if call == "runs/update":
            run["status"] = asked["status"]
            return 200, {}
        assert call == "runs/log-batch", call
        if len(asked["metrics"]) + len(asked["params"]) + len(asked["tags"]) > 1000:
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "too many"}
        run["metrics"] |= {
            (m["key"], m["value"], m["step"], m["timestamp"]) for m in asked["metrics"]
        }
        run["params"] |= {each["key"]: each["value"] for each in asked["params"]}
        run["tags"] |= {each["key"]: each["value"] for each in asked["tags"]}
        return 200, {}


def _unknown(message: str) -> tuple[int, Json]:
    return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": message}


@contextmanager
def mlflow_server(port: int = 0) -> Iterator[Mlflow]:
    there = Mlflow()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            parts = urlsplit(self.path)
            asked: Json = {key: values[0] for key, values in parse_qs(parts.query).items()}
            asked |= json.loads(body or "{}")
            call = parts.path.partition(_API)[2]
            there.bodies.append(body + parts.query)
            there.calls.append(call)
            there.headers.append(dict(self.headers.items()))
            status, said = there.answer(call, asked)
            if there.refusal:
                status, said = there.refusal[0], {"message": there.refusal[1]}
            if call in there.to_lose:
                there.to_lose.remove(call)
                self.close_connection = True
                return
            written = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    with serving(server) as port:
        there.url = f"http://127.0.0.1:{port}/house"
        yield there
