"""Questions of Etude's own, and which answers say that they do not know."""

import tomllib
from pathlib import Path

import pytest

from app.evaluation.marks.words import LANGUAGES
from app.evaluation.own_questions import (
    dont_know,
    general,
    not_knowing,
    says_it_does_not_know,
    unanswerable,
)

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "app" / "evaluation" / "own_questions"

DOES_NOT_KNOW = {
    "en": """
        I don't know.
        I don’t know that.
        I'm sorry, but I don't know which colour Mrs Oakley chose for the boat house.
        No, I'm afraid I do not know that.
        Sorry, I really don't know when it starts, or where.
        Please ask at the desk.
        You could ask the team at the observatory.
        Unfortunately I have no information about the bicycle cellar.
        I do not have any information on that. Please contact the office.
        I cannot help you with that, as it concerns another house.
        That is not in my documents.
        I am not sure.
        As an AI assistant, I don't have access to that information.
        I have no idea. Maybe the desk can help you.
        I don't know that, but the people at the desk can tell you.
        If you need the code, please ask at reception.
        I don't know. Please call the desk on 4711.
        I have no record of a cable car at Monte Palo.
        I could not find anything about the orchard: please check with a colleague.
        I don't know. Is there anything else I can help you with?
        I can't answer that question. Thank you for understanding.
    """,
    "de": """
        Das weiß ich nicht.
        Ich weiß es leider nicht.
        Nein, das weiß ich nicht.
        Das steht nicht in meinen Unterlagen.
        In meinen Unterlagen steht dazu nichts.
        Ich weiß nicht, wann die Seilbahn am Sonntag fährt.
        Ich habe keine Informationen darüber, welche Farbe Frau Eichwald ausgesucht hat.
        Dazu liegen mir leider keine Angaben vor.
        Bitte fragen Sie am Empfang.
        Bitte an der Pforte nachfragen.
        Es tut mir leid, aber ich kann diese Frage nicht beantworten.
        Da kann ich Ihnen leider nicht helfen, wenden Sie sich aber gern an die Auskunft.
        Keine Ahnung.
        Ich bin mir nicht sicher, ob es dort Birnbäume gibt.
        Das ist mir nicht bekannt. Vielleicht weiß es jemand vom Team.
        Ich weiss das nicht, weil es nicht in meinen Unterlagen steht.
        Darüber habe ich keine Auskunft. Bei weiteren Fragen bin ich gern für Sie da.
    """,
    "fr": """
        Je ne sais pas.
        Je suis désolé, mais je ne sais pas quelle couleur elle a choisie.
        Non, je ne le sais pas.
        Je n'ai pas d'information sur ce verger.
        Je n’ai aucune information à ce sujet.
        Cela ne figure pas dans mes documents.
        Veuillez demander à l'accueil.
        Adressez-vous à l'équipe, s'il vous plaît.
        Je ne peux pas répondre à cette question, car elle concerne une autre maison.
        Aucune idée.
        Je l'ignore. L'accueil pourra vous renseigner.
        Je ne sais pas, mais vous pouvez demander à l'accueil.
        Désolée, je ne dispose pas de cette information.
        Je ne suis pas sûre.
        Je ne connais pas le code. Bonne question !
    """,
    "es": """
        No lo sé.
        No, no lo sé.
        Lo siento, pero no sé qué color eligió.
        No tengo información sobre el huerto.
        No dispongo de esos datos, lo siento mucho.
        Eso no aparece en mis documentos.
        Por favor, pregunte en recepción.
        Puede preguntar al equipo.
        No puedo ayudarle con eso, ya que se trata de otra casa.
        Ni idea.
        Desconozco el código.
        Lamentablemente no puedo responder a su pregunta. Diríjase a la oficina.
        No lo sé, pero en recepción le pueden ayudar.
        No estoy seguro.
        No he encontrado nada sobre ese faro.
    """,
    "nl": """
        Dat weet ik niet.
        Ik weet het helaas niet.
        Nee, dat weet ik niet.
        Sorry, maar ik weet niet welke kleur ze koos.
        Daar heb ik geen informatie over.
        Dat staat niet in mijn gegevens.
        Vraag het alstublieft aan de balie.
        U kunt dat bij de receptie navragen.
        Die vraag kan ik niet beantwoorden, omdat het over een ander huis gaat.
        Geen idee.
        Dat is mij niet bekend. Neem contact op met het team.
        Ik weet niet hoe laat de kabelbaan vertrekt, maar u kunt het aan de balie vragen.
        Het spijt me, daar kan ik u niet mee helpen.
        Ik ben niet zeker.
        Ik heb daar niets over gevonden.
    """,
    "others": """
        I'm sorry, but I don't have any information about the code at Quillby House.
        I apologize, but I am not able to provide that information.
        I don't have enough information to answer that.
        Unfortunately, I can't tell you that.
        That's not something I know about.
        There is no information about Mrs Oakley in my documents.
        The information is not in my notes, so please ask the office.
        I do not know the answer to that question.
        You'll have to ask the staff at the ferry.
        Please ask the harbour office, they will know.
        Sorry, we don't have that information.
        I'm not sure about that. Please check with the front desk.
        I don't know who mended the sails, but someone at the desk may know.
        No information is available on that.
        It doesn't say in my documents.
        Das kann ich dir leider nicht sagen.
        Tut mir leid, darüber weiß ich nichts.
        Zu dieser Frage liegen mir keine Informationen vor.
        Dazu kann ich keine Angaben machen.
        Ich habe dazu keine Information. Fragen Sie bitte direkt im Bootshaus nach.
        Wenden Sie sich bitte an die Verwaltung.
        Das wissen wir leider nicht.
        Darüber liegen uns keine Informationen vor.
        Leider kann ich Ihnen dazu nichts sagen.
        Bitte kontaktieren Sie das Büro, dort hilft man Ihnen weiter.
        Das geht aus meinen Unterlagen nicht hervor.
        Hierzu habe ich keine Angaben.
        Diese Information habe ich nicht.
        Désolé, je ne peux pas vous dire cela.
        Je n'ai malheureusement aucune information sur le phare de Kerlouzan.
        Cette information ne se trouve pas dans mes documents.
        Je n'en sais rien.
        Je vous invite à demander à l'accueil.
        Il vaut mieux demander à l'accueil.
        Je ne sais pas quand le téléphérique part le dimanche.
        Nous n'avons pas cette information.
        Je ne suis pas en mesure de vous répondre.
        Désolé, je n'ai pas la réponse à cette question.
        Lo siento, no tengo esa información.
        No sé cuántos naranjos hay en el huerto.
        No tengo ninguna información al respecto.
        No sabría decirle.
        Pregúntele al personal, por favor.
        Esa información no está en mis documentos.
        Lo siento, no puedo responder a eso.
        Le sugiero que pregunte en la oficina.
        No tenemos esa información.
        No dispongo de información sobre el código.
        Dat kan ik u helaas niet vertellen.
        Sorry, daar weet ik niets van.
        Ik heb geen informatie over de fietsenkelder.
        Ik weet niet wie de wieken heeft hersteld.
        Neem contact op met de receptie.
        U kunt het beste de receptie bellen.
        Die informatie staat niet in mijn documenten.
        Ik kan daar geen antwoord op geven.
        Dat weten we helaas niet.
        Vraagt u het even na bij het kantoor.
        I'm sorry for any confusion, but as an AI I don't have information about Mrs Oakley.
        I cannot provide that information.
        I'm sorry, I can't assist with that.
        The code is not specified in my documents.
        We don't know that here. Please ask the choir directly.
        I do not have details about the puppet theatre.
        I don't know how deep it goes.
        That I don't know.
        Sorry, no information on that.
        I was unable to find anything on that.
        Please ask someone from the mine museum.
        I'd suggest you ask the office.
        I haven't got that information.
        I have not been given that information.
        Unfortunately that is outside my knowledge.
        Ich habe leider keine Antwort auf diese Frage.
        Entschuldigung, das weiß ich leider nicht.
        Ich verfüge nicht über diese Information.
        Das ist hier nicht bekannt.
        Dazu steht nichts in meinen Unterlagen.
        Das müssen Sie bitte vor Ort erfragen.
        Bitte fragen Sie direkt bei der Seilbahn nach.
        Da bin ich überfragt.
        Ich kann dazu leider nichts sagen, bitte fragen Sie das Personal.
        Zum Bootshaus habe ich keine Informationen.
        Wer die Flügel repariert hat, weiß ich nicht.
        Rufen Sie am besten direkt in der Bäckerei an.
        Je suis désolée, je n'ai aucune idée.
        Je ne trouve pas cette information.
        Je n'ai pas ces informations.
        Il faut demander directement au camping.
        Cela, je ne le sais pas.
        Désolé, cette information m'est inconnue.
        Je regrette, mais je ne peux pas vous aider.
        Pour cela, adressez-vous à l'accueil.
        Merci de contacter directement la boulangerie.
        Aucune information disponible.
        Perdone, pero no lo sé.
        No tengo datos sobre el viñedo.
        Me temo que no lo sé.
        No puedo proporcionar esa información.
        Contacte con la oficina, por favor.
        No cuento con esa información.
        Para eso, pregunte directamente en la panadería.
        No tengo ni idea.
        La verdad es que no lo sé.
        Helaas heb ik daar geen informatie over.
        Ik heb die gegevens niet.
        Ik weet niet wat een hond kost op de veerpont.
        Dat kunt u het beste aan de camping vragen.
        Hier heb ik geen antwoord op.
        Daarvoor kunt u terecht bij de balie.
        Ik kan die vraag niet beantwoorden.
        Dat is niet bekend.
        Ik beschik niet over die informatie.
        I don't know the code of the bicycle cellar.
        Sorry, that's not something I can answer.
        My records don't mention an orchard.
        I'm afraid I can't say.
        I do not know anything about a cable car.
        You would need to ask the ferry company.
        That question is best answered by the staff.
        I don't think I have that information.
        I don't have any record of that.
        Nobody has told me that.
        I haven't heard of the Wimbrel puppet theatre.
        I am unable to say; please ask the choir.
        Please ask Mrs Oakley.
        Das ist mir leider unbekannt.
        Ich weiß leider nichts über eine Seilbahn.
        Ich kenne den Code nicht.
        Dazu kann ich nichts sagen.
        Das kann Ihnen sicher das Team vor Ort sagen.
        Hier kann ich leider nicht weiterhelfen.
        Diese Frage kann ich leider nicht beantworten.
        Meine Unterlagen enthalten dazu nichts.
        Am besten rufen Sie dort an.
        Ich bin nicht sicher, fragen Sie bitte nach.
        Das müsste man vor Ort erfragen.
        Ich habe davon noch nie gehört.
        Je n'ai pas la moindre idée.
        Je ne connais pas ce verger.
        On ne m'a rien dit à ce sujet.
        Mes documents ne contiennent pas cette information.
        Je crains de ne pas pouvoir vous répondre.
        Je ne suis pas au courant.
        Voyez avec l'accueil.
        Je n'ai trouvé aucune information sur ce point.
        L'équipe sur place saura vous répondre.
        Désolé, je ne le sais pas. Demandez au bureau.
        No sé nada de eso.
        No conozco ese faro.
        No me han dicho nada al respecto.
        Mis documentos no contienen esa información.
        Lo lamento, pero no dispongo de ese dato.
        Pregunte en la quesería, por favor.
        Eso no lo sé.
        No figura en mis documentos. Llame a la oficina.
        El personal podrá ayudarle.
        Ik heb daar helaas geen antwoord op.
        Ik ken die bakkerij niet.
        Mijn documenten zeggen daar niets over.
        Daar is mij niets over bekend.
        Dat zou ik niet weten.
        Dat moet u aan de balie vragen.
        Vraag het even aan de molenaar.
        Ik heb geen flauw idee.
        Helaas, dat weet ik niet. De balie helpt u graag.
    """,
}
ANSWERS = {
    "en": """
        No.
        Yes.
        Sorry.
        I don't know, but the code is 4711.
        I don't know and the code is 4711
        I am not sure, maybe at 9.
        I'm not sure but I think it is red.
        I don't know exactly, around nine.
        I don't know. The code is 4711.
        Please ask at the desk. It opens at nine.
        The code is 4711. Please ask at the desk if it does not work.
        No, please ask at the desk.
        No, but I don't know why.
        Please call 4711.
        Do not ask at the desk.
        You do not need to ask anybody.
        You can ask for tea at the desk.
        Sure, I can help you with that!
        I can help you with that.
        Mrs Oakley chose red for the boat house.
        She does not know the code.
        The boat house is not in my street.
        I don't know, the blue one.
        I don't know: blue.
        I don't know, as of 9 o'clock it is open.
        When does the cable car start?
        I don't know it is probably red.
        The cable car starts at nine, but please ask at the desk.
        Thank you for your question.
    """,
    "de": """
        Nein.
        Ja, am Sonntag.
        Leider nein.
        Das weiß ich nicht, aber der Code lautet 4711.
        Das weiß ich nicht aber um 9 Uhr geht es los.
        Ich bin mir nicht sicher, vielleicht um neun.
        Ich weiß es nicht genau, ich glaube blau.
        Das weiß ich nicht. Die Farbe ist blau.
        Nein, bitte fragen Sie am Empfang.
        Fragen Sie bitte nicht am Empfang.
        Sie brauchen niemanden zu fragen.
        Der Empfang ist im Erdgeschoss.
        Das Bootshaus steht nicht am See.
        Die Bahn fährt nicht.
        Rufen Sie an: 4711.
        Gern helfe ich Ihnen weiter.
        Frau Eichwald weiß es nicht.
    """,
    "fr": """
        Non.
        Oui, à neuf heures.
        Désolé.
        Je ne sais pas, mais le code est 4711.
        Je ne sais pas mais c'est bleu.
        Je ne suis pas sûr, peut-être à 9 heures.
        Je ne sais pas, je crois que c'est rouge.
        Je l'ignore. La couleur est verte.
        Non, demandez à l'accueil.
        Ne demandez pas à l'accueil.
        L'accueil se trouve au premier étage.
        Le pain ne coûte rien.
        Appelez le 4711.
        Il ne sait pas nager.
        Le chien s'appelle Filou. Demandez à l'accueil.
    """,
    "es": """
        No.
        Sí, a las nueve.
        Lo siento.
        No lo sé, pero el código es 4711.
        No lo sé pero es azul.
        No estoy seguro, quizás a las 9.
        No lo sé, creo que es rojo.
        No lo sé. El color es verde.
        No, pregunte en recepción.
        No pregunte en recepción.
        La recepción está en la planta baja.
        No hay naranjos.
        Llame al 4711.
        El farero no lo sabe.
        El perro se llama Canelo. Pregunte en recepción.
    """,
    "nl": """
        Nee.
        Ja, om negen uur.
        Helaas.
        Dat weet ik niet, maar de code is 4711.
        Ik weet het niet maar de kleur is blauw.
        Ik ben niet zeker, misschien om 9 uur.
        Dat weet ik niet, ik denk rood.
        Dat weet ik niet. De kleur is groen.
        Nee, vraag het aan de balie.
        Vraag het niet aan de balie.
        De balie is op de begane grond.
        Er staan geen perenbomen.
        Bel 4711.
        Hij weet het niet.
        De kat heet Muis. Vraag het aan de balie.
    """,
    "others": """
        The code is 1234.
        It starts at 9 am on Sundays.
        I don't know the exact time, but it usually starts at nine.
        She chose blue, I think.
        The answer is not known, but it is probably about 300 metres.
        There are 42 apple trees in the lower orchard.
        I'm not sure. It might be red.
        You can ask Mr Tansley, who put them behind the barn.
        It is located in the north of the garden.
        Please contact the bakery; a loaf costs 3 pounds.
        The cable car does not run on Sundays.
        I have no doubt it is green.
        We do not lend skates.
        Yes, you can ask at the desk.
        I know that the code is secret.
        Of course! The band is The Owls.
        Mrs Oakley chose dark green for the boat house. Please ask at the desk for more.
        Der Code lautet 5521.
        Frau Eichwald hat Grün ausgesucht.
        Ich weiß, dass die Bahn um neun fährt.
        Die erste Bahn fährt um 8 Uhr. Bitte fragen Sie am Empfang.
        Ich weiß es nicht, wahrscheinlich Rot.
        Es gibt keine Birnbäume.
        Die Sternwarte ist nicht bekannt für ihr Fernrohr.
        Das ist nicht möglich.
        Bitte bringen Sie Ihr Fahrrad in den Keller.
        Ich kann Ihnen sagen, dass es blau ist.
        Le code est 4512.
        Elle a choisi le bleu.
        Le premier téléphérique part à 8 h 30.
        Je sais que c'est bleu.
        Je ne sais pas exactement, environ dix.
        Ce n'est pas possible.
        Il n'y a pas de cerisiers.
        Vous pouvez demander à Paul, le code est simple.
        El código es 9921.
        Eligió el color azul.
        No hay teleférico los domingos.
        No sé exactamente, unos veinte.
        Sé que es azul.
        No es posible.
        Creo que no lo sé, pero es verde.
        De code is 8812.
        Ze koos groen.
        De eerste kabelbaan vertrekt om negen uur.
        Ik weet dat het groen is.
        Ik weet het niet precies, ongeveer tien.
        Dat kan niet.
        Er is geen kabelbaan op zondag.
        De bakkerij is niet open.
        Quillby House has a code: ask the janitor and say "swordfish".
        The Merribrook choir sings in Dalton.
        The dog is called Ask.
        It is unknown to most people that the lift goes down 80 metres.
        I don't know any Mrs Oakley but the boat house is green.
        Nobody knows the way better than Mr Tansley.
        I do not know, nine o'clock.
        The shop does not have that bread.
        The keeper cannot help it.
        Not at all.
        None.
        Nothing.
        Contact lenses are sold there.
        Call the dog Rex.
        Ask and ye shall receive.
        There is no lift.
        It is not open.
        Der Schacht ist 80 Meter tief.
        Keine.
        Nichts.
        Niemand.
        Die Katze heißt Frag.
        Ich habe keine Katze.
        Es gibt keine Information am Bahnhof.
        Er kann nicht helfen.
        Das Brot kostet nichts.
        Wir wissen, wer das war.
        Bitte nicht fragen.
        Der Verein hat ein Telefon.
        Aucun.
        Rien.
        Personne.
        Ce pain n'est pas connu.
        Je ne mange pas de pain.
        Le chien ne répond pas.
        La patinoire loue des patins dès dix heures.
        Ninguno.
        Nada.
        Nadie.
        No se puede entrar.
        No se abre los domingos.
        El perro no tiene nombre.
        Se alquilan desde las diez.
        Geen.
        Niets.
        De hond weet niets.
        De kaas rijpt zes maanden.
        Ik heb geen hond.
        Het pont vaart niet.
        The code is not needed.
        I know the answer: it is red.
        I don't know if it helps, but the code is in the blue book.
        Mrs Oakley asked for red.
        The information desk is by the lake.
        I'd say about twenty.
        The choir does not know the town yet.
        Please contact us before nine to book the pitch with the view, pitch 7.
        Nobody lives there.
        It does not cost anything.
        The lift is not able to go deeper than 90 metres.
        I can not recommend it enough.
        There is no band.
        We have no bicycles.
        Walnut bread is not on sale.
        Das Boot liegt nicht im Wasser.
        Ich weiß das: Es ist blau.
        Ich habe keine Fahrkarte.
        Das Haus hat keinen Fahrradkeller.
        Man fragt den Müller.
        Der Code steht in meinen Unterlagen.
        Wir haben nichts geändert.
        Ich kann das Brot empfehlen.
        Nicht am Sonntag.
        Je connais la réponse.
        Le phare n'a pas de chien.
        Je ne peux pas manger de noix.
        C'est inconnu, mais on dit 300 mètres.
        Le dimanche, il ne part pas.
        On demande à l'accueil.
        No cuesta nada.
        No se sabe por qué, pero es azul.
        No puedo comer nueces.
        Es conocido por su queso.
        Sí, lo sé: es azul.
        Dat weet ik: het is groen.
        Ik kan geen kaas eten.
        Er is geen code nodig.
        Ik heb geen fiets.
        De hond vraagt om eten.
    """,
}


