"""The facts of a text, a module for each kind of them; `reader.facts_of` finds them all."""
