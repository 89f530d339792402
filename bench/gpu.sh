#!/usr/bin/env bash
# The GPU tests, answering and the GPU comparison in one go, offline, in under ten minutes:
#
#     bench/gpu.sh [options of bench/gpu.py]
#
# Brings nothing from the network. Packages that the machine's Python lacks come as wheels from
# ETUDE_GPU_WHEELS (default .whl); ETUDE_GPU_PYTHON names another Python than .venv's or python3.
# Without a CUDA device it says so, writes nothing and ends with 0. `--device cpu --shapes tiny`
# tries the same code where there is no GPU, and writes no results either.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${ETUDE_GPU_PYTHON:-}
[ -n "$python" ] || { [ -x .venv/bin/python ] && python=.venv/bin/python || python=python3; }
on_cpu=no
case " $* " in *" --device cpu "* | *" --device=cpu "*) on_cpu=yes ;; esac

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
# Nothing is left behind, but each of some twenty processes compiling torch's and transformers'
# modules anew would take a third of the time.
export PYTHONUNBUFFERED=1 PYTHONPYCACHEPREFIX="$site/compiled" HF_HUB_OFFLINE=1 USE_HUB_KERNELS=NO
if [ "$on_cpu" = no ] && ! "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "There is no CUDA device here (or no torch that sees it): nothing was tested or measured."
  exit 0
fi

wheels=${ETUDE_GPU_WHEELS:-.whl}
if ls "$wheels"/*.whl >/dev/null 2>&1; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --target "$site/packages" "$wheels"/*.whl
  export PYTHONPATH="$site/packages:${PYTHONPATH:-}"
fi
export PYTHONPATH="$PWD:${PYTHONPATH:-}"
# What the trainer imports; a machine made for other work lacks some of it.
"$python" - <<'PY'
import importlib.util
import sys

names = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "pydantic", "pyarrow")
names += ("jinja2", "tokenizers", "safetensors", "numpy", "pytest", "pytest_timeout")
missing = [name for name in names if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(
        f"Missing here: {', '.join(missing)}. Bring them as wheels in ETUDE_GPU_WHEELS "
        "(docs/performance.md says how)."
    )
PY

failed=0
if [ "$on_cpu" = yes ]; then export ETUDE_TEST_DEVICE=cpu; fi
# The other tests' conftest.py wants a database; other versions of torch warn of other things.
timeout --kill-after 10 180 "$python" -m pytest tests/gpu -q -m gpu --confcutdir=tests/gpu \
  -p no:cacheprovider -o filterwarnings=default || failed=1
ask="--results bench/results"
case " $* " in *" --no-results "*) ask="" ;; esac
if [ "$on_cpu" = yes ]; then ask="--device cpu --shape tiny --tokens 16"; fi
# shellcheck disable=SC2086 # several words
timeout --kill-after 10 120 "$python" -m bench.gpu_ask $ask || failed=1
# What these left of ten minutes; what is still running then is not measured.
"$python" -m bench.gpu --seconds $((570 - SECONDS)) "$@" || failed=1
exit $failed
