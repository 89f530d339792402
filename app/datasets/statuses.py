"""Where data stands, in the words that app/core/status_words.py lacks."""

from app.core.models import AskingStatus, VersionStatus
from app.core.status_words import StatusWord

# What /v1 says of a file that is not read yet.
SENTENCES = {
    VersionStatus.UPLOADED: "Waiting to be read.",
    VersionStatus.INSPECTING: "Being read.",
    VersionStatus.MAPPING: "Waiting for a person to check its columns, on the page Data.",
    VersionStatus.CONFIRMED: "Waiting to be turned into examples.",
    VersionStatus.BUILDING: "Being turned into examples.",
}
SEARCHED = "Being searched for personal details."
ASKING = {
    AskingStatus.WAITING: StatusWord("Waiting", "wait"),
    AskingStatus.ASKING: StatusWord("Working", "live"),
    AskingStatus.DONE: StatusWord("Finished", "good"),
    AskingStatus.CANCELLED: StatusWord("Stopped", "wait"),
    AskingStatus.FAILED: StatusWord("Failed", "bad"),
}
