"""Names of months and days that a number format asks for in a language of its own."""

_NAMES = {
    "": (
        "January February March April May June July August September October November December",
        "Sunday Monday Tuesday Wednesday Thursday Friday Saturday",
    ),
    "de": (
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Sonntag Montag Dienstag Mittwoch Donnerstag Freitag Samstag",
    ),
    "fr": (
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "dimanche lundi mardi mercredi jeudi vendredi samedi",
    ),
    "es": (
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "domingo lunes martes miércoles jueves viernes sábado",
    ),
    "it": (
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
        "dicembre",
        "domenica lunedì martedì mercoledì giovedì venerdì sabato",
    ),
    "nl": (
        "januari februari maart april mei juni juli augustus september oktober november december",
        "zondag maandag dinsdag woensdag donderdag vrijdag zaterdag",
    ),
    "pt": (
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "domingo segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado",
    ),
    "da": (
        "januar februar marts april maj juni juli august september oktober november december",
        "søndag mandag tirsdag onsdag torsdag fredag lørdag",
    ),
    "sv": (
        "januari februari mars april maj juni juli augusti september oktober november december",
        "söndag måndag tisdag onsdag torsdag fredag lördag",
    ),
    "no": (
        "januar februar mars april mai juni juli august september oktober november desember",
        "søndag mandag tirsdag onsdag torsdag fredag lørdag",
    ),
    "pl": (
        "styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad "
        "grudzień",
        "niedziela poniedziałek wtorek środa czwartek piątek sobota",
    ),
}
# As Excel shortens them, where that is known for sure; else the first three letters.
_SHORT_MONTHS = {
    "": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "de": "Jan Feb Mrz Apr Mai Jun Jul Aug Sep Okt Nov Dez",
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "it": "gen feb mar apr mag giu lug ago set ott nov dic",
    "nl": "jan feb mrt apr mei jun jul aug sep okt nov dec",
}
_SHORT_DAYS = {
    "": "Sun Mon Tue Wed Thu Fri Sat",
    "de": "So Mo Di Mi Do Fr Sa",
    "fr": "dim. lun. mar. mer. jeu. ven. sam.",
    "it": "dom lun mar mer gio ven sab",
    "nl": "zo ma di wo do vr za",
}
# The low ten bits of a Windows locale number are its language.
_LANGUAGES = {
    0x09: "",
    0x07: "de",
    0x0C: "fr",
    0x0A: "es",
    0x10: "it",
    0x13: "nl",
    0x16: "pt",
    0x06: "da",
    0x1D: "sv",
    0x14: "no",
    0x15: "pl",
}
MONTHS = {language: months.split() for language, (months, _) in _NAMES.items()}
DAYS = {language: days.split() for language, (_, days) in _NAMES.items()}
SHORT_MONTHS = {language: names.split() for language, names in _SHORT_MONTHS.items()}
SHORT_DAYS = {language: names.split() for language, names in _SHORT_DAYS.items()}
# A language whose names are not here: English, and said.
MONTHS["?"], DAYS["?"] = MONTHS[""], DAYS[""]


def language_of(locale: str) -> str:
    """Return the language of a number format's locale (“407”, “de-DE”); “?” where unknown."""
    try:
        number = int(locale[-4:], 16)
    except ValueError:
        word = locale[:2].lower()
        return "" if word == "en" else word if word in _NAMES else "?"
    # Higher bits ask for other digits or another calendar.
    if len(locale) > 4 and int(locale[:-4] or "0", 16):
        return "?"
    return _LANGUAGES.get(number & 0x3FF, "?")
