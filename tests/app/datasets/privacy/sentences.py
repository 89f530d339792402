"""What the invented patients and pupils say and what is written about them, in five languages.

A line is a question and an answer between " || ", or a text alone. Words in braces are filled in by
tests/app/datasets/privacy/make.py, which keeps their places as the answer key. Lines without braces hold nothing
to find: names of things, places, medicines, days and subjects, capitalised as each language does.
"""

EN = """
Patient: {full}, DOB {birth}, MRN {record}. Lives at {address}. || Noted; we will call {title} {sur} on {phone}.
{title} {sur} called about the results of last week. || Tell {title} {sur} that the results are normal.
Dear {title} {sur},\nthank you for your letter of last week. Your appointment stands.\nKind regards,\n{full}
My son {given} has had a fever since yesterday. Can he come to the clinic? || Please bring {given} before noon.
Can {given} come back to class 4b on Monday? || Yes, {given} may come back once the fever has been gone for a day.
Name: {last_first}\nDate of birth: {birth}\nNHS number: {nhs}\nE-mail: {email}
Where can I send the form for {full}? || To {email}, or by post to {address}.
{full} was admitted on Tuesday with chest pain. || Please note the allergy to penicillin in the chart of {full}.
I spoke with {given} {sur} this morning, she would rather have the afternoon slot. || Then move {given} to half past two.
Who picks up {given} after school? || Her grandfather, {full}, reachable at {phone}.
Student ID {student} belongs to {full} of year 9. || The report for {full} goes to {email}.
The pupil {full} ({birth}) changes school in August. || Send the file of {full} to the new school.
Please ring me back on {phone}, {full}. || We tried to reach {title} {sur} twice.
My social security number is {ssn}. Do you need it? || No. Please never send {ssn} by e-mail.
My card {card} was charged twice for the parking. || We refund the card {card} within five days.
Refund to the account {iban}, please. || The money is on its way to {iban}.
Login from {ip} failed three times for {email}. || We have blocked {ip} for an hour.
National Insurance number {nino}, patient {full}. || Thank you, {nino} is on file now.
Dr {sur} wants {given} to be seen by the physiotherapist. || I have booked {given} in with Nurse {sur2} on Thursday.
Is {given} allowed to take ibuprofen before sports? || Only if the parents of {given} have signed the form.
Insurance number: {record}. Policy holder: {full}. || Policy {record} covers the operation.
Yesterday {given} forgot the insulin pump at home. || Please call the mother of {given}, {title} {sur}, at {phone}.
This is {full} speaking, I would like to cancel my appointment. || All right, {title} {sur}, it is cancelled.
Our classmate {given} sits next to {given2} in maths. || Let {given2} and {given} work in different groups.
{given}'s blood pressure was 140 over 90 this morning. || Measure {given}'s blood pressure again at noon.
Mother: {full}, phone {phone}. Father: {full2}. || Call the mother first.
Emergency contact: {full} ({phone})
{initial} {sur}, born {birth}, is on ward 7. || The discharge letter of {initial} {sur} is ready.
Hello {given}, your glasses are at the front desk. || Thanks, {given}
Sent from the desk of {full}, {address}
When is the flu clinic open? || On Tuesday and Thursday from nine to noon, on the ground floor of the Main Building.
What should I bring to the first appointment? || Your insurance card, a list of your medicines and the referral letter.
Is Paracetamol safe together with Ibuprofen? || Usually yes, but ask the Pharmacy on the second floor.
How long may I park in front of the Emergency Department? || Twenty minutes. The car park on Church Street costs two pounds an hour.
Which chapters of Romeo and Juliet will be in the test on Friday? || Acts one to three, and the poem from the English book.
The Christmas concert of the Music Department is on 12 December 2025. || Rehearsals begin in November.
The X-ray unit moved to Building C in March 2024. || Follow the blue line from Reception.
Room 204 has 24 seats and costs 15.50 an hour. Version 2.4.1.0 of the form is the newest. || Use form B-12.
Does the Spanish course start in September? || Yes, on Monday 8 September, with Geography and History in the same block.
The Hepatitis B vaccine is given in three doses. || The second after 4 weeks, the third after 6 months.
Please arrive 15 minutes early at the Day Surgery Unit. || Bring Form 27 and your Medicare leaflet.
Our school trip goes to Scotland in May. || Pack a raincoat, The Highlands are wet.
"""

