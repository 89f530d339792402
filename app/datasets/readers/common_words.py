"""In which language a text is, by its commonest short words."""

from collections import Counter
from collections.abc import Iterable

# Languages of other encodings than those of western Europe.
_OTHERS = {
    "pl": "i w na z nie do jest to sie jak co czy po ze od lub przy dla",
    "cs": "a je na se to si do v s z jak co pro po ale pri ve nebo",
    "hr": "je i u na se za da su od koji kako ne ili",
    "hu": "a az egy nem hogy is meg ha kell vagy mit van ez",
    "ro": "si de la cu pe ce nu un este sunt din mai pentru care cum",
    "tr": "ve bir bu ile ne mi kadar soru cevap olan var kez",
    "et": "ja on ei kas see kui ning ta oma",
    "lt": "ir yra ar kaip su ne kas kad",
    "lv": "un ir kas ar ka ja no par",
}
# Without letters beyond ASCII, and seldom words of another of these languages.
_WORDS = {
    "de": "der die das und ist nicht ein eine mit von zu den dem wie wird was auf bei wann im wenn "
    "sie ich kann bitte werden oder nach aus sind darf frage antwort viel am vor",
    "fr": "le la les des est et un une pour dans que qui pas du avec sur vous quel quelle comment "
    "il faut au question ou quand combien ne",
    "es": "el la los las es y un una para en que por con se del cuando no como cual hay pregunta "
    "respuesta debe al lo su o",
    "it": "il lo la i gli le che di un una per con non si del della quando come quale domanda "
    "risposta nel ogni deve sono o",
    "pt": "o os as e um uma para em que por com se do da quando qual pergunta resposta deve ao na "
    "no dos das ou seu",
    "nl": "de het een en is niet van voor met op wat hoe wanneer te bij zijn aan vraag antwoord "
    "wordt of moet naar ik dat",
    "sv": "och att det som en ett med till av inte om den var hur vad ska kan vid svar man",
    "da": "og at det som en et med til af ikke om den hvor hvad skal kan ved svar der er hvordan",
    "no": "og at det som en et med til av ikke om den hvor hva skal kan ved svar er hvordan jeg",
    "fi": "ja on ei se kun mutta tai joka ovat vastaus miten voi jos",
    "en": "the and of to is in for that with what how when are be should not on a if do you",
}
_COMMON = {language: frozenset(words.split()) for language, words in (_WORDS | _OTHERS).items()}
_MIN_WORDS = 3


def languages(words: Iterable[str]) -> list[str]:
    """Return the likeliest language first, and those that are nearly as likely; none if unclear.

    Args:
        words: The words of a text in small letters; those beyond ASCII say nothing here.
    """
    found = Counter(words)
    counts = {language: sum(found[word] for word in common) for language, common in _COMMON.items()}
    most = max(counts.values())
    if most < _MIN_WORDS:
        return []
    return sorted(
        (language for language, count in counts.items() if count * 3 >= most * 2),
        key=lambda language: -counts[language],
    )
