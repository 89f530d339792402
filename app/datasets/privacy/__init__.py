"""The privacy gate: what in people's rows points to a person, and what was decided about it.

`scanner.py` finds, with the rules of names, numbers, checksums and addresses; `process.py` runs it
in a child without credentials; `reviews.py` holds the gate: scan, decision, audit;
`stand_ins.py` replaces. All of it runs on this machine. docs/privacy.md says how well.
"""
