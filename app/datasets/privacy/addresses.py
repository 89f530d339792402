"""Postal addresses by their shape: a street with a number, a postcode with a town, a box."""

import re
from collections.abc import Iterator

from app.datasets.privacy.findings import Kind, Span

_W = r"[A-ZÀ-ÖØ-Þ][\w’'-]*\.?"
_LINK_FR = r"(?:de\s(?:la\s|l['’])?|des\s|du\s|d['’]|la\s|le\s|les\s|l['’]|aux?\s|à\s(?:la\s)?|et\s|en\s|sur\s)"
_LINK_ES = r"(?:de\s(?:la\s|los\s|las\s|el\s)?|del\s|la\s|el\s|los\s|las\s|y\s|d['’])"

# The street suffixes of the United States Postal Service (Publication 28) and Britain's own.
_STREET_TYPES = (
    "Alley|Annex|Arcade|Avenue|Ave|Av|Bank|Bayou|Beach|Bend|Bluff|Bottom|Boulevard|Blvd|Branch|Bridge|Brook|Burg|Bypass"
    "|Camp|Canyon|Cape|Causeway|Center|Centre|Chase|Circle|Cir|Cliff|Close|Club|Common|Corner|Course|Court|Ct|Cove|Creek"
    "|Crescent|Cres|Crest|Croft|Crossing|Crossroad|Curve|Dale|Dam|Divide|Drive|Dr|Drove|Estate|Expressway|Extension|Fall"
    "|Ferry|Field|Flat|Fold|Ford|Forest|Forge|Fork|Fort|Freeway|Garden|Gdn|Garth|Gateway|Glen|Green|Grove|Harbor|Harbour"
    "|Haven|Heights|Highway|Hwy|Hill|Hollow|Inlet|Island|Isle|Junction|Key|Knoll|Lake|Landing|Lane|Ln|Light|Loaf|Lock"
    "|Lodge|Loop|Mall|Manor|Meadow|Mews|Mill|Mission|Motorway|Mount|Mountain|Neck|Orchard|Oval|Overpass|Parade|Park"
    "|Parkway|Pkwy|Pass|Passage|Path|Pike|Pine|Place|Pl|Plain|Plaza|Point|Port|Prairie|Quay|Radial|Ramp|Ranch|Rapid|Rest"
    "|Ridge|Rise|River|Road|Rd|Route|Row|Rue|Run|Shoal|Shore|Skyway|Spring|Spur|Square|Sq|Station|Stravenue|Stream"
    "|Street|St|Summit|Terrace|Throughway|Trace|Track|Trafficway|Trail|Trl|Tunnel|Turnpike|Underpass|Union|Vale|Valley"
    "|Via|Viaduct|View|Village|Ville|Vista|Walk|Wall|Way|Well|Wharf|Wynd"
)
# "Im Gang 3", "Am Montag 12": where things are and when, not where people live.
_NO_STREETS = (
    "Gang|Raum|Zimmer|Haus|Stock|Stockwerk|Saal|Flur|Bett|Schalter|Tag|Kapitel|Jahr|Block|Gebäude|Abschnitt|Klasse"
    "|Bereich|Fach|Station|Etage|Ebene|Halle|Gleis|Platz|Tisch|Fall|Absatz|Artikel|Schritt|Punkt|Alter|Bild|Band|Heft"
    "|Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Montag|Dienstag|Mittwoch"
    "|Donnerstag|Freitag|Samstag|Sonntag|Mittag|Abend|Morgen|Sommer|Winter|Herbst|Frühjahr|Durchschnitt|Schnitt"
)
_STREETS = tuple(
    re.compile(pattern)
    for pattern in (
        # Flat 66H, Barker Walk (a house without a number of its own)
        rf"(?:Flat|Apartment|Apt\.?|Unit|Suite|Studio)\s\w{{1,5}},?\s(?:{_W}\s){{1,2}}(?:{_STREET_TYPES})s?\b",
        # 14 Larch Grove, Flat 3; 221B Baker Street
        r"(?:(?:Flat|Apartment|Apt\.?|Unit|Suite|Room)\s#?\w{1,5},?\s)?(?<![\w.,])\d{1,5}[A-Za-z]?(?:[-/]\d{1,4})?,?\s"
        rf"(?:[NSEW]{{1,2}}\.?\s|North\s|South\s|East\s|West\s)?(?:(?:{_W}|\d{{1,3}}(?:st|nd|rd|th))\s){{1,3}}"
        rf"(?:{_STREET_TYPES})s?\b\.?(?:,?\s(?:Flat|Apartment|Apt\.?|Unit|Suite|#)\s?\w{{1,5}})?",
        # Hauptstraße 12a, Am Alten Markt 5, Karl-Marx-Allee 1, Kurze Gasse 3
        r"(?<![\w-])(?:[A-ZÄÖÜ][\w.]*(?:[ -][A-ZÄÖÜ][\w.]*){0,2}[ -])?[A-ZÄÖÜ]?[\wäöüß]*"
        r"(?:[sS]traße|[sS]trasse|[sS]tr\.|[wW]eg|[gG]asse|[pP]latz|[aA]llee|[rR]ing|[dD]amm|[uU]fer|[sS]teig|[pP]fad|[hH]of|[cC]haussee|[sS]tieg|[mM]arkt"
        r"|[gG]raben|[wW]all|[bB]erg|[fF]eld|[kK]amp|[pP]romenade|[wW]iese|[tT]wiete|[sS]tiege|[kK]ehre|[zZ]eile|[aA]nger|[hH]alde|[rR]ain|[gG]rund|[bB]rücke)"
        r"\s(?:Nr\.\s?)?\d{1,4}(?:\s?[a-h])?(?:\s?[-/]\s?\d{1,4})?\b",
        r"(?<![\w-])(?:Am|An der|An den|Im|In der|In den|Auf der|Auf dem|Unter den|Unterm|Zum|Zur|Hinter der|Vor dem|Beim)\s"
        rf"(?!(?:{_NO_STREETS})\b)"
        r"(?:[A-ZÄÖÜ][\wäöüß]*\s?){1,2}\s?\d{1,4}(?:\s?[a-h])?\b",
        # 12 bis, rue de la Paix
        r"(?<![\w.])\d{1,4}(?:\s?(?:bis|ter|quater|[A-D]\b))?,?\s(?:rue|Rue|avenue|Avenue|av\.|boulevard|Boulevard|bd|place|Place|allée|impasse|chemin|route|quai|cours"
        r"|square|passage|villa|sentier|résidence|lotissement|cité|faubourg|montée|venelle|esplanade|promenade|ruelle|traverse|hameau)\s"
        rf"(?:{_LINK_FR}){{0,2}}(?:{_W}|\d{{1,2}}\s\w+)(?:[ -](?:{_LINK_FR}){{0,2}}{_W}){{0,4}}",
        # avenue Perrin, 97616 Barre: without a number only before a postcode
        r"(?<![\w.])(?:[Rr]ue|[Aa]venue|boulevard|place|allée|impasse|chemin|route|quai|cours)\s"
        rf"(?:{_LINK_FR}){{0,2}}{_W}(?:[ -](?:{_LINK_FR}){{0,2}}{_W}){{0,3}}(?=,\s\d{{5}}\s)",
        # Calle Mayor, 12, 3.º B; C/ de la Luna 4
        r"(?<![\w])(?:Calle|calle|C/|C\.|Avenida|avenida|Avda\.?|Av\.|Plaza|plaza|Pza\.?|Paseo|paseo|P\.º|Pº|Camino|camino|Carretera|Ctra\.?|Ronda|Travesía|Glorieta"
        r"|Urbanización|Urb\.|Callejón|Cuesta|Rambla|Pasaje|Pasadizo|Alameda|Bulevar|Vía|Via|Vial|Acceso|Barrio|Costanilla|Cañada|Sendero|Rúa)\s?"
        rf"(?:{_LINK_ES}){{0,2}}{_W}(?:\s(?:{_LINK_ES}){{0,2}}{_W}){{0,4}},?\s(?:n\.?º\s?|núm\.?\s?|nº\s?|número\s)?\d{{1,4}}(?:\s?bis)?"
        r"(?:,?\s\d{1,2}\s?\.?[ºªo°]\s?(?:-?\s?[A-H]\b|izq\w*\.?|dcha\.?|derecha|izquierda|\d[ºª])?|,?\s(?:bajo|ático|piso\s\d+)(?:\s[A-H]\b)?)?(?:,?\s(?:Piso|Puerta|Apt\.|Esc\.|Escalera|Portal|Bloque|Planta)\s?\w{1,4}){0,3}",
        # Kerkstraat 12-2, Prins Hendrikkade 33
        r"(?<![\w-])(?:[A-Z][\w.'’-]*\s){0,3}[A-Z]?[\w'’-]*(?:straat|weg|laan|plein|gracht|kade|dijk|singel|hof|pad|steeg|dreef|plantsoen|park|kamp|wal|baan|burgwal|haven"
        r"|akker|veld|erf|hoek|brink|markt|oord|donk|horst|weide|zoom|rand|schans|wijk|meent|stede|hage|ring|boulevard)\s(?:nr\.?\s)?\d{1,5}(?:[\s-]?(?:[a-zA-Z]\b|bis|hs|\d{1,3}\b|[IVX]{1,3}\b))?",
        # Via Garibaldi 3, Rua das Flores, 12
        r"(?<![\w])(?:Via|Viale|Piazza|Corso|Largo|Vicolo|Rua|Travessa|Praça|Estrada)\s(?:(?:della|delle|dei|del|di|da|das|do|dos|de)\s)?"
        rf"{_W}(?:\s{_W}){{0,3}},?\s(?:n\.?\s?)?\d{{1,4}}",
        r"(?<![\w])(?:P\.?\s?O\.?\s?Box|Postfach|Postbus|Apartado(?:\sde\sCorreos)?|Boîte\s[Pp]ostale|B\.?P\.)\s\d[\d ]{0,7}\d?\b",
    )
)
_TOWN = r"[A-ZÀ-ÖØ-Þ][\w’'.-]*(?:[ -](?:(?:am|an der|im|in|bei|ob der|unter|upon|on|sur|sous|en|le|la|les|de|de la|del|aan den|aan de|den|der|op|under|lès|y)[ -])?[A-ZÀ-ÖØ-Þ][\w’'.-]*){0,3}"
_POSTCODES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![\w])[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}(?![\w])",
        r"(?<![\w])[A-Z][\w.'-]*(?:\s[A-Z][\w.'-]*){0,2},?\s(?:A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[TA]|W[AVIY])\s\d{5}(?:-\d{4})?\b",
        rf"(?<![\w-])(?:[DAFE]-|CH-)?\d{{5}}\s{_TOWN}",
        rf"(?<![\w-]){_TOWN},?\s\d{{5}}(?![\w-])",
        rf"(?<![\w-])(?:NL-)?\d{{4}}\s?[A-Z]{{2}}\b(?:,?\s{{1,2}}{_TOWN})?",
    )
)
# A postcode without a street counts only where something says that it is one.
_HOME = re.compile(
    r"address|lives?\b|living|resid|moved|wohn|adresse|anschrift|postleit|plz|habit|domicili|adres\b|dirección"
    r"|vive|vivo|woon|verhuisd|umgezogen|demeurant|post ?code|zip|código postal|postcode|code postal",
    re.IGNORECASE,
)
# A street has one of these in it: to look for them is much quicker than for streets.
_SIGNS = tuple(
    [f" {word}" for word in _STREET_TYPES.split("|")]
    + [
        "traße",
        "trasse",
        "str.",
        "weg",
        "Weg",
        "gasse",
        "Gasse",
        "platz",
        "Platz",
        "allee",
        "Allee",
        "ring",
        "Ring",
        "damm",
        "Damm",
        "ufer",
        "steig",
        "pfad",
        "hof",
        "chaussee",
        "stieg",
        "markt",
        "Markt",
        "graben",
        "wall",
        "berg",
        "feld",
        "kamp",
        "promenade",
        "wiese",
        "twiete",
        "kehre",
        "zeile",
        "anger",
        "halde",
        "rain",
        "grund",
        "tor",
        "brücke",
        "rue",
        "avenue",
        "Avenue",
        "av.",
        "boulevard",
        "bd",
        "place",
        "allée",
        "impasse",
        "chemin",
        "route",
        "quai",
        "cours",
        "square",
        "passage",
        "villa",
        "sentier",
        "résidence",
        "lotissement",
        "cité",
        "faubourg",
        "montée",
        "venelle",
        "esplanade",
        "ruelle",
        "traverse",
        "hameau",
        "Calle",
        "calle",
        "C/",
        "C.",
        "Avenida",
        "avenida",
        "Avda",
        "Av.",
        "Plaza",
        "plaza",
        "Pza",
        "Paseo",
        "paseo",
        "P.º",
        "Pº",
        "Camino",
        "camino",
        "Carretera",
        "Ctra",
        "Ronda",
        "Travesía",
        "Glorieta",
        "Urbanización",
        "Urb.",
        "Callejón",
        "Cuesta",
        "Rambla",
        "Pasaje",
        "Pasadizo",
        "Alameda",
        "Bulevar",
        "Vía",
        "Via",
        "Vial",
        "Acceso",
        "Barrio",
        "Costanilla",
        "Cañada",
        "Sendero",
        "Rúa",
        "straat",
        "laan",
        "plein",
        "gracht",
        "kade",
        "dijk",
        "singel",
        "pad",
        "steeg",
        "dreef",
        "plantsoen",
        "park",
        "wal",
        "baan",
        "burgwal",
        "haven",
        "akker",
        "veld",
        "erf",
        "hoek",
        "brink",
        "oord",
        "donk",
        "horst",
        "weide",
        "zoom",
        "rand",
        "schans",
        "wijk",
        "meent",
        "stede",
        "hage",
        "Piazza",
        "Corso",
        "Largo",
        "Vicolo",
        "Rua",
        "Travessa",
        "Praça",
        "Estrada",
        "Box",
        "Postfach",
        "Postbus",
        "Apartado",
        "ostale",
        "B.P.",
        "BP",
        "Am",
        "Im",
    ]
    + [
        "An der",
        "In der",
        "In den",
        "An den",
        "Auf de",
        "Unter",
        "Zum ",
        "Zur ",
        "Hinter der",
        "Vor dem",
        "Beim ",
    ]
)
_MAY_BE_POSTCODE = re.compile(r"\d{5}|\d{4}\s?[A-Z]{2}|\d[A-Z]{2}")
_ALONE = re.compile(r"[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}$")
_NEAR_CHARACTERS = 50
_BETWEEN = re.compile(r"^(?:[\s,;·|–-]|in\b|à\b|en\b|te\b){1,5}$")
_TOWN_FIRST = re.compile(rf"^(?:,?\s{_TOWN}){{1,2}},?\s$")


