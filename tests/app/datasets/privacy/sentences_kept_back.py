"""Sentences kept back: made before the rules of this edition, measured, and left alone.

Lines without braces hold no person: eponyms, places, peoples, offices, tests and headings, as wards
and schools write of them.
"""

EN = """
Night report: {full} slept badly, asked for water twice and was given 500 mg of Paracetamol at three. || {given} should be weighed before breakfast.
I'm worried about {given}, who hasn't eaten at lunch for a week. || Let us ask {title} {sur} whether something happened at home.
{full} owes two library books and {full2} owes one. || I have written to both.
Could you swap the shifts of {given} and {given2} on Sunday? || Done, {given2} starts at six.
The stitches of {full} come out on Wednesday. || Who will do it? || {given}, if {title} {sur2} agrees.
Prize for the best essay: {full}, form 10c. || Well done, {given}!
Yesterday's visitors for room 12 were {full} and {full2}. || Did {sur} sign the book?
As {title} {sur} wrote in her letter, {given} is allergic to nuts. || The kitchen knows.
We have no consent form from {given}. || Then {given} stays at school on Thursday, and {full2} looks after the group.
Physio notes: {sur} walked ten metres with the frame. || Tomorrow {sur} tries the stairs.
Minutes: present were {full}, {full2} and the head teacher. || Apologies from {title} {sur2}.
What is the difference between Parkinson's disease and Huntington's disease? || Both are disorders of the brain; Huntington's is inherited, while Lewy bodies are seen in other patients.
Which tests are done for Cushing syndrome? || A Dexamethasone test, ACTH, and an MRI; the American College of Physicians has a leaflet.
Is Lyme disease common in Bavaria? || Yes, and in Austria; Borrelia is carried by ticks. The Centers for Disease Control and Prevention list the symptoms.
Wound Care and Dressings || Use Mepilex or Aquacel, change every two days, and write the Braden score on the chart.
"""

DE = """
Nachtbericht: {full} hat schlecht geschlafen und um drei Uhr 500 mg Paracetamol bekommen. || {given} bitte vor dem Frühstück wiegen.
Ich mache mir Sorgen um {given}, der seit einer Woche mittags nichts isst. || Fragen wir {title} {sur}, ob zu Hause etwas war.
{full} hat noch zwei Bücher aus der Bücherei, {full2} noch eines. || Ich habe beiden geschrieben.
Könnten wir die Dienste von {given} und {given2} am Sonntag tauschen? || Erledigt, {given2} beginnt um sechs.
Bei {full} werden am Mittwoch die Fäden gezogen. || Wer macht das? || {given}, wenn {title} {sur2} einverstanden ist.
Preis für den besten Aufsatz: {full}, Klasse 10c. || Gut gemacht, {given}!
Gestern waren {full} und {full2} zu Besuch in Zimmer 12. || Hat {sur} sich eingetragen?
Wie {title} {sur} schreibt, verträgt {given} keine Nüsse. || Die Küche weiß Bescheid.
Von {given} fehlt die Einwilligung. || Dann bleibt {given} am Donnerstag in der Schule, und {full2} betreut die Gruppe.
Physiotherapie: {title} {sur} ging zehn Meter mit dem Rollator. || Morgen übt {title} {sur} die Treppe.
Protokoll: anwesend waren {full}, {full2} und die Schulleiterin. || Entschuldigt: {title} {sur2}.
Worin unterscheiden sich Morbus Parkinson und Chorea Huntington? || Beide betreffen das Gehirn; Chorea Huntington wird vererbt.
Welche Untersuchungen macht man beim Cushing-Syndrom? || Einen Dexamethason-Test und ein MRT; die Deutsche Gesellschaft für Innere Medizin hat ein Merkblatt.
Kommt Borreliose in Bayern oft vor? || Ja, auch in Österreich; das Robert Koch-Institut führt eine Karte.
Verbandwechsel und Wundversorgung || Nehmen Sie Mepilex, wechseln Sie alle zwei Tage und tragen Sie den Braden-Wert ein.
"""