DE = """
Patient: {full}, geb. {birth}, Patientennummer {record}, wohnhaft {address}. || Notiert; wir rufen {title} {sur} unter {phone} an.
{title} {sur} fragt nach den Ergebnissen der letzten Woche. || Sagen Sie {title} {sur}, dass alles in Ordnung ist.
Sehr geehrte {title} {sur},\nvielen Dank für Ihren Brief. Der Termin bleibt bestehen.\nMit freundlichen Grüßen\n{full}
Meine Tochter {given} hat seit gestern Fieber. Darf sie in die Sprechstunde kommen? || Bringen Sie {given} bitte vor zwölf Uhr vorbei.
Kann {given} am Montag wieder in die Klasse 4b? || Ja, {given} darf kommen, wenn das Fieber einen Tag lang weg ist.
Name: {last_first}\nGeburtsdatum: {birth}\nVersichertennummer: {kvnr}\nE-Mail: {email}
Wohin schicke ich das Formular für {full}? || An {email} oder per Post an {address}.
{full} wurde am Dienstag mit Brustschmerzen aufgenommen. || Bitte die Allergie gegen Penicillin in der Akte von {full} vermerken.
Ich habe heute Morgen mit {given} {sur} gesprochen, sie möchte lieber den Nachmittag. || Dann legen wir {given} auf halb drei.
Wer holt {given} nach der Schule ab? || Der Großvater, {full}, erreichbar unter {phone}.
Schülernummer {student} gehört zu {full} aus der 9b. || Das Zeugnis von {full} geht an {email}.
Die Schülerin {full} ({birth}) wechselt im August die Schule. || Schicken Sie die Akte von {full} an die neue Schule.
Bitte rufen Sie mich zurück: {phone}, {full}. || Wir haben {title} {sur} zweimal nicht erreicht.
Meine Steuer-ID ist {steuer}. Brauchen Sie die? || Nein. Bitte schicken Sie {steuer} nie per Mail.
Meine Karte {card} wurde für das Parken zweimal belastet. || Wir erstatten den Betrag auf die Karte {card}.
Erstattung bitte auf das Konto {iban}. || Das Geld ist unterwegs zu {iban}.
Anmeldung von {ip} für {email} dreimal fehlgeschlagen. || Wir haben {ip} für eine Stunde gesperrt.
Herr Dr. {sur} möchte, dass {given} zur Physiotherapie geht. || Ich habe {given} bei Schwester {sur2} für Donnerstag eingetragen.
Darf {given} vor dem Sport Ibuprofen nehmen? || Nur wenn die Eltern von {given} unterschrieben haben.
Versicherungsnummer: {record}. Versicherte: {full}. || Der Vertrag {record2} deckt die Operation ab.
Gestern hat {given} die Insulinpumpe zu Hause vergessen. || Bitte die Mutter von {given} anrufen, {title} {sur}, {phone}.
Hier spricht {full}, ich möchte meinen Termin absagen. || Gut, {title} {sur}, er ist abgesagt.
{given} sitzt in Mathematik neben {given2}. || Lassen Sie {given2} und {given} in verschiedenen Gruppen arbeiten.
Der Blutdruck von {given} lag heute früh bei 140 zu 90. || Messen Sie bei {given} am Mittag noch einmal.
Mutter: {full}, Telefon {phone}. Vater: {full2}. || Zuerst die Mutter anrufen.
Im Notfall: {full} ({phone})
{initial} {sur}, geboren am {birth}, liegt auf Station 7. || Der Entlassbrief von {initial} {sur} ist fertig.
Hallo {given}, deine Brille liegt am Empfang. || Danke, {given}
{full}, {address}
Wann hat die Grippeambulanz geöffnet? || Dienstags und donnerstags von neun bis zwölf Uhr im Erdgeschoss des Haupthauses.
Was bringe ich zum ersten Termin mit? || Ihre Versichertenkarte, den Medikamentenplan und die Überweisung vom Hausarzt.
Darf ich Paracetamol zusammen mit Ibuprofen nehmen? || Meistens ja, aber fragen Sie in der Apotheke nach.
Wie lange darf ich vor der Notaufnahme parken? || Zwanzig Minuten. Das Parkhaus kostet zwei Euro pro Stunde.
Welche Kapitel von Faust kommen am Freitag in der Klassenarbeit dran? || Der erste Akt und das Gedicht aus dem Lesebuch.
Das Weihnachtskonzert der Musikschule ist am 12.12.2025. || Die Proben beginnen im November.
Die Röntgenabteilung ist im März 2024 in Haus C umgezogen. || Folgen Sie der blauen Linie ab dem Empfang.
Raum 204 hat 24 Plätze und kostet 15,50 Euro pro Stunde. || Nehmen Sie das Formular B-12.
Beginnt der Spanischkurs im September? || Ja, am Montag, zusammen mit Erdkunde und Geschichte.
Die Impfung gegen Hepatitis B besteht aus drei Dosen. || Die zweite nach vier Wochen, die dritte nach sechs Monaten.
Bitte kommen Sie eine Viertelstunde früher in die Tagesklinik. || Bringen Sie den Aufklärungsbogen und bequeme Kleidung mit.
Die Klassenfahrt geht im Mai nach Bayern. || Packen Sie Regenjacke und Wanderschuhe ein.
"""

