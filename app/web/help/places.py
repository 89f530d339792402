"""Which part of the help a page's question mark opens: each page, by its template, in one place.

Written `chapter` or `chapter#section`. A test finds each page here, and each section in its
chapter.
"""

PLACES = {
    "account/setup.html": "account#signing-in",
    "account/show.html": "account#your-accounts-page",
    "account/sign_in.html": "account#signing-in",
    "adapters/ask.html": "use#asking-it",
    "adapters/feedback.html": "use#feedback",
    "adapters/list.html": "result#your-trained-model",
    "adapters/list_show.html": "use#a-list-of-questions",
    "adapters/lists.html": "use#a-list-of-questions",
    "adapters/plain.html": "use#asking-it",
    "adapters/sharing.html": "use#sharing-it",
    "adapters/show.html": "result#your-trained-model",
    "adapters/use.html": "use#taking-it-along",
    "bin/show.html": "start#what-was-deleted",
    "datasets/columns.html": "data#matching-columns",
    "datasets/list.html": "data#your-data",
    "datasets/new.html": "data#adding-a-file",
    "datasets/check.html": "check",
    "datasets/file.html": "data#your-data",
    "datasets/overview.html": "data#your-data",
    "datasets/show.html": "data#your-data",
    "datasets/train.html": "train#starting-a-job",
    "error.html": "start#finding-help",
    "evaluation/answers.html": "result#how-many-answers-are-right",
    "evaluation/compare.html": "result#comparing",
    "evaluation/curve.html": "result#more-data-or-not",
    "evaluation/general.html": "evaluation",
    "evaluation/report.html": "result#is-it-good-enough",
    "evaluation/show.html": "result#how-many-answers-are-right",
    "evaluation/vote.html": "result#comparing",
    "examples/add.html": "data#browsing-and-correcting-examples",
    "examples/compare.html": "data#browsing-and-correcting-examples",
    "examples/finding.html": "check#a-finding",
    "examples/leave_out.html": "data#browsing-and-correcting-examples",
    "examples/list.html": "data#browsing-and-correcting-examples",
    "examples/show.html": "data#browsing-and-correcting-examples",
    "help/api.html": "programs",
    "help/chapter.html": "start#finding-help",
    "help/found.html": "start#finding-help",
    "help/glossary.html": "start#finding-help",
    "help/index.html": "start#finding-help",
    "help/marks.html": "result#how-many-answers-are-right",
    "home/show.html": "start#home",
    "jobs/list.html": "train#all-jobs",
    "jobs/new.html": "train#starting-a-job",
    "jobs/show.html": "train#while-it-trains",
    "machines/show.html": "administrators#gpus-and-machines",
    "models/list.html": "administrators#starting-models",
    "notices/list.html": "account#notices",
    "notices/webhooks.html": "administrators#notices-and-webhooks",
    "people/list.html": "administrators#people",
    "privacy/help.html": "personal-details#what-is-found-and-what-is-not",
    "privacy/patterns.html": "personal-details#patterns-of-your-house",
    "privacy/show.html": "personal-details#deciding",
    "questions/review.html": "data#questions-about-a-text",
    "questions/show.html": "data#questions-about-a-text",
    "queue/limits.html": "administrators#the-queue-and-limits",
    "queue/show.html": "queue#reading-the-page",
    "safeguards/show.html": "administrators#safeguards",
    "settings/show.html": "administrators#settings",
}


def of(template: str) -> tuple[str, str]:
    """Return the chapter and the section that explain a page; the section may be empty."""
    chapter, _, section = PLACES.get(template, "start").partition("#")
    return chapter, section
