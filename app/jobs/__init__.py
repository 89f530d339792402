"""Jobs, from the request to the end; this wing is the only writer of Job.status and Job.desired.

What people and programs ask for: `requests.py` creates, changes and shows jobs, `ordering.py` moves
them in the queue, `rights.py` says who may, and `plans.py` what a job is expected to need.

What workers do: `protocol.py` from claim to end, under the fence of `fence.py`; `metrics.py` keeps
what a trainer reports, and `energy.py` and `progress.py` read it. `inputs.py` deals with jobs whose
data or model is not what it was, and `stream.py` tells those who watch.

Who goes first: `scheduling.py` has the rules, `shares.py` reads what they are applied to,
`choice.py` picks a worker's job, and `limits.py` is what administrators grant. `queue_view.py` says
with `forecast.py` what comes when and why.

Nothing is re-exported: callers name the module. The whole life is told in docs/life-of-a-job.md,
the queue in docs/queue.md.
"""