FR = """
Patient : {full}, né le {birth}, dossier n° {record}, domicilié {address}. || C'est noté ; nous appellerons {title} {sur} au {phone}.
{title} {sur} a appelé au sujet des résultats de la semaine dernière. || Dites à {title} {sur} que tout est normal.
Cher {title} {sur},\nmerci pour votre lettre. Le rendez-vous est maintenu.\nCordialement,\n{full}
Ma fille {given} a de la fièvre depuis hier. Peut-elle venir en consultation ? || Amenez {given} avant midi, s'il vous plaît.
Est-ce que {given} peut revenir en classe lundi ? || Oui, {given} peut revenir si la fièvre est tombée depuis un jour.
Nom : {last_first}\nDate de naissance : {birth}\nNuméro de sécurité sociale : {nir}\nCourriel : {email}
Où dois-je envoyer le formulaire de {full} ? || À {email}, ou par la poste : {address}.
{full} a été hospitalisé mardi pour des douleurs à la poitrine. || Notez l'allergie à la pénicilline dans le dossier de {full}.
J'ai parlé avec {given} {sur} ce matin, elle préfère l'après-midi. || Alors déplaçons {given} à quatorze heures trente.
Qui vient chercher {given} après l'école ? || Son grand-père, {full}, joignable au {phone}.
Numéro d'étudiant {student}, au nom de {full}. || Le bulletin de {full} part à {email}.
L'élève {full} ({birth}) change d'école en août. || Envoyez le dossier de {full} à la nouvelle école.
Rappelez-moi au {phone}, {full}. || Nous avons essayé de joindre {title} {sur} deux fois.
Mon numéro de sécurité sociale est {nir}. En avez-vous besoin ? || Non. N'envoyez jamais {nir} par courriel.
Ma carte {card} a été débitée deux fois pour le parking. || Nous remboursons la carte {card} sous cinq jours.
Remboursement sur le compte {iban}, merci. || L'argent est en route vers {iban}.
La connexion depuis {ip} a échoué trois fois pour {email}. || Nous avons bloqué {ip} pendant une heure.
Le docteur {sur} souhaite que {given} voie le kinésithérapeute. || J'ai inscrit {given} jeudi chez l'infirmière {sur2}.
Est-ce que {given} peut prendre de l'ibuprofène avant le sport ? || Seulement si les parents de {given} ont signé.
Numéro d'adhérent : {record}. Assurée : {full}. || Le contrat n° {record2} couvre l'opération.
Hier, {given} a oublié la pompe à insuline à la maison. || Appelez la mère de {given}, {title} {sur}, au {phone}.
Je m'appelle {full} et je voudrais annuler mon rendez-vous. || Très bien, {title} {sur}, c'est annulé.
{given} est assis à côté de {given2} en mathématiques. || Faites travailler {given2} et {given} dans des groupes différents.
La tension de {given} était de 14/9 ce matin. || Reprenez la tension de {given} à midi.
Mère : {full}, téléphone {phone}. Père : {full2}. || Appelez d'abord la mère.
Personne à prévenir : {full} ({phone})
{initial} {sur}, né le {birth}, est au service 7. || La lettre de sortie de {initial} {sur} est prête.
Bonjour {given}, tes lunettes sont à l'accueil. || Merci, {given}
{full}, {address}
Quand la consultation de vaccination est-elle ouverte ? || Le mardi et le jeudi de neuf heures à midi, au rez-de-chaussée du Bâtiment principal.
Que dois-je apporter au premier rendez-vous ? || Votre carte Vitale, la liste de vos médicaments et la lettre du médecin.
Peut-on prendre du Doliprane avec de l'Ibuprofène ? || En général oui, mais demandez à la Pharmacie.
Combien de temps puis-je stationner devant les Urgences ? || Vingt minutes. Le parking de la gare coûte deux euros de l'heure.
Quels chapitres du Petit Prince sont au contrôle de vendredi ? || Les chapitres un à trois et la poésie du livre de Français.
Le concert de Noël de l'école de musique a lieu le 12 décembre 2025. || Les répétitions commencent en novembre.
La radiologie a déménagé au Bâtiment C en mars 2024. || Suivez la ligne bleue depuis l'Accueil.
La salle 204 a 24 places et coûte 15,50 euros de l'heure. || Prenez le formulaire B-12.
Le cours d'espagnol commence-t-il en septembre ? || Oui, le lundi 8 septembre, avec l'Histoire et la Géographie.
Le vaccin contre l'hépatite B se fait en trois doses. || La deuxième après quatre semaines, la troisième après six mois.
Arrivez un quart d'heure plus tôt à l'Hôpital de jour. || Apportez le questionnaire et une tenue confortable.
Le voyage scolaire va en Bretagne en mai. || Prévoyez un imperméable, il pleut souvent à Brest.
"""

