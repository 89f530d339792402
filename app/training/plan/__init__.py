"""Memory and speed worked out before the first step: the page shows it, the trainer follows it.

`shape.py` says what both depend on, `machine.py` what there is, `memory.py` and `speed.py` what a
candidate would cost, and `choose.py` takes the best one.
"""
