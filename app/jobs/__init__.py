"""Jobs: the only writer of Job.status and Job.desired.

`people.py` and `ordering.py` are what people and programs ask for, `plans.py` what that is expected
to need, `protocol.py` what workers do under the fence of `fence.py`, `inputs.py` what becomes of
jobs whose data or model is not what it was, `stream.py` what all of them tell those who watch. Who
goes first is decided by the rules of `line.py`: `shares.py` reads what they are applied to,
`choice.py` picks a worker's job, `limits.py` is what administrators grant, and `outlook.py` with
`foresight.py` says what comes when and why. The whole life is told in docs/life-of-a-job.md, the
line in docs/queue.md.
"""

from app.jobs.choice import WORKER_SILENCE
from app.jobs.fence import Claim, Fenced, heartbeat, hold
from app.jobs.inputs import fail_hopeless, use_instead
from app.jobs.ordering import lower, raise_, to_top
from app.jobs.plans import device_of, devices, fits, predict
from app.jobs.protocol import (
    WorkerInfo,
    cancelled,
    claim,
    fail,
    has_claimable,
    held_on,
    is_holding,
    is_out,
    reap,
    requeue,
    roll_back,
    succeed,
    take_back,
    unheard,
)
from app.jobs.queue_view import Outlook, outlook, position
from app.jobs.requests import (
    by_public_id,
    cancel,
    create,
    delete,
    get,
    get_any,
    list_jobs,
    next_in_line,
    pause,
    rename,
    require_visible,
    resume,
    retry,
    visible,
)
from app.jobs.rights import may_control
from app.jobs.shares import time_is_up
from app.jobs.stream import CHANNEL, say, wake

__all__ = [
    "CHANNEL",
    "WORKER_SILENCE",
    "Claim",
    "Fenced",
    "Outlook",
    "WorkerInfo",
    "by_public_id",
    "cancel",
    "cancelled",
    "claim",
    "create",
    "delete",
    "device_of",
    "devices",
    "fail",
    "fail_hopeless",
    "fits",
    "get",
    "get_any",
    "has_claimable",
    "heartbeat",
    "held_on",
    "hold",
    "is_holding",
    "is_out",
    "list_jobs",
    "lower",
    "may_control",
    "next_in_line",
    "outlook",
    "pause",
    "position",
    "predict",
    "raise_",
    "reap",
    "rename",
    "requeue",
    "require_visible",
    "resume",
    "retry",
    "roll_back",
    "say",
    "succeed",
    "take_back",
    "time_is_up",
    "to_top",
    "unheard",
    "use_instead",
    "visible",
    "wake",
]