ES = """
Paciente: {full}, nacido el {birth}, nº de historia {record}, vive en {address}. || Anotado; llamaremos a {title} {sur} al {phone}.
{title} {sur} llamó por los resultados de la semana pasada. || Diga a {title} {sur} que todo está bien.
Estimado {title} {sur}:\ngracias por su carta. La cita se mantiene.\nAtentamente,\n{full}
Mi hija {given} tiene fiebre desde ayer. ¿Puede venir a la consulta? || Traiga a {given} antes del mediodía, por favor.
¿Puede {given} volver a clase el lunes? || Sí, {given} puede volver si lleva un día sin fiebre.
Nombre: {last_first}\nFecha de nacimiento: {birth}\nDNI: {dni}\nCorreo: {email}
¿Adónde envío el formulario de {full}? || A {email}, o por correo a {address}.
{full} ingresó el martes con dolor en el pecho. || Anote la alergia a la penicilina en la historia de {full}.
Esta mañana hablé con {given} {sur}, prefiere la tarde. || Entonces pasamos a {given} a las dos y media.
¿Quién recoge a {given} después del colegio? || Su abuelo, {full}, en el teléfono {phone}.
Número de estudiante {student}, a nombre de {full}. || El boletín de {full} va a {email}.
La alumna {full} ({birth}) cambia de colegio en agosto. || Envíe el expediente de {full} al nuevo colegio.
Llámeme al {phone}, {full}. || Intentamos localizar a {title} {sur} dos veces.
Mi NIE es {nie}. ¿Lo necesitan? || No. No envíe nunca {nie} por correo electrónico.
Me cobraron dos veces el aparcamiento en la tarjeta {card}. || Devolvemos el importe a la tarjeta {card} en cinco días.
Reembolso a la cuenta {iban}, por favor. || El dinero está en camino a {iban}.
El acceso desde {ip} falló tres veces para {email}. || Hemos bloqueado {ip} durante una hora.
El doctor {sur} quiere que {given} vaya al fisioterapeuta. || He apuntado a {given} el jueves con la enfermera {sur2}.
¿Puede {given} tomar ibuprofeno antes de gimnasia? || Solo si los padres de {given} han firmado.
Número de afiliado: {record}. Titular: {full}. || La póliza {record2} cubre la operación.
Ayer {given} olvidó la bomba de insulina en casa. || Llame a la madre de {given}, {title} {sur}, al {phone}.
Me llamo {full} y quiero cancelar mi cita. || Muy bien, {title} {sur}, está cancelada.
{given} se sienta al lado de {given2} en matemáticas. || Que {given2} y {given} trabajen en grupos distintos.
La tensión de {given} era de 14/9 esta mañana. || Tome la tensión a {given} otra vez a mediodía.
Madre: {full}, teléfono {phone}. Padre: {full2}. || Llame primero a la madre.
En caso de urgencia: {full} ({phone})
{initial} {sur}, nacida el {birth}, está en la planta 7. || El informe de alta de {initial} {sur} está listo.
Hola, {given}: tus gafas están en recepción. || Gracias, {given}
{full}, {address}
¿Cuándo abre la consulta de vacunas? || Los martes y jueves de nueve a doce, en la planta baja del Edificio principal.
¿Qué llevo a la primera cita? || La tarjeta sanitaria, la lista de medicinas y el volante del médico.
¿Puedo tomar Paracetamol junto con Ibuprofeno? || Por lo general sí, pero pregunte en la Farmacia.
¿Cuánto tiempo puedo aparcar delante de Urgencias? || Veinte minutos. El aparcamiento cuesta dos euros la hora.
¿Qué capítulos del Quijote entran en el examen del viernes? || Del uno al tres y el poema del libro de Lengua.
El concierto de Navidad de la escuela de música es el 12 de diciembre de 2025. || Los ensayos empiezan en noviembre.
Radiología se trasladó al Edificio C en marzo de 2024. || Siga la línea azul desde Recepción.
La sala 204 tiene 24 plazas y cuesta 15,50 euros la hora. || Use el formulario B-12.
¿El curso de Inglés empieza en septiembre? || Sí, el lunes 8 de septiembre, con Geografía e Historia.
La vacuna de la hepatitis B se pone en tres dosis. || La segunda a las cuatro semanas y la tercera a los seis meses.
Llegue quince minutos antes al Hospital de Día. || Traiga el cuestionario y ropa cómoda.
La excursión va a Galicia en mayo. || Lleve un impermeable, en Santiago llueve mucho.
"""

