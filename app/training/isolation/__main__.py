"""`python -m app.training.isolation FOLDER …`: raise all walls, and say as JSON which stand."""

import json
import sys
from pathlib import Path

from app.training import isolation

print(json.dumps(isolation.confine(isolation.Needs(reads=[*map(Path, sys.argv[1:])]))))
