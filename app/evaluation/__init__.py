"""How many answers of a model are right, beside what would have answered without training."""