NL = """
Patiënt: {full}, geboren {birth}, patiëntnummer {record}, woont {address}. || Genoteerd; we bellen {title} {sur} op {phone}.
{title} {sur} belde over de uitslag van vorige week. || Zeg tegen {title} {sur} dat alles in orde is.
Geachte {title} {sur},\nbedankt voor uw brief. De afspraak blijft staan.\nMet vriendelijke groet,\n{full}
Mijn dochter {given} heeft sinds gisteren koorts. Mag ze naar het spreekuur komen? || Breng {given} graag vóór twaalf uur.
Mag {given} maandag weer naar school? || Ja, {given} mag komen als de koorts een dag weg is.
Naam: {last_first}\nGeboortedatum: {birth}\nBSN: {bsn}\nE-mail: {email}
Waar stuur ik het formulier voor {full} heen? || Naar {email}, of per post naar {address}.
{full} is dinsdag opgenomen met pijn op de borst. || Noteer de allergie voor penicilline in het dossier van {full}.
Ik heb vanochtend met {given} {sur} gesproken, zij wil liever de middag. || Dan zetten we {given} op half drie.
Wie haalt {given} op na school? || Haar opa, {full}, bereikbaar op {phone}.
Leerlingnummer {student} hoort bij {full} uit de derde. || Het rapport van {full} gaat naar {email}.
De leerling {full} ({birth}) gaat in augustus naar een andere school. || Stuur het dossier van {full} naar de nieuwe school.
Bel mij terug op {phone}, {full}. || We hebben {title} {sur} twee keer gebeld.
Mijn burgerservicenummer is {bsn}. Heeft u dat nodig? || Nee. Stuur het burgerservicenummer {bsn} nooit per mail.
Mijn kaart {card} is twee keer belast voor het parkeren. || We storten het terug op kaart {card}.
Graag terugstorten op rekening {iban}. || Het geld is onderweg naar {iban}.
Inloggen vanaf {ip} mislukte drie keer voor {email}. || We hebben {ip} een uur geblokkeerd.
Dokter {sur} wil dat {given} naar de fysiotherapeut gaat. || Ik heb {given} donderdag bij zuster {sur2} ingepland.
Mag {given} ibuprofen nemen vóór gym? || Alleen als de ouders van {given} hebben getekend.
Polisnummer: {record}. Verzekerde: {full}. || Polis {record2} dekt de operatie.
Gisteren vergat {given} de insulinepomp thuis. || Bel de moeder van {given}, {title} {sur}, op {phone}.
Mijn naam is {full}, ik wil mijn afspraak afzeggen. || Goed, {title} {sur}, hij is afgezegd.
{given} zit bij wiskunde naast {given2}. || Laat {given2} en {given} in verschillende groepen werken.
De bloeddruk van {given} was vanochtend 140 over 90. || Meet de bloeddruk van {given} om twaalf uur nog eens.
Moeder: {full}, telefoon {phone}. Vader: {full2}. || Bel eerst de moeder.
Bij nood: {full} ({phone})
{initial} {sur}, geboren op {birth}, ligt op afdeling 7. || De ontslagbrief van {initial} {sur} is klaar.
Hoi {given}, je bril ligt bij de receptie. || Dank je, {given}
{full}, {address}
Wanneer is de grieppoli open? || Op dinsdag en donderdag van negen tot twaalf, op de begane grond van het Hoofdgebouw.
Wat neem ik mee naar de eerste afspraak? || Uw zorgpas, de lijst met medicijnen en de verwijsbrief van de huisarts.
Mag ik Paracetamol samen met Ibuprofen nemen? || Meestal wel, maar vraag het bij de Apotheek.
Hoe lang mag ik voor de Spoedeisende Hulp parkeren? || Twintig minuten. De parkeergarage kost twee euro per uur.
Welke hoofdstukken van Max Havelaar komen vrijdag in de toets? || Een tot en met drie, en het gedicht uit het boek van Nederlands.
Het kerstconcert van de muziekschool is op 12 december 2025. || De repetities beginnen in november.
De röntgenafdeling is in maart 2024 verhuisd naar Gebouw C. || Volg de blauwe lijn vanaf de Receptie.
Lokaal 204 heeft 24 plaatsen en kost 15,50 euro per uur. || Gebruik formulier B-12.
Begint de cursus Spaans in september? || Ja, op maandag 8 september, samen met Aardrijkskunde en Geschiedenis.
De prik tegen hepatitis B bestaat uit drie doses. || De tweede na vier weken, de derde na zes maanden.
Kom een kwartier eerder naar de Dagbehandeling. || Neem de vragenlijst en makkelijke kleding mee.
De schoolreis gaat in mei naar Friesland. || Neem een regenjas mee, op Terschelling waait het.
"""

LINES = {
    code: [line.replace("\\n", "\n") for line in text.strip().splitlines()]
    for code, text in (("en", EN), ("de", DE), ("fr", FR), ("es", ES), ("nl", NL))
}
