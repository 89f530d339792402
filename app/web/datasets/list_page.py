"""The list of data: of each dataset its newest version, as the address asks for them."""

from dataclasses import dataclass

from sqlalchemy import func
from sqlalchemy.orm import Session, contains_eager, joinedload

from app.core.models import Dataset, DatasetVersion, User
from app.datasets import states, versions
from app.datasets.states import Standing
from app.people.auth import can_edit
from app.web import gone, lists
from app.web.gone import Gone


@dataclass(frozen=True)
class ListPage:
    """datasets/list.html: a page of a department's datasets."""

    listing: lists.Listing
    datasets: list[tuple[DatasetVersion, Standing]]
    gone: Gone | None
    can_edit: bool


def _list() -> lists.Kind:
    # Anew each time: what waits for a person depends on the site's privacy gate.
    num_rows = (
        DatasetVersion.num_train
        + DatasetVersion.num_validation
        + func.coalesce(DatasetVersion.num_test, 0)
    )
    return lists.Kind(
        path="/datasets",
        key=DatasetVersion.id,
        names=(Dataset.name,),
        owner=Dataset.owner_id,
        sorts={
            "newest": lists.Sort("Newest first", (Dataset.created_at.desc(), Dataset.id.desc())),
            "oldest": lists.Sort("Oldest first", (Dataset.created_at, Dataset.id)),
            "name": lists.Sort("Name", (func.lower(Dataset.name),)),
            "size": lists.Sort("Most examples first", (num_rows.desc(),)),
        },
        shows={
            word: lists.Show(words, states.where(group))
            for word, (words, group) in states.GROUPS.items()
        },
    )


def list_page(db: Session, user: User, query: lists.Query) -> ListPage:
    """Gather the page of the list of data that an address asks for."""
    newest = versions.newest(user.department_id)
    ids, listing = lists.pick(db, user, newest, lists.asked(_list(), query))
    found = newest.where(DatasetVersion.id.in_(ids)).options(
        contains_eager(DatasetVersion.dataset).joinedload(Dataset.owner),
        joinedload(DatasetVersion.file),
    )
    known = {version.id: (version, review) for version, review in db.execute(found)} if ids else {}
    return ListPage(
        listing=listing,
        datasets=[
            (version, states.standing(version, review))
            for version, review in (known[each] for each in ids if each in known)
        ],
        gone=Gone(gone.DATA_ERASED) if query.get("erased", "") else None,
        can_edit=can_edit(user),
    )
