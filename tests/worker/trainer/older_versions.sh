#!/usr/bin/env bash
# The trainer's tests with older torch and transformers, each pair in an environment of its own
# below .venvs/: the oldest that are supported, and a pair between those and what is pinned.
set -euo pipefail
cd "$(dirname "$0")/../../.."
mkdir -p .venvs
python=${PYTHON:-python3}
# All that pyproject.toml asks for but the two; the lock holds for the pinned pair alone.
"$python" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
print(*(name for name in wanted if not name.startswith(("torch", "transformers"))), sep="\n")
' >.venvs/wanted.txt
for pair in "2.11.0 5.17.0" "2.12.1 5.20.2"; do
  read -r torch transformers <<<"$pair"
  venv=.venvs/torch-$torch
  if [ ! -e "$venv/.ready" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
      "torch==$torch" "transformers==$transformers" --requirement .venvs/wanted.txt
    touch "$venv/.ready"
  fi
  echo "torch $torch, transformers $transformers:"
  PYTHONPATH=$PWD "$venv/bin/python" -m pytest -q tests/worker/trainer tests/app/training
done
