"""What columns are called, in the languages of those who write the sheets."""

import re
import unicodedata

from app.datasets.mapping import ColumnRole

# Compared by plain(): small letters, no accents.
_NAMES = {
    ColumnRole.MESSAGES: "messages message_list conversations conversation dialogue dialog chat",
    ColumnRole.SYSTEM: "system system_prompt system_message role_description",
    ColumnRole.TEXT: "text content document passage texte texto testo tekst metin текст 文本 本文",
    ColumnRole.QUESTION: (
        "question questions q prompt instruction instructions user query human ask "
        "frage fragen aufgabe pregunta preguntas domanda domande pergunta perguntas vraag vragen "
        "fraga fragor sporgsmal sporsmal kysymys pytanie pytania otazka intrebare kerdes soru "
        "erotisi ερωτηση вопрос питання въпрос سؤال السؤال שאלה प्रश्न 问题 問題 質問 질문 "
        "cau_hoi คำถาม pertanyaan soalan swali"
    ),
    ColumnRole.ANSWER: (
        "answer answers a completion response output reply assistant gpt solution target expected "
        "antwort antworten losung respuesta respuestas reponse reponses risposta risposte resposta "
        "respostas antwoord antwoorden svar vastaus odpowiedz odpoved raspuns valasz cevap yanit "
        "απαντηση ответ відповідь отговор جواب الجواب إجابة תשובה उत्तर 答案 回答 答え 답변 답 "
        "cau_tra_loi คำตอบ jawaban jawapan jibu"
    ),
    ColumnRole.BETTER: (
        "chosen better preferred better_answer chosen_response preferred_output bessere_antwort "
        "mejor_respuesta meilleure_reponse"
    ),
    ColumnRole.WORSE: (
        "rejected worse worse_answer rejected_response non_preferred_output schlechtere_antwort "
        "peor_respuesta moins_bonne_reponse"
    ),
    ColumnRole.TOOLS: "tools functions",
    ColumnRole.HISTORY: "history",
    ColumnRole.SPEAKER: (
        "speaker role sender author from who sprecher rolle absender wer locuteur auteur "
        "hablante remitente mittente parlante remetente spreker afzender avsandare nadawca "
        "отправитель"
    ),
}
# Which conversation a row belongs to; said only where several rows share one.
KEYS = frozenset(
    {"conversation_id", "conversation", "conv_id", "dialogue_id", "dialog_id", "chat_id"}
    | {"thread_id", "thread", "ticket_id", "ticket", "session_id", "session", "case_id", "case"}
    | {"gesprach", "gesprachs_id", "vorgang", "fall", "fallnummer", "conversacion", "gesprek"}
    | {"conversazione", "conversa", "samtal", "rozmowa", "диалог"}
)
# What was said, where a column says who: beside the names of plain text.
SAID = frozenset(
    {"message", "said", "utterance", "turn", "body", "value", "nachricht", "mensaje", "messaggio"}
    | {"mensagem", "bericht", "meddelande", "wiadomosc", "сообщение"}
)
# Alpaca's second part of the question; alone it may be the question itself.
CONTEXT = frozenset({"input", "context", "kontext", "contexte", "contexto", "contesto"})
# Such questions stand beside a context that belongs to them.
WITH_CONTEXT = frozenset(
    {"instruction", "question", "frage", "aufgabe", "pregunta", "domanda", "pergunta", "vraag"}
)
# Known to say nothing about the example's text.
HARMLESS = frozenset(
    {"id", "index", "nr", "no", "number", "parallel_tool_calls", "source", "date"}
    | {"file", "sheet", "section", "found_in", "page"}
)


# What forms and sheets add to a name; it says nothing of what the column has.
_ADDED = re.compile(
    r"[(\[]\s*(required|optional|mandatory|must have|pflicht(feld)?|erforderlich|freiwillig"
    r"|obligatoire|requis|facultatif|obligatorio|requerido|opcional|obbligatorio|facoltativo"
    r"|verplicht|optioneel|obrigat[oó]rio|obligatorisk)\s*[)\]]",
    re.IGNORECASE,
)
_HUMP = re.compile(r"(?<=[a-z0-9à-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])")


