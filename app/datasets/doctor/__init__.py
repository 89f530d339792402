"""The dataset doctor: looks at all examples of a version and says what to do about them.

`kinds` says what there is to find and how to say it; `checks` asks for a check and reads what one
found; `fixes` turns a finding into the next version. The rest runs in the cpu worker's child
(`python -m app.datasets.doctor`, see worker/cpu/checking.py): `rows` reads the examples, and each
of the other modules is one family of checks.
"""