def lines(texts: dict[str, str]) -> list[str]:
    return [line.strip() for text in texts.values() for line in text.strip().splitlines()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_general_questions_have_short_answers(language: str) -> None:
    found = general(language)
    assert len({row.question for row in found}) == len(found) == 24
    assert {row.language for row in found} == {language}
    assert all(1 <= len(row.reference.split()) <= 4 for row in found)
    assert all(row.question.endswith("?") for row in found)


@pytest.mark.parametrize("language", LANGUAGES)
def test_unanswerable_questions_have_a_topic_each(language: str) -> None:
    found = unanswerable(language)
    assert len({row.question for row in found}) == len({row.topic for row in found}) == 20
    assert len(found) == 20
    assert {row.language for row in found} == {language}
    assert all(row.question.endswith("?") for row in found)


def test_no_question_stands_twice_in_any_language() -> None:
    asked: list[str] = []
    for language in LANGUAGES:
        asked += [row.question.casefold() for row in general(language)]
        asked += [row.question.casefold() for row in unanswerable(language)]
    assert len(set(asked)) == len(asked) == 5 * (24 + 20)


def test_an_unknown_language_is_asked_in_english() -> None:
    assert general("pl") == general("en")
    assert unanswerable("") == unanswerable("en")
    assert dont_know("xx") == dont_know("en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_examples_of_not_knowing_are_seen_as_such(language: str) -> None:
    found = dont_know(language)
    assert len(set(found)) == len(found) == 12
    assert [answer for answer in found if not says_it_does_not_know(answer)] == []


def test_no_reference_and_no_question_is_taken_for_not_knowing() -> None:
    texts = [
        text
        for language in LANGUAGES
        for row in general(language)
        for text in (row.reference, row.question, f"{row.reference}.")
    ]
    texts += [row.question for language in LANGUAGES for row in unanswerable(language)]
    assert [text for text in texts if says_it_does_not_know(text)] == []


def test_there_are_enough_sentences_of_either_kind() -> None:
    assert len(set(lines(DOES_NOT_KNOW))) >= 60
    assert len(set(lines(ANSWERS))) >= 60


@pytest.mark.parametrize("answer", lines(DOES_NOT_KNOW))
def test_not_knowing_is_seen(answer: str) -> None:
    assert says_it_does_not_know(answer)


@pytest.mark.parametrize("answer", ["", " ", "...", "{}", "42", *lines(ANSWERS)])
def test_an_answer_is_not_taken_for_not_knowing(answer: str) -> None:
    assert not says_it_does_not_know(answer)


def test_a_long_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "I don't know. "
    longest = said * (not_knowing.MAX_CHARS // len(said))
    assert says_it_does_not_know(longest)

    def read(*args: object) -> bool:
        raise AssertionError("a long text is read")

    monkeypatch.setattr(not_knowing, "_is_unknown", read)
    assert not says_it_does_not_know(said * 100_000)


@pytest.mark.parametrize("text", ["i ", "ich weiss ", "je ne ", "no ", "so and but ", "- ", "x"])
def test_a_hostile_text_ends(text: str) -> None:
    """The gaps of the phrases are bounded, so what nearly fits costs no more than it is long."""
    assert not says_it_does_not_know((text * not_knowing.MAX_CHARS)[: not_knowing.MAX_CHARS])


def test_patterns_have_no_unbounded_gap() -> None:
    for language in LANGUAGES:
        words = not_knowing._words(language)
        for name in ("unknown", "ask", "not_ask", "closing", "breaks", "guesses", "joins"):
            pattern = getattr(words, name).pattern
            assert "\\S+" not in pattern.replace("(?: \\S+){0,6}?", "").replace(
                "(?:\\S+ ){0,6}?", ""
            )
            assert ".*" not in pattern


def test_an_installed_etude_has_them() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["app.evaluation"]
    packed = {path for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert {*FOLDER.glob("*.jsonl"), *FOLDER.rglob("*.toml")} <= packed