def find(text: str) -> Iterator[Span]:
    """Yield addresses; a street and the town behind it are one."""
    if not any(map(str.isdigit, text)):
        return
    streets = _spans(_STREETS, text) if any(sign in text for sign in _SIGNS) else []
    towns = _spans(_POSTCODES, text) if _MAY_BE_POSTCODE.search(text) else []
    if not streets and not towns:
        return
    joined: list[tuple[int, int]] = []
    used: set[int] = set()
    for start, end in streets:
        for index, (town_start, town_end) in enumerate(towns):
            between = text[end:town_start]
            if 0 <= town_start - end <= 45 and (
                _BETWEEN.match(between) or _TOWN_FIRST.match(between)
            ):
                end = town_end  # noqa: PLW2901 - it grows
                used.add(index)
            elif start <= town_start < end:
                end = max(end, town_end)  # noqa: PLW2901
                used.add(index)
        joined.append((start, end))
    for index, (start, end) in enumerate(towns):
        before = text[max(0, start - _NEAR_CHARACTERS) : start]
        if index not in used and (_ALONE.match(text[start:end]) or _HOME.search(before)):
            joined.append((start, end))
    for start, end in joined:
        yield Span(start, end, Kind.ADDRESS)


def _spans(patterns: tuple[re.Pattern[str], ...], text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for pattern in patterns:
        for match in pattern.finditer(text):
            start, end = match.span()
            if not any(s < end and start < e for s, e in spans):
                spans.append((start, end))
    return sorted(spans)