def plain(name: str) -> str:
    """Reduce a column's name to small letters without accents, words joined by `_`.

    Signs that nobody sees, “(required)” and the humps of camelCase say nothing.
    """
    if not name.isascii():
        name = "".join(" " if c in _BLANKS else c for c in name if not _is_invisible(c))
    if "(" in name or "[" in name:
        name = _ADDED.sub("", name)
    decomposed = unicodedata.normalize("NFKD", _HUMP.sub("_", name).casefold())
    letters = "".join(c for c in decomposed if not 0x300 <= ord(c) <= 0x36F)
    letters = letters.replace("ø", "o").replace("ł", "l").replace("ı", "i")
    return re.sub(r"[\s_\-.:?*]+", "_", letters).strip("_")


# They look like blanks, though they are letters or marks to Unicode.
_BLANKS = frozenset("\u00a0\u180e\u2800\u3164\uffa0")


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") and character not in "\t\n\r"


ROLES = {plain(name): role for role, names in _NAMES.items() for name in names.split()}


def words(text: str) -> frozenset[str]:
    """Return the plain words that stand in a text, one blank apart: a list that is easy to read."""
    return frozenset(text.split())


# They may well be questions and answers, and a person confirms it.
_LIKELY = {
    ColumnRole.QUESTION: (
        "anliegen anfrage befund ausgangstext request enonce consigne demande exercice enunciado "
        "consigna consulta ejercicio quesito consegna esercizio traccia opgave opdracht"
    ),
    ColumnRole.ANSWER: (
        "ergebnis zusammenfassung auskunft erklarung result summary explanation correction corrige "
        "resultat resume explication solucion resultado resumen correccion soluzione risultato "
        "riassunto correzione spiegazione oplossing uitkomst resultaat samenvatting uitleg"
    ),
}
_LIKELY_ROLES = {name: role for role, names in _LIKELY.items() for name in names.split()}
# The ends of words that other words are put before: Patientenfrage, Musterantwort.
_ENDS = (
    *((end, ColumnRole.QUESTION) for end in ("frage", "aufgabe", "vraag", "sporgsmal")),
    *((end, ColumnRole.QUESTION) for end in ("fragestellung", "aufgabenstellung", "fragen")),
    *((end, ColumnRole.ANSWER) for end in ("antwort", "losung", "antwoord", "svar", "antworten")),
)
_OTHER_WORDS = frozenset({"umfrage", "abfrage", "auflosung", "ablosung", "erlosung"})


def likely_role(name: str) -> ColumnRole | None:
    """Return whether a name that is not known for sure may mean a question or an answer."""
    word = plain(name)
    if word in ROLES:
        return ROLES[word]
    if word in _LIKELY_ROLES:
        return _LIKELY_ROLES[word]
    if "_" in word or word in _OTHER_WORDS:
        return None
    return next((role for end, role in _ENDS if word.endswith(end)), None)


def is_known_name(name: str) -> bool:
    """Say whether a cell reads like the name of a column."""
    return plain(name) in ROLES or plain(name) in CONTEXT


def says(name: str, wanted: ColumnRole) -> bool:
    """Say whether a plain name's last word is known, or its first, as in “answer_of_the_pupil”."""
    words = name.split("_")
    if ROLES.get(words[-1]) is wanted:
        return True
    return ROLES.get(words[0]) is wanted and words[-1] not in _ABOUT


# “answer_date” says something about an answer and is none.
_ABOUT = frozenset(
    {"id", "nr", "no", "number", "date", "time", "type", "count", "category", "topic", "author"}
    | {"by", "status", "score", "length", "tokens", "source", "url", "link", "lang", "language"}
    | {"rating", "quality", "label", "key", "index"}
)
