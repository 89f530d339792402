"""What the columns most likely mean, by their names and what is in them; a person confirms it."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from app.core.sentences import counted, listed
from app.datasets import continued, rival_answers, verdicts
from app.datasets.column_names import (
    CONTEXT,
    HARMLESS,
    KEYS,
    ROLES,
    SAID,
    WITH_CONTEXT,
    likely_role,
    plain,
    says,
)
from app.datasets.conversations import assemble
from app.datasets.judged_columns import How, Judged, judged_columns, sentence
from app.datasets.mapping import (
    ANSWERING,
    Column,
    ColumnRole,
    LeftOut,
    Mapping,
    holds_earlier_turns,
)
from app.datasets.readers import option_rows
from app.datasets.readers.inspections import Inspection, ReadAs
from app.datasets.turns import FLAGS, TurnRole, are_turns, is_flag, parsed, plain_word

_ASKS = ("?", "？", "؟")


class Proposal(NamedTuple):
    mapping: Mapping
    is_sure: bool  # so plain that a program may go on without a person
    why: str  # a sentence for the person who confirms it


def propose(inspection: Inspection, read_as: ReadAs | None = None) -> Proposal:
    """Propose a mapping from the names of the columns, else from what is in them.

    Args:
        inspection: What is in the file.
        read_as: What a person said of words in it.
    """
    proposal = _propose(inspection)
    chosen = read_as or ReadAs()
    chosen.explain(proposal.mapping)
    # Whoever says who speaks has looked at the file.
    is_told = bool(proposal.mapping.named(ColumnRole.SPEAKER)) and (
        TurnRole.ASSISTANT in chosen.speakers.values()
    )
    is_sure = (proposal.is_sure or is_told) and _fits(proposal.mapping, inspection)
    if chosen.continued is None and (said := _join_rows(proposal.mapping, inspection)):
        return Proposal(proposal.mapping, False, f"{proposal.why} {said}")
    # Saying who speaks says nothing of which answers are good.
    is_doubtful = inspection.encoding_is_doubtful or inspection.numbers_are_doubtful
    is_sure = is_sure and not is_doubtful
    is_sure = is_sure and all(
        judged.how is How.KTO for judged in _judging(inspection, proposal.mapping.column_roles)
    )
    return proposal._replace(is_sure=is_sure)


def _join_rows(mapping: Mapping, inspection: Inspection) -> str:
    """Propose to join rows that have an answer alone where most are so; say what they may be."""
    answers = mapping.named(ColumnRole.ANSWER)
    found = inspection.going_on.get(answers[0]) if len(answers) == 1 else None
    if found is None or not continued.may_go_on(mapping):
        return ""
    mapping.continued = found.above * 2 >= inspection.num_rows - found.rows
    where = f"{inspection.place} {found.first:,}"
    if mapping.continued:
        return counted(
            found.rows,
            "1 row has an answer alone ({where}). It seems to go on with the answer above, so it "
            "is joined to it; please check.",
            "{n} rows have an answer alone (first in {where}). They seem to go on with the answer "
            "above, so they are joined to it; please check.",
            where=where,
        )
    return counted(
        found.rows,
        "1 row has an answer alone ({where}). If it goes on with the answer above, choose below to "
        "join it; else it is left out.",
        "{n} rows have an answer alone (first in {where}). If they go on with the answer above, "
        "choose below to join them; else they are left out.",
        where=where,
    )


def _propose(inspection: Inspection) -> Proposal:
    roles = dict.fromkeys(inspection.columns, ColumnRole.IGNORE)
    by_role, is_sure = _by_name(
        inspection, [n for n in inspection.columns if not _is_misnamed(inspection, n)]
    )
    if inspection.is_document:
        return _of_document(inspection, roles)
    if turns := _turns(inspection, roles, by_role):
        return turns
    if inspection.format == "mail":
        return _of_mail(inspection, roles)
    if ColumnRole.BETTER in by_role and ColumnRole.WORSE in by_role:
        why, is_plain = _take_better(roles, by_role)
    elif talks := _talks(inspection, by_role.get(ColumnRole.MESSAGES, [])):
        why, is_plain = _take_talks(inspection, roles, by_role, talks)
    elif ColumnRole.QUESTION in by_role and ColumnRole.ANSWER in by_role:
        why, is_plain = _take_pair(inspection, roles, by_role)
    elif len(by_role.get(ColumnRole.TEXT, [])) == 1 and _is_alone(by_role, inspection.columns):
        roles[by_role[ColumnRole.TEXT][0]] = ColumnRole.TEXT
        why = "The only column has text, which is learned as it is, without a question."
        is_plain = True
    elif asked := _asked(inspection, by_role):
        return _of_form(inspection, roles, asked)
    else:
        return _by_content(inspection, roles)
    why += _take_flags(inspection, roles)
    if any(plain(name) not in HARMLESS for name in roles if roles[name] is ColumnRole.IGNORE):
        why += " The other columns are not used."
    mapping = _mapping(inspection, roles)
    return Proposal(mapping, is_sure and is_plain, why)


def _take_better(
    roles: dict[str, ColumnRole], by_role: dict[ColumnRole, list[str]]
) -> tuple[str, bool]:
    """Give the columns of two answers their roles; say so, and whether nobody need look."""
    better, worse = by_role[ColumnRole.BETTER][0], by_role[ColumnRole.WORSE][0]
    roles[better], roles[worse] = ColumnRole.BETTER, ColumnRole.WORSE
    why = f"“{better}” looks like the better of two answers and “{worse}” like the worse one."
    for name in by_role.get(ColumnRole.QUESTION, [])[:1]:
        roles[name] = ColumnRole.QUESTION
        why += f" “{name}” looks like the question."
    for name in by_role.get(ColumnRole.SYSTEM, [])[:1]:
        roles[name] = ColumnRole.SYSTEM
        why += f" “{name}” looks like the instruction."
    return why, all(len(names) == 1 for names in by_role.values())


def _take_talks(
    inspection: Inspection,
    roles: dict[str, ColumnRole],
    by_role: dict[ColumnRole, list[str]],
    talks: list[str],
) -> tuple[str, bool]:
    """Give the columns with conversations their roles; say so, and whether nobody need look."""
    is_plain = True
    roles |= dict.fromkeys(talks, ColumnRole.MESSAGES)
    why = f"The column “{talks[0]}” has whole conversations."
    if len(talks) > 1:
        shown = listed([f"“{name}”" for name in talks])
        why = f"The columns {shown} have whole conversations, each in other rows."
        is_plain = False
    if _has_other_shapes(inspection, by_role, talks):
        why += (
            " Other rows have no conversation but other columns, and are left out; upload "
            "them as a file of their own."
        )
        is_plain = False
    for name in by_role.get(ColumnRole.TOOLS, []):
        roles[name] = ColumnRole.TOOLS
        why += f" “{name}” says what the model may call."
    for name in by_role.get(ColumnRole.SYSTEM, [])[:1]:
        roles[name] = ColumnRole.SYSTEM
        why += f" “{name}” looks like the instruction."
    return why, is_plain


def _take_pair(
    inspection: Inspection, roles: dict[str, ColumnRole], by_role: dict[ColumnRole, list[str]]
) -> tuple[str, bool]:
    """Give the columns of a pair their roles; say so, and whether nobody need look."""
    question, answer = by_role[ColumnRole.QUESTION][0], by_role[ColumnRole.ANSWER][0]
    roles[question], roles[answer] = ColumnRole.QUESTION, ColumnRole.ANSWER
    why = f"“{question}” looks like the question and “{answer}” like the answer."
    # Of two good answers a person chooses.
    rivals = len(by_role[ColumnRole.QUESTION]) + len(by_role[ColumnRole.ANSWER]) > 2
    doubt = rival_answers.doubt(answer, inspection.columns)
    why += doubt.sentence
    is_plain = not rivals and not doubt.is_for_a_person
    contexts = [name for name in inspection.columns if plain(name) in CONTEXT - {plain(question)}]
    if len(contexts) == 1 and plain(question) in WITH_CONTEXT:
        roles[contexts[0]] = ColumnRole.QUESTION
        why += f" “{contexts[0]}” is added to the question."
    elif contexts:
        is_plain = False
    for name in by_role.get(ColumnRole.SYSTEM, [])[:1]:
        roles[name] = ColumnRole.SYSTEM
    earlier = [n for n in by_role.get(ColumnRole.HISTORY, []) if _goes_before(inspection, n)]
    for name in earlier[:1]:
        roles[name] = ColumnRole.HISTORY
        why += f" “{name}” has what was said before."
    return why, is_plain


def _talks(inspection: Inspection, names: list[str]) -> list[str]:
    """Return the columns with conversations; several where each row has one of them at most."""
    rows = [
        [row.values.get(name) not in (None, "", []) for name in names] for row in inspection.preview
    ]
    return names if len(names) < 2 or all(sum(filled) < 2 for filled in rows) else []


def _has_other_shapes(
    inspection: Inspection, by_role: dict[ColumnRole, list[str]], talks: list[str]
) -> bool:
    """Say whether rows without a conversation have a question or an answer instead."""
    others = by_role.get(ColumnRole.QUESTION, []) + by_role.get(ColumnRole.ANSWER, [])
    return any(
        any(row.values.get(name) for name in others)
        and not any(row.values.get(name) for name in talks)
        for row in inspection.preview
    )


def _take_flags(inspection: Inspection, roles: dict[str, ColumnRole]) -> str:
    """Give the columns that say which rows are learned their role, and say so."""
    why = ""
    for name in inspection.columns:
        if roles[name] is ColumnRole.IGNORE and _is_flag(inspection, name):
            roles[name] = ColumnRole.WEIGHT
            why += f" “{name}” says which rows are learned: 0 means not."
    for judged in _judging(inspection, roles):
        if judged.how is not How.UNREAD:
            roles[judged.name] = ColumnRole.WEIGHT
        why += f" {sentence(judged)}"
    return why


def _judging(inspection: Inspection, roles: dict[str, ColumnRole]) -> list[Judged]:
    """Find the columns that judge their rows, beside those that have a role of their own."""
    if inspection.is_document:
        return []
    free = (ColumnRole.IGNORE, ColumnRole.WEIGHT)
    # “score_rejected” rates one of two answers of which both are needed.
    is_pair = ColumnRole.BETTER in roles.values()
    return judged_columns(
        inspection,
        [
            name
            for name, role in roles.items()
            if role in free and not (is_pair and _PAIRED & set(plain(name).split("_")))
        ],
    )


_PAIRED = frozenset({"chosen", "rejected", "better", "worse", "margin"})


def _is_flag(inspection: Inspection, name: str) -> bool:
    values = [row.values.get(name) for row in inspection.preview]
    filled = [value for value in values if value not in (None, "")]
    return plain(name) in FLAGS and bool(filled) and all(map(is_flag, filled))


def _asked(inspection: Inspection, by_role: dict[ColumnRole, list[str]]) -> list[str]:
    """Return the columns whose names are questions, as those of forms are."""
    if by_role.keys() & {ColumnRole.QUESTION, ColumnRole.ANSWER} or inspection.header_row == 0:
        return []
    asked = []
    for name in inspection.columns:
        values = {str(value).strip() for row in inspection.preview if (value := row.values[name])}
        # “May we publish this?” is answered by yes or no, which nobody wants to be learned.
        is_consent = len(values) <= 3 and all(len(value) <= 5 for value in values)
        if name.rstrip().endswith(_ASKS) and values and not is_consent:
            asked.append(name)
    return asked


def _of_form(inspection: Inspection, roles: dict[str, ColumnRole], asked: list[str]) -> Proposal:
    for name in asked:
        roles[name] = ColumnRole.ANSWER_TO_NAME
    why = (
        f"The name of the column “{asked[0]}” is itself a question, so that each cell is read as "
        "an answer to it; please check."
        if len(asked) == 1
        else f"The names of {len(asked)} columns are themselves questions, so that their cells are "
        "read as answers to them, a row being one conversation; please check."
    )
    why += _take_flags(inspection, roles)
    return Proposal(_mapping(inspection, roles), False, why)


def _is_alone(by_role: dict[ColumnRole, list[str]], columns: list[str]) -> bool:
    return all(name in by_role[ColumnRole.TEXT] or plain(name) in HARMLESS for name in columns)


def _of_document(inspection: Inspection, roles: dict[str, ColumnRole]) -> Proposal:
    if inspection.way == "text":
        roles["text"] = ColumnRole.TEXT
        why = (
            f"The text is cut into pieces of about {inspection.chunk_tokens:,} tokens "
            "(an estimate, since no starting model is chosen yet). They are learned as they are."
        )
    else:
        roles["question"], roles["answer"] = ColumnRole.QUESTION, ColumnRole.ANSWER
        words = {
            "heading": "under headings",
            "table": "in tables",
            "lines": "in lines such as “Q:” and “A:”",
            "question": "below paragraphs that ask",
        }
        places = [f"{number:,} {words[place]}" for place, number in inspection.found_in.items()]
        why = (
            f"These questions and answers are from the document ({', '.join(places)}); nothing was "
            "made up. Read them: not every heading is a question."
        )
        if not places:
            why = "The document has questions, but nothing in it says which answers are right."
    # A person says how a document is used; nothing in it can.
    return Proposal(_mapping(inspection, roles), False, why)


def _turns(
    inspection: Inspection, roles: dict[str, ColumnRole], by_role: dict[ColumnRole, list[str]]
) -> Proposal | None:
    """Propose conversations of several rows, where a column names one for several of them."""
    keys = [
        name
        for name in inspection.columns
        # Pauses and threads divide a chat, however few of its rows are looked at.
        if plain(name) in KEYS and (inspection.pause_minutes or _repeats(inspection, name))
    ]
    if not keys:
        return None
    if len(keys) > 1:  # ours, by pauses and threads, else the one that divides most
        ours = [name for name in keys if inspection.pause_minutes and name == "conversation"]
        keys = ours or [max(keys, key=lambda name: _num_different(inspection, name))]
    said = by_role.get(ColumnRole.TEXT, []) + [n for n in inspection.columns if plain(n) in SAID]
    if len(by_role.get(ColumnRole.SPEAKER, [])) == 1 and len(said) == 1:
        (speaker,) = by_role[ColumnRole.SPEAKER]
        roles |= {
            keys[0]: ColumnRole.KEY,
            speaker: ColumnRole.SPEAKER,
            said[0]: ColumnRole.TEXT,
        }
        why = (
            f"Rows with the same “{keys[0]}” seem to be one conversation: “{speaker}” says who "
            f"speaks and “{said[0]}” what is said; please check."
        )
        people = {str(row.values.get(speaker) or "") for row in inspection.preview}
        if not any(plain_word(who) in ANSWERING for who in people):
            why += " Choose below who gives the answers."
        why += _take_flags(inspection, roles)
        if who := _who_answers(inspection, speaker, said[0]):
            mapping = _mapping(inspection, roles)
            mapping.answers_by = who
            why += f" “{who}” seems to give the answers, since the other asks."
            return Proposal(mapping, False, why)
    elif len(by_role.get(ColumnRole.QUESTION, [])) == len(by_role.get(ColumnRole.ANSWER, [])) == 1:
        roles |= {
            keys[0]: ColumnRole.KEY,
            by_role[ColumnRole.QUESTION][0]: ColumnRole.QUESTION,
            by_role[ColumnRole.ANSWER][0]: ColumnRole.ANSWER,
        }
        why = (
            f"Rows with the same “{keys[0]}” seem to be one conversation, in which questions and "
            "answers take turns; please check."
        )
        why += _take_flags(inspection, roles)
    else:
        return None
    return Proposal(_mapping(inspection, roles), False, why)


def _of_mail(inspection: Inspection, roles: dict[str, ColumnRole]) -> Proposal:
    """Propose what a mail quotes as the question, and what it says as the answer."""
    if "quoted" in roles and any(row.values.get("quoted") for row in inspection.preview):
        roles["quoted"], roles["text"] = ColumnRole.QUESTION, ColumnRole.ANSWER
        why = (
            "What a mail quotes looks like the question, and what it says itself like the answer; "
            "please check."
        )
    else:
        roles["text"] = ColumnRole.TEXT
        why = "These mails quote no others, so their text is used as it is; please check."
    return Proposal(_mapping(inspection, roles), False, why)


def _who_answers(inspection: Inspection, speaker: str, said: str) -> str:
    """Return who answers where the words say the opposite: a teacher who asks, and one other."""
    asks: dict[str, list[bool]] = {}
    for row in inspection.preview:
        who, text = row.values.get(speaker), row.values.get(said)
        if isinstance(who, str) and isinstance(text, str) and who and text:
            asks.setdefault(who, []).append(text.rstrip().endswith(_ASKS))
    if len(asks) != 2:
        return ""
    one, other = sorted(asks, key=lambda who: sum(asks[who]) / len(asks[who]))
    known = ANSWERING & {plain_word(other)}
    mostly_asks = sum(asks[other]) * 2 > len(asks[other]) and not any(asks[one])
    return one if known and mostly_asks else ""


def _goes_before(inspection: Inspection, name: str) -> bool:
    values = [value for row in inspection.preview if (value := row.values.get(name))]
    return any(values) and all(map(holds_earlier_turns, values))


def _repeats(inspection: Inspection, name: str) -> bool:
    values = [str(value) for row in inspection.preview if (value := row.values.get(name))]
    return len(set(values)) < len(values)


def _num_different(inspection: Inspection, name: str) -> int:
    return len({str(row.values.get(name)) for row in inspection.preview})


def _is_misnamed(inspection: Inspection, name: str) -> bool:
    """Say whether a column that is called “conversation” has numbers or names instead of turns."""
    values = [value for row in inspection.preview if (value := row.values.get(name))]
    return (
        ROLES.get(plain(name)) is ColumnRole.MESSAGES
        and plain(name) in KEYS | {"chat", "dialogue", "dialog"}
        and bool(values)
        and not any(
            isinstance(value, list | dict) or str(value).lstrip()[:1] in ("[", "{")
            for value in values
        )
    )


def _by_name(
    inspection: Inspection, columns: list[str]
) -> tuple[dict[ColumnRole, list[str]], bool]:
    """Find the columns whose names are known, whole or by their last word; say if all whole."""
    by_role: dict[ColumnRole, list[str]] = {}
    offered = option_rows.offered(columns)
    columns = [name for name in columns if name not in offered]
    for name in columns:
        if role := ROLES.get(plain(name)):
            by_role.setdefault(role, []).append(name)
    is_pair = ColumnRole.BETTER in by_role and ColumnRole.WORSE in by_role
    # “chosen” without “rejected” is an answer, most likely.
    lone = [] if is_pair else by_role.pop(ColumnRole.BETTER, [])
    if lone:
        by_role.setdefault(ColumnRole.ANSWER, []).extend(lone)
    # `input`/`output` without an instruction are a question and its answer.
    if ColumnRole.QUESTION not in by_role:
        contexts = [name for name in columns if plain(name) in CONTEXT]
        if len(contexts) == 1:
            by_role[ColumnRole.QUESTION] = contexts
    # A column that got its number from us has a twin: a person chooses between the two.
    is_sure = not any(f"{name} (2)" in columns for name in columns) and not lone
    for wanted in (ColumnRole.QUESTION, ColumnRole.ANSWER):
        if is_pair and wanted is ColumnRole.ANSWER:
            continue
        if wanted not in by_role and not by_role.keys() & {ColumnRole.MESSAGES, ColumnRole.TEXT}:
            named = [
                n for n in columns if not n.rstrip().endswith(_ASKS) and says(plain(n), wanted)
            ]
            named = [n for n in named if not _has(inspection, n, _is_mere_verdict)]
            if named:
                by_role[wanted] = named
                is_sure = False
    if not is_pair and not by_role.keys() & {ColumnRole.MESSAGES, ColumnRole.TEXT}:
        is_sure = _choose_answer(inspection, columns, by_role) and is_sure
    return by_role, is_sure


def _choose_answer(
    inspection: Inspection, columns: list[str], by_role: dict[ColumnRole, list[str]]
) -> bool:
    """Put the right answers before others, and leave out wrong ones; say if nobody need look."""
    named = by_role.pop(ColumnRole.ANSWER, [])
    right = [name for name in named if rival_answers.rank(name) > rival_answers.Rank.WRONG]
    better = [
        name
        for name in rival_answers.better_than(right, columns)
        if name not in by_role.get(ColumnRole.QUESTION, [])
        and not _has(inspection, name, _is_no_text)
    ]
    if right or better:
        by_role[ColumnRole.ANSWER] = rival_answers.ordered([*right, *better])
    return not better


def _has(inspection: Inspection, name: str, kind: Callable[[Any], bool]) -> bool:
    """Say whether all cells of a column are of a kind, where it has any."""
    values = [value for row in inspection.preview if (value := row.values.get(name))]
    return bool(values) and all(map(kind, values))


def _is_mere_verdict(value: Any) -> bool:
    return isinstance(value, bool) or verdicts.is_plain_verdict(value)


def _is_no_text(value: Any) -> bool:
    return _is_mere_verdict(value) or verdicts.is_figure(value) or _is_stamp(value)


# Dates, times, figures and addresses: nobody asks or answers with nothing else.
_STAMP = re.compile(
    r"[\W\d_]*(?:[ap]\.?m\.?)?[\W\d_]*(?:gmt|utc|cet|cest|mez|mesz|t|z)?[\W\d_]*|\S+@\S+\.\w+",
    re.IGNORECASE,
)


def _is_stamp(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 60 and _STAMP.fullmatch(value) is not None


def _by_content(inspection: Inspection, roles: dict[str, ColumnRole]) -> Proposal:
    texts = {
        name: [value for row in inspection.preview if (value := row.values.get(name))]
        for name in inspection.columns
    }
    for name, values in texts.items():
        if values and all(_is_turns(value) for value in values):
            roles[name] = ColumnRole.MESSAGES
            why = f"“{name}” has lists of turns, so it is read as conversations."
            why += _take_flags(inspection, roles)
            return Proposal(_mapping(inspection, roles), False, why)
    by_role, _ = _by_name(inspection, inspection.columns)
    if ColumnRole.QUESTION in by_role and (wrong := rival_answers.wrong_ones(inspection.columns)):
        roles[by_role[ColumnRole.QUESTION][0]] = ColumnRole.QUESTION
        return Proposal(_mapping(inspection, roles), False, rival_answers.wrong_alone(wrong[0]))
    offered = option_rows.offered(inspection.columns)
    if offered:
        return _of_options(inspection, roles, offered)
    lengths = {
        name: sum(map(len, values)) / len(values)
        for name, values in texts.items()
        if values and all(isinstance(value, str) for value in values)
        if not all(map(_is_stamp, values))
    }
    wordy = sorted(lengths, key=lambda name: lengths[name], reverse=True)[:2]
    if not wordy:
        return Proposal(
            _mapping(inspection, roles), False, "No column has text; choose the columns yourself."
        )
    if len(wordy) == 1 or lengths[wordy[1]] < 3:
        roles[wordy[0]] = ColumnRole.TEXT
        why = f"Only “{wordy[0]}” has text, so it is used as it is; please check."
        why += _take_flags(inspection, roles)
        return Proposal(_mapping(inspection, roles), False, why)
    first, second, why = _by_likely_names(list(lengths), wordy) or _by_lengths(
        inspection, wordy, texts, lengths
    )
    roles[first], roles[second] = ColumnRole.QUESTION, ColumnRole.ANSWER
    why += rival_answers.doubt(second, inspection.columns).sentence
    why += _take_flags(inspection, roles)
    return Proposal(_mapping(inspection, roles), False, why)


def _by_likely_names(names: list[str], wordy: list[str]) -> tuple[str, str, str] | None:
    """Find the question and the answer by names that may mean them; one of them may be another."""
    likely = {name: likely_role(name) for name in names}
    asked = [name for name in names if likely[name] is ColumnRole.QUESTION]
    answers = [name for name in names if likely[name] is ColumnRole.ANSWER]
    fit = [name for name in answers if rival_answers.rank(name) >= rival_answers.Rank.PLAIN]
    said = rival_answers.ordered(fit)
    others = [name for name in wordy if name not in asked + said]
    if not (asked or said) or not ((asked or others) and (said or others)):
        return None
    first, second = (asked or others)[0], (said or others)[0]
    if asked and said:
        why = f"By their names “{first}” may be the question and “{second}” the answer"
    elif asked:
        why = f"By its name “{first}” may be the question, and “{second}” is then the answer"
    else:
        why = f"By its name “{second}” may be the answer, and “{first}” is then the question"
    return first, second, f"{why}; please check."


def _by_lengths(
    inspection: Inspection, wordy: list[str], texts: dict[str, list[str]], lengths: dict[str, float]
) -> tuple[str, str, str]:
    """Take the column with question marks for the question; else the shorter."""
    asked = {name: sum(v.rstrip().endswith(_ASKS) for v in texts[name]) for name in wordy}
    first, second = sorted(
        wordy, key=lambda name: (-asked[name], lengths[name], inspection.columns.index(name))
    )
    if asked[first] > asked[second]:
        why = (
            f"The column names do not say so, but “{first}” looks like the question and “{second}” "
            "like the answer; please check."
        )
    else:
        why = (
            f"Nothing says which column is the question: “{first}” was taken, since its texts are "
            f"shorter than those of “{second}”; please check that they are not the other way round."
        )
    return first, second, why


def _of_options(
    inspection: Inspection, roles: dict[str, ColumnRole], offered: list[str]
) -> Proposal:
    """Propose no answer where nothing says which of the options is the right one."""
    by_role, _ = _by_name(inspection, inspection.columns)
    for name in by_role.get(ColumnRole.QUESTION, [])[:1]:
        roles[name] = ColumnRole.QUESTION
    why = (
        f"“{offered[0]}” to “{offered[-1]}” look like what people choose from, and no column says "
        "which of them is right; add one with its letter, or choose the columns yourself."
    )
    return Proposal(_mapping(inspection, roles), False, why)


def _is_turns(value: Any) -> bool:
    return are_turns(parsed(value) if isinstance(value, str) else value)


def _mapping(inspection: Inspection, roles: dict[str, ColumnRole]) -> Mapping:
    return Mapping(
        columns=[Column(name=name, role=roles[name]) for name in inspection.columns],
        **inspection.reading,
    )


def _fits(mapping: Mapping, inspection: Inspection) -> bool:
    rows = [(row.number, row.values) for row in inspection.preview]
    made = [
        not isinstance(m, LeftOut)
        for _, m, _ in assemble(mapping, lambda: iter(rows))
        # Rows that ask for it are left out as they should be.
        if not (isinstance(m, LeftOut) and m.reason == "not_learned")
    ]
    return bool(made) and sum(made) * 2 > len(made)
