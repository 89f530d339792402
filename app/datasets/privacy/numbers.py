"""Numbers and addresses of machines that point to a person: mail, phone, ids, accounts, births."""

import ipaddress
import re
from collections.abc import Iterator

from app.datasets.privacy import checksums
from app.datasets.privacy.findings import Kind, Span

# How far before a number the words may stand that say what it is.
NEAR_CHARACTERS = 60

_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@])", re.UNICODE
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{2,4}){2,8}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){11,18}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_VERSION = re.compile(r"(?:version|release|build|v|firmware|section|chapter|§)\s*$", re.IGNORECASE)
_KVNR = re.compile(r"(?<![\w-])[A-Za-z]\d{9}(?![\w-])")

# --- words, then a value -------------------------------------------------------------------

_NO = r"(?:\s?(?:n(?:umber|ummer|umero|úmero|uméro|o|r|um|º|°|er)?\b\.?|#|id\b|nummer\b|code\b))"
_RECORD_WORDS = (
    r"\bMRN\b|\bEMR\b|medical record|patient(?:en)?(?:\s|-)?(?=id|n|#)|pat\.?-?(?=nr|id)|patient identifier"
    r"|hospital(?=\sn|\sid)|chart(?=\sn|\s#)|health record|case(?=\sn|\sid|\s#)|file(?=\sn|\s#)|record(?=\sn|\s#|\sid|:)"
    r"|\bref(?:erence)?(?=\.?\sn|\.?:|\s#)|admission(?=\sn)|encounter(?=\sn)"
    r"|(?<!national\s)insurance(?=\s(?:n|id|policy|card))|policy|member(?:ship)?(?=\s(?:id|n|#))|subscriber(?=\s(?:id|n))"
    r"|medicare|medicaid|health card|beneficiary"
    r"|fall(?:-|\s)?(?=nr|nummer|id)|akten(?:zeichen|nummer)|krankenakte|krankenblatt|aufnahme(?=nr|nummer)"
    r"|versicher(?:ten|ungs|tens)?(?:-|\s)?(?=nr|nummer|id)|krankenversicherten|krankenkassen?(?=nr|nummer)|kvnr|mitglieds"
    r"|polic?en?(?=nr|nummer)|vertrags?(?:nr|nummer)?\b"
    r"|dossier|n°\s?(?:de\s)?patient|numéro\sde\s(?:patient|dossier|séjour|police|mutuelle|contrat|sinistre)"
    r"|\bIPP\b|\bNIP\b|num\.?\sadhérent|adhérent|assuré(?=\sn|\s?:)|d['’]assuré(?:e)?|mutuelle|contrat"
    r"|historia(?:\sclínica)?|\bNHC\b|expediente|afiliad[oa]|afiliación|póliza|tarjeta\ssanitaria|mutualista"
    r"|número\sde\s(?:paciente|seguro|socio|asegurado)|\bCIP\b"
    r"|patiënt(?:en)?(?:-|\s)?(?=n)|dossier(?=n)|polis|verzekerden?(?:-|\s)?(?=n)|verzekerings(?=n)|relatie(?=n)|zorg(?=n|pas)"
)
_STUDENT_WORDS = (
    r"student(?:en)?(?:-|\s)?(?=id|n|#|card|ausweis|code)|pupil(?=\s(?:id|n|#|reference|premium|code))|learner(?=\s(?:id|n|reference))|\bUPN\b|\bULN\b"
    r"|school(?=\s(?:id|n))|enrol?ment(?=\s(?:id|n))|candidate(?=\s(?:n|id))|matric(?:ulation|\.?\snumber)"
    r"|matrikel|schüler(?:in(?:nen)?)?(?:-|\s)?(?=id|nr|nummer|ausweis|kennung)|schulnummer"
    r"|(?:numéro|n°)\s(?:d['’]\s?|de\s)?(?:étudiant|élève|l['’]élève)|carte\s(?:d['’])?étudiant|\bINE\b|identifiant\s(?:de\sl['’])?élève|matricule"
    r"|(?:número|nº|n\.º|código)\s(?:de\s)?(?:alumn[oa]|estudiante|matrícula|expediente\sacadémico)|\bNIA\b|carn[eé]\s(?:de\s)?estudiante|matrícula"
    r"|leerling(?:en)?(?:-|\s)?(?=n|id)|studentnummer|onderwijsnummer|collegekaart"
)
_TAIL = (
    r"[\w.’'-]{0,14}(?:\s?(?:number|no\.?|nr\.?|nummer|num\.?|número|numéro|n\.?º|n°|nº|id|card|code|policy|patient|clínica|identifier|reference|ausweis|kennung|de|der|des|del|médical|academic|académico)(?![\w])){0,4}"
    r"\s*(?:\([^)\n]{0,25}\)\s*)?(?::|=|#|\bis\b|\bwas\b|\bist\b|\blautet\b|\best\b|\bes\b|\bis:\b|\bnº|\bn°|-|–|,|\bsous le numéro\b)?\s*(?:#|№)?\s*"
)
_VALUE = r"(?<![\w])((?=[\w./ -]{0,11}\d)[A-Z]{0,5}[-/. ]?\d(?:[-/. ]?[A-Z0-9]){2,22}|[A-Z0-9]{2,8}(?:[-/.][A-Z0-9]{1,10}){1,4})(?![\w])"
_RECORD = re.compile(rf"(?i:(?:{_RECORD_WORDS}){_TAIL}){_VALUE}")
_STUDENT = re.compile(rf"(?i:(?:{_STUDENT_WORDS}){_TAIL}){_VALUE}")
_ID_WORDS = (
    r"\bSSN\b|social\ssecurity|\bNHS\b|national\sinsurance|\bNINO\b|passport|driving\slicence|driver['’]?s\slicense|identity\scard|\bID\scard|tax\sid"
    r"|steuer-?\s?id(?:entifikationsnummer)?|steuerliche\sidentifikationsnummer|\bIdNr|personalausweis|reisepass|ausweis(?=nr|nummer)|sozialversicherungs(?=nr|nummer)|\bSVNR|\bAHV"
    r"|sécurité\ssociale|\bNIR\b|carte\s(?:nationale\s)?d['’]identité|passeport|\bNISS|registre\snational"
    r"|\bDNI\b|\bNIE\b|\bNIF\b|seguridad\ssocial|pasaporte|documento\sde\sidentidad|\bCURP"
    r"|\bBSN\b|burgerservice|sofinummer|paspoort|identiteitskaart|rijksregister|rijbewijs"
    r"|codice\sfiscale|\bCPF\b|\bPESEL|personnummer|fødselsnummer|\bCPR\b|\bHETU|henkilötunnus|aadhaar|\bTCKN|TC\skimlik|\bCNP\b|rodné\sčíslo|\bPPS"
    r"|\bSIN\b|social\sinsurance|assurance\ssociale"
)
# An id that is called one counts without its check digit: a slip of the pen still points to somebody.
_CALLED_ID = re.compile(rf"(?i:(?:{_ID_WORDS}){_TAIL}){_VALUE}")

