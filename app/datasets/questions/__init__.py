"""Questions that a model makes up to a document's own words, each judged by a person.

passages.py cuts a text into passages and chooses the words that answer; asking.py writes the order
to the model and judges what comes back; runs.py starts, leases out and ends the work (the worker's
side is worker/cpu/questions.py); reviewing.py is for people, up to the version made of what they
accepted.
"""
