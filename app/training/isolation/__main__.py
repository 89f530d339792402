"""`python -m app.training.isolation`: raise all walls, and say as JSON which of them stand."""

import json

from app.training import isolation

print(json.dumps(isolation.confine(isolation.Needs())))
