"""Sentences that no rule was written for: made after the rules, measured, and left alone."""

EN = """
Hi there, {given} here. My mum {full} is due for surgery on Friday, should she fast? || Hello {given}, yes, nothing after midnight. Please tell {title} {sur} to bring her tablets.
We would like to enrol our daughter, {full}, date of birth {birth}, from September. || Lovely. Please send the form to {email}.
Incident report: at 14:20 {full} slipped in the bathroom; {given} was helped up by two carers. || Reported to {title} {sur}, who examined the patient.
The dose for {title} {sur} was halved after the kidney results. || Who signed this off? || {full} did.
Homework feedback for {given}: good structure, watch the commas. || I will pass it on to {given} and to {title} {sur}.
Handover: bed 4, {full}, 81 years, hip fracture; bed 5, {full2}, 67 years, pneumonia. || Understood.
Invoice 2231 goes to {full}, {address}. || Paid from {iban}.
Please add {given} {sur} to the list for the reading club; contact {phone}. || Done.
Signed: {full}
The social worker, {full}, will visit on Thursday. || Should {given} be there too?
How do I calm a child who fears needles? || Let the child hold a toy, count to three together, and use Emla cream beforehand.
Opening hours of the Radiology Department? || Monday to Friday, eight to five; on Boxing Day we are closed.
"""

DE = """
Guten Tag, meine Mutter {full} wird am Freitag operiert, muss sie nüchtern sein? || Ja. Bitte sagen Sie {title} {sur}, dass sie ihre Tabletten mitbringt.
Wir möchten unsere Tochter {full}, geboren am {birth}, ab September anmelden. || Gern. Schicken Sie das Formular an {email}.
Sturzprotokoll: Um 14:20 Uhr ist {full} im Bad ausgerutscht; zwei Pflegekräfte halfen {given} auf. || Gemeldet an {title} {sur}.
Die Dosis für {title} {sur} wurde nach den Nierenwerten halbiert. || Wer hat das unterschrieben? || {full}.
Rückmeldung zur Hausaufgabe von {given}: gut gegliedert, auf die Kommas achten. || Ich gebe es {given} weiter.
Übergabe: Bett 4, {full}, 81 Jahre, Schenkelhalsbruch; Bett 5, {full2}, 67 Jahre, Lungenentzündung. || Verstanden.
Die Rechnung 2231 geht an {full}, {address}. || Bezahlt vom Konto {iban}.
Bitte {given} {sur} in die Liste für den Leseklub aufnehmen, Kontakt {phone}. || Erledigt.
Gezeichnet: {full}
Die Sozialarbeiterin {full} kommt am Donnerstag. || Soll {given} auch da sein?
Wie beruhige ich ein Kind, das Angst vor Spritzen hat? || Lassen Sie es ein Kuscheltier halten, zählen Sie gemeinsam bis drei und nehmen Sie vorher Emla-Salbe.
Wann hat die Radiologie offen? || Montag bis Freitag von acht bis fünf; an Heiligabend ist geschlossen.
"""

FR = """
Bonjour, ma mère {full} est opérée vendredi, doit-elle être à jeun ? || Oui. Dites à {title} {sur} d'apporter ses comprimés.
Nous voulons inscrire notre fille, {full}, date de naissance {birth}, à partir de septembre. || Volontiers. Envoyez le formulaire à {email}.
Rapport de chute : à 14 h 20, {full} a glissé dans la salle de bains ; deux soignants ont relevé {given}. || Signalé à {title} {sur}.
La dose de {title} {sur} a été réduite de moitié. || Qui a signé ? || {full}.
Commentaire du devoir de {given} : bon plan, attention aux virgules. || Je transmets à {given}.
Transmission : lit 4, {full}, 81 ans, fracture de la hanche ; lit 5, {full2}, 67 ans, pneumonie. || Compris.
La facture 2231 part à {full}, {address}. || Payée depuis {iban}.
Ajoutez {given} {sur} à la liste du club de lecture, contact {phone}. || C'est fait.
Signé : {full}
L'assistante sociale, {full}, passera jeudi. || Est-ce que {given} doit être là ?
Comment calmer un enfant qui a peur des piqûres ? || Donnez-lui une peluche, comptez jusqu'à trois et utilisez la crème Emla.
Quels sont les horaires de la radiologie ? || Du lundi au vendredi de huit à dix-sept heures ; fermée le jour de l'An.
"""

ES = """
Buenos días, operan a mi madre {full} el viernes, ¿debe ir en ayunas? || Sí. Diga a {title} {sur} que traiga sus pastillas.
Queremos matricular a nuestra hija, {full}, fecha de nacimiento {birth}, desde septiembre. || Con gusto. Envíe el formulario a {email}.
Parte de caída: a las 14:20 {full} resbaló en el baño; dos cuidadores levantaron a {given}. || Comunicado a {title} {sur}.
La dosis de {title} {sur} se redujo a la mitad. || ¿Quién lo firmó? || {full}.
Comentario sobre los deberes de {given}: buena estructura, cuidado con las comas. || Se lo paso a {given}.
Relevo: cama 4, {full}, 81 años, fractura de cadera; cama 5, {full2}, 67 años, neumonía. || Entendido.
La factura 2231 va a {full}, {address}. || Pagada desde {iban}.
Añada a {given} {sur} a la lista del club de lectura, contacto {phone}. || Hecho.
Firmado: {full}
La trabajadora social, {full}, vendrá el jueves. || ¿Debe estar {given} también?
¿Cómo calmo a un niño que teme las agujas? || Déjele un peluche, cuenten juntos hasta tres y use la crema Emla.
¿Qué horario tiene radiología? || De lunes a viernes de ocho a cinco; en Nochebuena está cerrada.
"""

NL = """
Goedemorgen, mijn moeder {full} wordt vrijdag geopereerd, moet ze nuchter zijn? || Ja. Zeg tegen {title} {sur} dat ze haar tabletten meeneemt.
We willen onze dochter {full}, geboortedatum {birth}, vanaf september inschrijven. || Graag. Stuur het formulier naar {email}.
Valmelding: om 14.20 uur gleed {full} uit in de badkamer; twee verzorgers hielpen {given} overeind. || Gemeld aan {title} {sur}.
De dosis voor {title} {sur} is gehalveerd. || Wie heeft getekend? || {full}.
Reactie op het huiswerk van {given}: goede opbouw, let op de komma's. || Ik geef het door aan {given}.
Overdracht: bed 4, {full}, 81 jaar, heupfractuur; bed 5, {full2}, 67 jaar, longontsteking. || Begrepen.
De rekening 2231 gaat naar {full}, {address}. || Betaald vanaf {iban}.
Zet {given} {sur} op de lijst van de leesclub, contact {phone}. || Gedaan.
Getekend: {full}
De maatschappelijk werkster, {full}, komt donderdag. || Moet {given} er ook bij zijn?
Hoe stel ik een kind gerust dat bang is voor prikken? || Geef het een knuffel, tel samen tot drie en gebruik Emla-zalf.
Wanneer is de radiologie open? || Maandag tot en met vrijdag van acht tot vijf; met oud en nieuw gesloten.
"""

LINES = {
    code: list(text.strip().splitlines())
    for code, text in (("en", EN), ("de", DE), ("fr", FR), ("es", ES), ("nl", NL))
}