# --- dates of birth ------------------------------------------------------------------------

_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december"
    "|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
    "|januar|jänner|februar|märz|mai|juni|juli|oktober|dezember|mrz|okt|dez"
    "|janvier|février|fevrier|mars|avril|juin|juillet|août|aout|septembre|octobre|novembre|décembre"
    "|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|setiembre|octubre|noviembre|diciembre"
    "|januari|februari|maart|mei|augustus|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre"
    "|dicembre|janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro"
)
DATE = (
    r"(?:\d{1,2}\s?[./-]\s?\d{1,2}\s?[./-]\s?(?:\d{4}|\d{2})(?!\d)"
    r"|\d{4}[./-]\d{1,2}[./-]\d{1,2}(?!\d)"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er|\.|º)?(?:\s+(?:of|de))?\s+(?:{_MONTHS})\.?,?(?:\s+del?)?\s+(?:\d{{4}}|['’]\d{{2}})(?!\d)"
    rf"|(?:{_MONTHS})\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}(?!\d))"
)
_BORN = (
    r"\bd\.?\s?o\.?\s?b\b\.?|date\s+of\s+birth|birth\s?date|birthday|\bborn\b|\bb\.(?=\s?\d)"
    r"|\bgeb\b\.?|geboren|geburtsdatum|geburtstag|geb\.?-?datum|\bgeb\.?\s?am|geburt"
    r"|\bnée?s?\b(?:\(e\))?|date\s+de\s+naissance|naissance|\bddn\b|anniversaire"
    r"|nacid[oa]|nació|fecha\s+de\s+nacimiento|nacimiento|\bf\.?\s?nac\b\.?|\bfn\b|cumpleaños"
    r"|geboortedatum|geboorte|\bgeb\.?\s?dat|verjaardag"
    r"|nat[oa]\s+(?:il|a)|data\s+di\s+nascita|nascid[oa]|data\s+de\s+nascimento|urodzon"
)
_BIRTH = re.compile(rf"(?:{_BORN})[^\d\n]{{0,40}}?\n?[^\d\n]{{0,12}}?({DATE})", re.IGNORECASE)
_STAR = re.compile(rf"[*＊†]\s?({DATE})", re.IGNORECASE)
AFTER_NAME = re.compile(rf"\s?[,(]\s?\*?\s?({DATE})\s?[),;]", re.IGNORECASE)
_ANY_DATE = re.compile(DATE, re.IGNORECASE)

# --- phones --------------------------------------------------------------------------------

_EXTENSION = r"(?:\s?(?:x|ext\.?|Durchwahl|poste|extensión|toestel)\s?\d{1,6})?"
_PHONES = tuple(
    re.compile(pattern.replace("(?![\\w])", _EXTENSION + r"(?![\w])"))
    for pattern in (
        r"(?<![\w+])(?:\+|00)[1-9]\d{0,2}[\s./-]{0,2}(?:\(\d{1,5}\)[\s./-]?)?\d(?:[\s./-]{0,2}\d){5,12}(?![\w])",
        r"(?<![\w/.+-])\(0\d{1,5}\)[\s./-]{0,3}\d(?:[\s./-]?\d){4,10}(?![\w])",
        r"(?<![\w/.+-])0\d{1,5}(?:\s?[/-]\s?|[\s.])\d(?:[\s./-]?\d){4,10}(?![\w])",
        r"(?<![\w/.+-])0\d{8,11}(?![\w])",
        r"(?<![\w/.+-])(?:1[\s.-])?(?:\([2-9]\d{2}\)\s?|[2-9]\d{2}[\s.-])\d{3}[\s.-]\d{4}(?![\w])",
        r"(?<![\w/.+-])[6789]\d{2}(?:[ .-]\d{3}[ .-]\d{3}|(?:[ .-]\d{2}){3})(?![\w])",
        r"(?<![\w/.+-])[679]\d{8}(?![\w])",
    )
)
_PHONE_WORDS = re.compile(
    r"(?:\btel(?:e(?:phone|fon(?:isch|nummer)?|foon(?:nummer)?))?\b\.?|\bphone\b|\bcall(?:ing|ed)?\b|\bmob(?:ile|il)?\b\.?|\bcell\b|\bfax\b|whatsapp|\bring\b|\breach(?:able)?\b|\bcontact\b|\bhandy(?:nummer)?\b"
    r"|\brückruf\b|mobilnummer|durchwahl|\bextension\b|\bext\b\.?"
    r"|téléphone|\btél\b\.?|portable|joindre|joignable|appel(?:er|ez)|teléfono|móvil|\btfno\b\.?|llam(?:ar|e|en|a)|mobiel|bereikbaar|\bbellen\b|\bbel\b|\b06-?nummer)"
    r"[^\d\n+(]{0,30}(\+?\(?\d(?:[\s./()-]{0,2}\d){4,14}(?:\s?(?:x|ext\.?)\s?\d{1,6})?)(?![\w])",
    re.IGNORECASE,
)


# Digits that stand together, with other signs between them: what no number is without.
_CLUSTER = re.compile(r"\d(?:[^\d\n]{0,3}\d){3,}")
_BEFORE, _BEHIND = 110, 60


def find(text: str) -> Iterator[Span]:
    """Yield the findings of one text; they may overlap, and the surer kind wins later."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Span(match.start(), match.end(), Kind.EMAIL)
    if text.count(":") > 1:
        yield from _machines(text, _IPV6)
    for start, end in _windows(text):
        for span in _numbers(text[start:end]):
            yield Span(span.start + start, span.end + start, span.kind)


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Yield the parts of a text in which numbers stand, with what says what they are."""
    last: tuple[int, int] | None = None
    for match in _CLUSTER.finditer(text):
        start = max(0, match.start() - _BEFORE)
        start = 0 if start == 0 else text.find(" ", start) + 1
        if start > match.start():  # no space on the way: one long word
            start = match.start() - _BEFORE
        end = min(len(text), match.end() + _BEHIND)
        if last is not None and start <= last[1]:
            last = (last[0], end)
            continue
        if last is not None:
            yield last
        last = (start, end)
    if last is not None:
        yield last


def _numbers(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        end = _iban_end(match.group())
        if end:
            yield Span(match.start(), match.start() + end, Kind.IBAN)
    yield from _named(text)
    yield from _national_ids(text)
    yield from _cards(text)
    yield from _births(text)
    yield from _phones(text)
    yield from _machines(text, _IPV4)


def _iban_end(text: str) -> int:
    # Words after the number may look like groups of it: each country has its length.
    wanted = checksums.IBAN_LENGTHS.get(text[:2].upper(), 0)
    seen = 0
    for end, sign in enumerate(text, 1):
        seen += sign.isalnum()
        if seen == wanted:
            return end if checksums.iban(re.sub(r"[ -]", "", text[:end])) else 0
    return 0


def _named(text: str) -> Iterator[Span]:
    for pattern, kind in (
        (_RECORD, Kind.RECORD),
        (_STUDENT, Kind.STUDENT_ID),
        (_CALLED_ID, Kind.NATIONAL_ID),
    ):
        for match in pattern.finditer(text):
            value = match.group(1)
            if sum(map(str.isdigit, value)) >= (
                6 if kind is Kind.NATIONAL_ID else 4
            ) and not _ANY_DATE.match(value):
                yield Span(match.start(1), match.end(1), kind)
    for match in _KVNR.finditer(text):
        if checksums.kvnr(match.group()):
            yield Span(match.start(), match.end(), Kind.RECORD)


def _national_ids(text: str) -> Iterator[Span]:
    for rule in checksums.NATIONAL_IDS:
        for match in rule.pattern.finditer(text):
            written = match.group()
            plain = re.sub(r"[ ./]|-(?=\d|[A-Za-z]$)", "", written)
            if rule.name == "HETU":
                plain = written
            if text[: match.start()].rstrip(" ").endswith("+") or _PLUS.search(
                text[: match.start()]
            ):
                continue
            if rule.near and (rule.is_weak or not _has_separator(written)):
                before = text[max(0, match.start() - NEAR_CHARACTERS) : match.start()]
                if not rule.near.search(before):
                    continue
            if rule.is_valid(plain.replace("+", "") if rule.name == "personnummer" else plain):
                yield Span(match.start(), match.end(), Kind.NATIONAL_ID)


_PLUS = re.compile(r"\+\d{1,3}[ .-]?$")


def _has_separator(text: str) -> bool:
    return any(sign in text for sign in " .-/")


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        if checksums.card(re.sub(r"[ -]", "", match.group())):
            yield Span(match.start(), match.end(), Kind.CARD)


def _births(text: str) -> Iterator[Span]:
    for pattern in (_BIRTH, _STAR):
        for match in pattern.finditer(text):
            yield Span(match.start(1), match.end(1), Kind.BIRTH_DATE)


def _phones(text: str) -> Iterator[Span]:
    for match in _PHONE_WORDS.finditer(text):
        if not _ANY_DATE.match(match.group(1)):
            yield Span(match.start(1), match.end(1), Kind.PHONE)
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            digits = sum(map(str.isdigit, match.group()))
            if 8 <= digits <= 21 and not _ANY_DATE.match(match.group()):
                yield Span(match.start(), match.end(), Kind.PHONE)


def _machines(text: str, pattern: re.Pattern[str]) -> Iterator[Span]:
    for match in pattern.finditer(text):
        if len(match.group()) < 6 or _VERSION.search(text[: match.start()][-20:]):
            continue
        try:
            ipaddress.ip_address(match.group())
        except ValueError:
            continue
        yield Span(match.start(), match.end(), Kind.IP)
