"""`python -m tests.security.scan BIN`: bandit, and semgrep with our rules, over app and worker.

BIN is the folder of the environment's programs that has both (make security). Each rule has to find
the line below that breaks it first: one that finds nothing proves nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RULES = Path(__file__).with_name("rules") / "etude.yml"
SCANNED = ("app", "worker", "templates")
BROKEN = {
    "no-shell": "import subprocess\nsubprocess.run(name, shell=True)\n",
    "no-pickle": "import torch\ntorch.load(path)\n",
    "no-unsafe-yaml": "import yaml\nyaml.load(text)\n",
    "no-eval": "eval(text)\n",
    "no-request-without-timeout": "import urllib.request\nurllib.request.urlopen(url)\n",
    "no-name-of-the-hub": 'AutoModel.from_pretrained("somebody/model")\n',
    "no-remote-code": "AutoModel.from_pretrained(folder, trust_remote_code=True)\n",
    "no-unchecked-certificate": "client(verify=False)\n",
    "no-markup": "from markupsafe import Markup\nMarkup(text)\n",
    "no-safe-filter": "<p>{{ text | safe }}</p>\n",
}


def main() -> int:
    bin_dir = Path(sys.argv[1]).absolute()
    blind = _blind_rules(bin_dir)
    for rule in blind:
        print(f"semgrep: the rule {rule} does not find the code that breaks it")
    found = _semgrep(bin_dir, [ROOT / name for name in SCANNED])
    for each in found:
        print(f"semgrep: {each['path']}:{each['start']['line']}: {each['check_id']}")
    bandit = subprocess.run(
        # Medium and above, where bandit is at least half sure; the rest ruff's S rules judge, and
        # B104 and B108 as well, line by line. Instead of B615 we have no-name-of-the-hub.
        [
            *(str(bin_dir / "bandit"), "--quiet", "--recursive", "-ll", "-ii"),
            *("--skip", "B104,B108,B615", "app", "worker"),
        ],
        cwd=ROOT,
        check=False,
    )
    is_clean = not blind and not found and bandit.returncode == 0
    print("scan: nothing found" if is_clean else "scan: see above")
    return 0 if is_clean else 1


def _blind_rules(bin_dir: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for rule, code in BROKEN.items():
            ending = "html" if rule == "no-safe-filter" else "py"
            (Path(folder) / f"{rule}.{ending}").write_text(code)
        found = {
            (Path(each["path"]).stem, each["check_id"].rpartition(".")[2])
            for each in _semgrep(bin_dir, [Path(folder)])
        }
    return [rule for rule in BROKEN if (rule, rule) not in found]


def _semgrep(bin_dir: Path, places: list[Path]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [
            *(str(bin_dir / "semgrep"), "scan", "--config", str(RULES), "--json", "--quiet"),
            *("--metrics=off", "--disable-version-check", "--no-git-ignore", *map(str, places)),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{bin_dir}:{os.environ['PATH']}"},
        check=False,
    )
    if done.returncode > 1:
        raise SystemExit(f"semgrep broke off: {done.stderr[-2000:]}")
    said = json.loads(done.stdout)
    if said["errors"]:
        raise SystemExit(f"semgrep could not read everything: {said['errors'][:3]}")
    results: list[dict[str, Any]] = said["results"]
    return results


if __name__ == "__main__":
    sys.exit(main())