FR = """
Rapport de nuit : {full} a mal dormi et a reçu 500 mg de Paracétamol à trois heures. || Il faudra peser {given} avant le petit déjeuner.
Je m'inquiète pour {given}, qui ne mange plus à midi depuis une semaine. || Demandons à {title} {sur} s'il s'est passé quelque chose à la maison.
{full} doit rendre deux livres à la bibliothèque et {full2} un seul. || Je leur ai écrit.
Peut-on échanger les gardes de {given} et de {given2} dimanche ? || C'est fait, {given2} commence à six heures.
On enlève les points de {full} mercredi. || Qui s'en charge ? || {given}, si {title} {sur2} est d'accord.
Prix de la meilleure rédaction : {full}, classe de seconde. || Bravo, {given} !
Hier, {full} et {full2} sont venus en visite dans la chambre 12. || Est-ce que {given2} a signé le cahier ?
Comme {title} {sur} l'écrit, {given} est allergique aux noix. || La cuisine est prévenue.
Il manque l'autorisation de {given}. || Alors {given} reste à l'école jeudi, et {full2} s'occupe du groupe.
Kinésithérapie : {title} {sur} a marché dix mètres avec le déambulateur. || Demain {title} {sur} essaie l'escalier.
Compte rendu : étaient présents {full}, {full2} et la directrice. || Excusé : {title} {sur2}.
Quelle différence entre la maladie de Parkinson et la maladie de Huntington ? || Les deux touchent le cerveau ; la chorée de Huntington est héréditaire.
Quels examens fait-on pour le syndrome de Cushing ? || Un test à la Dexaméthasone et une IRM ; la Haute Autorité de Santé a publié une fiche.
La maladie de Lyme est-elle fréquente en Alsace ? || Oui, et en Autriche aussi ; les Allemands la surveillent de près.
Pansements et soins des plaies || Prenez Mepilex, changez tous les deux jours et notez le score de Braden.
"""

ES = """
Parte de noche: {full} durmió mal y recibió 500 mg de Paracetamol a las tres. || Hay que pesar a {given} antes del desayuno.
Me preocupa {given}, que lleva una semana sin comer al mediodía. || Preguntemos a {title} {sur} si pasó algo en casa.
{full} debe dos libros a la biblioteca y {full2} uno. || Les he escrito a los dos.
¿Podemos cambiar los turnos de {given} y {given2} el domingo? || Hecho, {given2} empieza a las seis.
El miércoles le quitan los puntos a {full}. || ¿Quién lo hace? || {given}, si {title} {sur2} está de acuerdo.
Premio a la mejor redacción: {full}, de cuarto. || ¡Bien hecho, {given}!
Ayer vinieron de visita {full} y {full2} a la habitación 12. || ¿Firmó {given2} en el libro?
Como escribe {title} {sur}, {given} es alérgica a las nueces. || La cocina lo sabe.
Falta la autorización de {given}. || Entonces {given} se queda el jueves en el colegio, y {full2} cuida del grupo.
Fisioterapia: {title} {sur} caminó diez metros con el andador. || Mañana {title} {sur} prueba la escalera.
Acta: asistieron {full}, {full2} y la directora. || Se disculpó {title} {sur2}.
¿En qué se diferencian la enfermedad de Parkinson y la de Huntington? || Las dos afectan al cerebro; la corea de Huntington se hereda.
¿Qué pruebas se hacen en el síndrome de Cushing? || Una prueba con Dexametasona y una resonancia; la Sociedad Española de Endocrinología tiene una hoja.
¿Es frecuente la enfermedad de Lyme en Asturias? || Sí, y también en Austria; los Alemanes la vigilan mucho.
Curas y apósitos || Use Mepilex, cambie cada dos días y anote la escala de Braden.
"""

NL = """
Nachtrapport: {full} heeft slecht geslapen en kreeg om drie uur 500 mg Paracetamol. || {given} moet vóór het ontbijt gewogen worden.
Ik maak me zorgen om {given}, die al een week tussen de middag niets eet. || Laten we {title} {sur} vragen of er thuis iets is.
{full} heeft nog twee boeken van de bibliotheek en {full2} nog één. || Ik heb beiden geschreven.
Kunnen we de diensten van {given} en {given2} zondag ruilen? || Gedaan, {given2} begint om zes uur.
Bij {full} gaan woensdag de hechtingen eruit. || Wie doet dat? || {given}, als {title} {sur2} het goed vindt.
Prijs voor het beste opstel: {full}, klas 4c. || Goed gedaan, {given}!
Gisteren waren {full} en {full2} op bezoek in kamer 12. || Heeft {given2} het boek getekend?
Zoals {title} {sur} schrijft, is {given} allergisch voor noten. || De keuken weet het.
Van {given} missen we de toestemming. || Dan blijft {given} donderdag op school, en {full2} past op de groep.
Fysiotherapie: {title} {sur} liep tien meter met de rollator. || Morgen oefent {title} {sur} de trap.
Notulen: aanwezig waren {full}, {full2} en de directeur. || Afgemeld: {title} {sur2}.
Wat is het verschil tussen de ziekte van Parkinson en de ziekte van Huntington? || Beide tasten de hersenen aan; de ziekte van Huntington is erfelijk.
Welk onderzoek hoort bij het syndroom van Cushing? || Een test met Dexamethason en een MRI; het Nederlands Huisartsen Genootschap heeft een folder.
Komt de ziekte van Lyme veel voor op de Veluwe? || Ja, en in Oostenrijk; de Duitsers houden het bij.
Wondzorg en verband || Neem Mepilex, wissel om de twee dagen en noteer de Bradenscore.
"""

LINES = {
    code: list(text.strip().splitlines())
    for code, text in (("en", EN), ("de", DE), ("fr", FR), ("es", ES), ("nl", NL))
}
