"""What the weights for names are learned from (learn.py): people said of in passing, and texts without any.

None of these sentences stands in the files by which the rules are judged. The names that are put
in come from the rules' own lists, which the files do not use.
"""

EN = """
Who found the keys? || {full}.
Who is on call tonight? || {full} is, and {given2} after midnight.
Which pupil is absent? || {given}.
{full} tripped on the stairs at 9:15; {given} was seen by the nurse.
At noon {full} refused the soup, later {given} ate some bread. || Fine.
Feedback for {given}: clear hand, more paragraphs. || {given} will be pleased.
Consent for {given}: missing. Consent for {given2}: signed.
Send this on to {given} and {given2}, please. || Forwarded to {full}.
Please put {full} down for Tuesday and {full2} for Friday.
Bed 2, {full}, 77 years, stroke; bed 3, {full2}, 59 years, gallstones.
{full} won the race. {given2} came second and {sur} third.
The dietitian, {full}, has left a note. || Did {given} read it?
We helped {given} into the chair and gave {given2} a blanket.
Should {given} wear the brace at night? || Does {full} still have it?
Weight of {given}: 31 kg. Temperature of {given2}: 37.9.
{sur} has been discharged; {sur2} remains under observation.
As {full} explained, the lift is out of order.
Absent: {given}, {given2}. Late: {full}.
I told {given} that {full2} would ring. || {given} was glad.
{given} plays the flute, {given2} sings, and {full} conducts.
Nobody but {full} knows the code. || Not even {given2}?
Was {given} vaccinated? || On 3 May, by {full}.
{full} and {full2} share a locker. || I gave {given} the key.
Kind of you, {given}! || No trouble at all, {given2}.
Hives appeared on the arms of {given}. || {given} had eaten strawberries.
Grandad {given} and Auntie {given2} may collect the twins.
Cream for {given}'s elbows, drops for {given2}. || I asked {full} to order both.
{full} rang twice to ask about the bill. || I will ring {given} back after lunch.
We moved {given} to the other class because {given2} would not stop talking. || Good. Tell {full} too.
The swab from {full} was negative, the one from {full2} is still at the lab. || Has {sur} been told?
Is {given} on the list? || Yes, and so is {given2}; {full} is not.
{given} cried during assembly and went home at eleven. || Her grandmother collected {given} at half past.
Room 3: {full}. Room 4: {full2}. || Swap them.
Breakfast for {sur} without milk, please. || And for {sur2}? || The same.
I think {given} and {given2} copied from each other. || Ask {given} first.
Has anybody seen {given}? || With {full}, in the garden.
According to {full}, the fall happened at night. || {sur} was alone then.
The bandage was changed by {full}. || When will {given} look at it again?
Reminder: {full} needs a new prescription; {full2} was given one on Monday.
{given} loves reading and helps {given2} with the sums. || Lovely.
On admission {sur} was pale and short of breath. Overnight {sur} improved. || Discharge tomorrow.
The appointment that {full} made is too early. || We asked {given}; she would rather come at ten.
Please let {given} sit in front. || Did {full2} agree?
What does {given} need for the trip? || A raincoat. {given2} has two.
The insulin of {full} is in the fridge, and {given} knows the dose. || Thank you, {given}.
Thanks to {full} for the cake. || It was baked by {given2}.
The interview with {full} takes place in the library. || {sur} will bring the papers.
Ataxia is a loss of coordination. Friedreich ataxia begins in childhood and is named after Nikolaus Friedreich.
BACKGROUND: Sepsis is common. METHODS: We searched Embase and the Cochrane Library. RESULTS: Mortality fell. CONCLUSIONS: Early treatment helps.
Patients with Graves disease may have Graves orbitopathy. The Schirmer test measures tears. In Sjogren syndrome both eyes are dry.
The Glasgow Coma Scale, the Apgar score and the Barthel Index are used in Europe and in the United States.
Survival was analysed by the Kaplan-Meier method and Cox regression; groups were compared with the Mann-Whitney test and Fisher's exact test.
Staphylococcus aureus and Pseudomonas grow in wounds. Candida is a yeast. Infection with Giardia comes from water.
The National Institutes of Health, the World Health Organization and Johns Hopkins University publish guidelines.
What is Wegener granulomatosis? || A disease of the blood vessels. Treatment includes Rituximab and Prednisone. Side effects of Rituximab are fever and rash.
How is Tourette syndrome treated? || There is no cure. Children with Tourette syndrome often improve. Haloperidol may help.
Doppler ultrasound and the Holter monitor show how the heart works. Other tests include EKG, MRI and Coombs tests.
Causes of Bell's palsy || Bell's palsy may follow a viral infection. Herpes simplex is one of them.
Anemia Overview || Anemia is a condition in which the blood has too few red cells. Other names for Anemia: iron-poor blood, Cooley anemia.
In Mediterranean and African families Thalassemia is more common. Most carriers in Sardinia feel well.
IGF-I, LDL-C, TNF-alpha and CD4 counts were measured by ELISA and PCR. Levels of IL-6 were higher.
Who is at risk for Ebola? || People who care for the sick. The virus was found near the Ebola River in Congo.
The Trendelenburg position and the Heimlich manoeuvre belong to first aid. Use a Foley catheter; clean with Betadine.
The Romans built Hadrian's Wall. The Normans came in 1066, and Normandy is in France. Queen Victoria reigned for 63 years.
Photosynthesis happens in chloroplasts. Newton's laws describe motion; Ohm's law describes current. Mendel crossed peas.
The Thames flows through London. Mount Everest is in Nepal. The Sahara is the largest hot desert.
Chapter 3: Cells and Tissues || Draw a cell. Label the Nucleus, the Membrane and the Golgi apparatus.
Down syndrome, Turner syndrome and Klinefelter syndrome are found by a blood test. Screening is offered to all Women.
Von Willebrand disease lowers Factor VIII. Hemophilia A is treated with Factor VIII. Rh disease is prevented by Rhogam.
Choosing a School Lunch || Offer Vegetables, Fruit and Water. Snickers and Pepsi are not served on Fridays.
The Mini-Mental State Examination and the Beck Depression Inventory take ten minutes. Scores on the Hamilton scale fell.
Medicare covers the vaccine. Medtronic pumps and Dexcom sensors are free. Ask Aetna for a form.
"""

DE = """
Wer hat die Schlüssel gefunden? || {full}.
Wer hat heute Nacht Dienst? || {full}, und ab Mitternacht {given2}.
Welches Kind fehlt? || {given}.
{full} ist um 9:15 Uhr auf der Treppe gestolpert; die Pflegerin hat {given} untersucht.
Mittags wollte {full} keine Suppe, später aß {given} etwas Brot. || Gut.
Rückmeldung an {given}: saubere Schrift, mehr Absätze. || Da freut sich {given}.
Einwilligung von {given}: fehlt. Einwilligung von {given2}: liegt vor.
Leiten Sie das bitte an {given} und {given2} weiter. || Ging an {full}.
Tragen Sie {full} für Dienstag ein und {full2} für Freitag.
Bett 2, {full}, 77 Jahre, Schlaganfall; Bett 3, {full2}, 59 Jahre, Gallensteine.
{full} gewann den Lauf, {given2} wurde Zweite.
Die Diätassistentin {full} hat einen Zettel dagelassen. || Hat {given} ihn gelesen?
Wir halfen {given} in den Sessel und gaben {given2} eine Decke.
Soll {given} die Schiene nachts tragen? || Hat {full} sie noch?
Gewicht von {given}: 31 kg. Temperatur von {given2}: 37,9.
Wie {full} erklärte, ist der Aufzug kaputt.
Es fehlten {given} und {given2}; zu spät kam {full}.
Ich habe {given} gesagt, dass {full2} anruft. || {given} war froh.
{given} spielt Flöte, {given2} singt, und {full} dirigiert.
Wurde {given} geimpft? || Am 3. Mai, von {full}.
Auf den Armen von {given} zeigte sich Ausschlag. || {given} hatte Erdbeeren gegessen.
Die Salbe ist für {given}, die Tropfen sind für {given2}. || Ich bat {full}, beides zu bestellen.
Angst vor Zahnärzten ist häufig. Gegen Übelkeit hilft Ingwer. An Feiertagen, an Ostern und an Silvester bleibt das Labor zu.
Zur Vorbeugung dienen Bewegung, Obst und Gemüse. Bei Kopfschmerzen helfen Ruhe und Wasser. Vor Prüfungen schlafen Kinder schlecht.
Für Rollstühle gibt es Rampen. Ohne Termin keine Blutabnahme. Mit Handschuhen arbeiten, nach Kontakt Hände waschen.
{full} hat zweimal wegen der Rechnung angerufen. || Ich rufe {given} nach dem Mittagessen zurück.
Wir haben {given} in die andere Klasse gesetzt, weil {given2} dauernd redet. || Gut. Sagen Sie es auch {full}.
Der Abstrich von {full} war negativ, der von {full2} ist noch im Labor. || Weiß Frau {sur} Bescheid?
Steht {given} auf der Liste? || Ja, und {given2} auch; {full} nicht.
{given} hat im Morgenkreis geweint und ging um elf nach Hause. || Die Oma hat {given} abgeholt.
Zimmer 3: {full}. Zimmer 4: {full2}. || Bitte tauschen.
Frühstück für Herrn {sur} ohne Milch. || Und für Frau {sur2}? || Auch ohne.
Ich glaube, {given} und {given2} haben voneinander abgeschrieben. || Fragen Sie zuerst {given}.
Hat jemand {given} gesehen? || Bei {full}, im Garten.
Laut {full} war der Sturz in der Nacht. || Da war {given} allein.
Den Verband hat {full} gewechselt. || Wann schaut {given} wieder danach?
Erinnerung: {full} braucht ein neues Rezept; {full2} bekam eines am Montag.
{given} liest gern und hilft {given2} beim Rechnen. || Schön.
Den Termin von {full} müssen wir verschieben. || {given} kommt lieber um zehn.
Bitte lassen Sie {given} vorn sitzen. || Ist {full2} einverstanden?
Was braucht {given} für den Ausflug? || Eine Regenjacke. {given2} hat zwei.
Das Insulin von {full} liegt im Kühlschrank, die Dosis kennt {given}. || Danke, {given}.
Der Kuchen ist von {full}. || Gebacken hat ihn {given2}.
Das Gespräch mit {full} ist in der Bücherei. || {given} bringt die Unterlagen mit.
Gelobt wurden {given}, {given2} und {full}. || Verdient.
Die Ataxie ist eine Störung der Koordination. Die Friedreich-Ataxie beginnt in der Kindheit.
Hintergrund: Die Sepsis ist häufig. Methoden: Gesucht wurde in der Cochrane-Datenbank. Ergebnisse: Die Sterblichkeit sank.
Beim Morbus Basedow treten die Augen hervor. Der Schirmer-Test misst die Tränen. Beim Sjögren-Syndrom sind die Augen trocken.
Die Glasgow-Koma-Skala, der Apgar-Wert und der Barthel-Index werden in Europa und in Amerika benutzt.
Staphylokokken und Pseudomonas wachsen in Wunden. Candida ist ein Hefepilz. Giardien kommen aus dem Wasser.
Das Bundesministerium für Gesundheit, die Barmer und die Techniker Krankenkasse haben Merkblätter.
Was ist ein Karpaltunnelsyndrom? || Ein Nerv wird eingeengt. Zur Behandlung gehören Schiene, Kortison und Operation.
Wie wird das Tourette-Syndrom behandelt? || Eine Heilung gibt es nicht. Haloperidol kann helfen.
Die Ultraschalluntersuchung und das Langzeit-EKG zeigen, wie das Herz arbeitet. Andere Untersuchungen sind MRT und CT.
Die Römer bauten den Limes. Die Normannen kamen 1066, und die Normandie liegt in Frankreich. Kaiser Karl wurde in Aachen gekrönt.
Die Photosynthese findet in Chloroplasten statt. Das Ohmsche Gesetz beschreibt den Strom. Die Mendelschen Regeln gelten für Erbsen.
Die Donau fließt durch Wien. Der Mont Blanc liegt in den Alpen. Die Sahara ist die größte Trockenwüste.
Die Hausordnung gilt für Schülerinnen, Schüler und Gäste. Handys bleiben im Spind. Der Kiosk öffnet um neun.
Guten Morgen! Guten Tag! Gute Nacht! Auf Wiedersehen! Das sind Begrüßungen. Grüß Gott sagt man in Bayern.
Der Wundverband wird mit Octenisept gereinigt. Danach folgen Kompresse und Binde. Bitte Handschuhe und Schürze tragen.
Beim Blutdruckmessen sitzt der Patient ruhig. Die Manschette liegt am Oberarm. Werte über 140 gelten als Bluthochdruck.
Die Ethikkommission hat zugestimmt. Die Pflegedienstleitung prüft den Dienstplan. Der Betriebsrat wird gehört.
Die Bundesrepublik Deutschland besteht aus Ländern. In Sachsen und Thüringen beginnen die Ferien früher.
Medikamente wie Ramipril, Marcumar und Bisoprolol werden morgens gegeben. Nach Heparin Blutbild kontrollieren.
"""

FR = """
Qui a trouvé les clés ? || {full}.
Qui est de garde cette nuit ? || {full}, puis {given2} après minuit.
Quel élève est absent ? || {given}.
À 9 h 15, {full} a trébuché dans l'escalier ; l'infirmière a examiné {given}.
À midi {full} a refusé la soupe, plus tard {given} a mangé du pain. || Bien.
Retour pour {given} : belle écriture, plus de paragraphes. || {given} sera contente.
Autorisation de {given} : manquante. Celle de {given2} : signée.
Faites suivre à {given} et à {given2}. || Transmis à {full}.
Inscrivez {full} pour mardi et {full2} pour vendredi.
Lit 2, {full}, 77 ans, AVC ; lit 3, {full2}, 59 ans, calculs.
{full} a gagné la course, {given2} est arrivée deuxième.
La diététicienne, {full}, a laissé un mot. || {given} l'a-t-elle lu ?
Nous avons aidé {given} à s'asseoir et donné une couverture à {given2}.
Faut-il que {given} porte l'attelle la nuit ? || Est-ce que {full} l'a encore ?
Poids de {given} : 31 kg. Température de {given2} : 37,9.
Comme {full} l'a expliqué, l'ascenseur est en panne.
Absents : {given}, {given2}. En retard : {full}.
J'ai dit à {given} que {full2} appellerait. || {given} était contente.
{given} joue de la flûte, {given2} chante et {full} dirige.
{given} a-t-il été vacciné ? || Le 3 mai, par {full}.
Des plaques sont apparues sur les bras de {given}. || {given} avait mangé des fraises.
{full} a téléphoné deux fois pour la facture. || Je rappelle {given} après le déjeuner.
Nous avons mis {given} dans l'autre classe parce que {given2} parle sans arrêt. || Bien. Dites-le aussi à {full}.
Le prélèvement de {full} est négatif, celui de {full2} est encore au laboratoire. || Mme {sur} le sait ?
Est-ce que {given} est sur la liste ? || Oui, et {given2} aussi ; {full} non.
{given} a pleuré pendant la réunion et rentre à onze heures. || Sa grand-mère a récupéré {given}.
Chambre 3 : {full}. Chambre 4 : {full2}. || Échangez-les.
Le petit déjeuner de {full} sans lait. || Et pour {full2} ? || Pareil.
Je crois que {given} et {given2} ont copié. || Interrogez {given} d'abord.
Quelqu'un a vu {given} ? || Avec {full}, au jardin.
Selon {full}, la chute a eu lieu la nuit. || {given} dormait alors.
Le pansement a été changé par {full}. || Quand {given} repasse-t-elle ?
Rappel : {full} attend une nouvelle ordonnance ; {full2} en a reçu une lundi.
{given} adore lire et aide {given2} en calcul. || Très bien.
Le rendez-vous de {full} est trop tôt. || Nous avons demandé à {given} ; elle préfère dix heures.
Laissez {given} s'asseoir devant. || Et {full2}, qu'en dit-elle ?
L'insuline de {full} est au frigo et {given} connaît la dose. || Merci {given}.
Le gâteau est de {full}. || C'est {given2} qui l'a fait.
L'entretien avec {full} se tient à la bibliothèque. || {given} apporte les papiers.
Félicitations à {given}, {given2} et {full}. || Mérité.
L'ataxie de Friedreich commence dans l'enfance. Le syndrome de Gougerot-Sjögren assèche les yeux. Le test de Schirmer mesure les larmes.
Contexte : la septicémie est fréquente. Méthodes : nous avons cherché dans la base Cochrane. Résultats : la mortalité baisse.
L'échelle de Glasgow, le score d'Apgar et l'indice de Barthel sont utilisés en Europe et aux États-Unis.
Le Staphylocoque doré et le Pseudomonas poussent dans les plaies. Le Candida est une levure.
L'Assurance Maladie, le Ministère de la Santé et l'Institut Pasteur publient des fiches.
Qu'est-ce que la maladie de Basedow ? || Une maladie de la thyroïde. Le traitement comprend le Néomercazole.
Comment traite-t-on le syndrome de Gilles de la Tourette ? || Il n'y a pas de remède. L'Halopéridol peut aider.
Les Romains ont construit le pont du Gard. Les Normands ont pris l'Angleterre en 1066 ; la Normandie est en France.
La loi d'Ohm décrit le courant, les lois de Newton le mouvement. Le théorème de Thalès et celui de Pythagore sont au programme.
La Seine traverse Paris. Le Mont Blanc est dans les Alpes. Le Sahara est le plus grand désert chaud.
Chapitre 3 : Les Cellules || Dessinez une cellule. Légendez le Noyau et la Membrane.
Bonjour et Bonsoir sont des salutations. Bonne Nuit se dit le soir. Joyeux Noël se dit en décembre.
On nettoie la plaie avec de la Bétadine, puis on pose un Mepitel. Le Kardégic est arrêté avant.
La Sécurité sociale et la Croix-Rouge ont un bureau à Lyon. Les Belges et les Suisses parlent aussi français.
Le Conseil de classe et le Conseil d'administration se réunissent. La Vie scolaire ouvre à huit heures.
"""

ES = """
¿Quién encontró las llaves? || {full}.
¿Quién está de guardia esta noche? || {full}, y {given2} después de medianoche.
¿Qué alumno falta? || {given}.
A las 9:15 {full} tropezó en la escalera; la enfermera examinó a {given}.
Al mediodía {full} rechazó la sopa, más tarde {given} comió pan. || Bien.
Comentario para {given}: buena letra, más párrafos. || {given} se alegrará.
Permiso de {given}: falta. Permiso de {given2}: firmado.
Reenvíe esto a {given} y a {given2}. || Enviado a {full}.
Apunte a {full} para el martes y a {full2} para el viernes.
Cama 2, {full}, 77 años, ictus; cama 3, {full2}, 59 años, cálculos.
{full} ganó la carrera y {given2} llegó segunda.
La dietista, {full}, dejó una nota. || ¿La leyó {given}?
Ayudamos a {given} a sentarse y dimos una manta a {given2}.
¿Debe {given} llevar la férula de noche? || ¿La tiene todavía {full}?
Peso de {given}: 31 kg. Temperatura de {given2}: 37,9.
Como explicó {full}, el ascensor no funciona.
Ausentes: {given}, {given2}. Tarde: {full}.
Le dije a {given} que {full2} llamaría. || {given} se alegró.
{given} toca la flauta, {given2} canta y {full} dirige.
¿Vacunaron a {given}? || El 3 de mayo, lo hizo {full}.
Salieron ronchas en los brazos de {given}. || {given} había comido fresas.
{full} llamó dos veces por la factura. || Llamaré a {given} después de comer.
Pasamos a {given} a la otra clase porque {given2} habla sin parar. || Bien. Dígaselo también a {full}.
El frotis de {full} salió negativo, el de {full2} sigue en el laboratorio. || ¿Lo sabe la señora {sur}?
¿Está {given} en la lista? || Sí, y {given2} también; {full} no.
{given} lloró en la asamblea y se fue a las once. || Su abuela recogió a {given}.
Habitación 3: {full}. Habitación 4: {full2}. || Cámbielos.
El desayuno de {full} sin leche. || ¿Y el de {full2}? || Igual.
Creo que {given} y {given2} se copiaron. || Pregunte primero a {given}.
¿Alguien ha visto a {given}? || Con {full}, en el jardín.
Según {full}, la caída fue de noche. || {given} dormía entonces.
El vendaje lo cambió {full}. || ¿Cuándo vuelve {given}?
Recordatorio: {full} necesita otra receta; a {full2} se la dieron el lunes.
A {given} le encanta leer y ayuda a {given2} con las cuentas. || Muy bien.
La cita de {full} es muy temprano. || Preguntamos a {given}; prefiere las diez.
Deje que {given} se siente delante. || ¿Y {full2} qué dice?
La insulina de {full} está en la nevera y {given} sabe la dosis. || Gracias, {given}.
La tarta es de {full}. || La hizo {given2}.
La entrevista con {full} es en la biblioteca. || {given} trae los papeles.
Felicidades a {given}, {given2} y {full}. || Merecido.
La ataxia de Friedreich empieza en la infancia. El síndrome de Sjögren seca los ojos. La prueba de Schirmer mide las lágrimas.
Antecedentes: la sepsis es frecuente. Métodos: buscamos en la base Cochrane. Resultados: la mortalidad bajó.
La escala de Glasgow, el test de Apgar y el índice de Barthel se usan en Europa y en Estados Unidos.
El Estafilococo y la Pseudomona crecen en las heridas. La Candida es una levadura.
La Seguridad Social, el Ministerio de Sanidad y la Cruz Roja publican folletos.
¿Qué es la enfermedad de Chagas? || Una infección por Trypanosoma. El tratamiento incluye Benznidazol.
¿Cómo se trata el síndrome de Tourette? || No tiene cura. El Haloperidol puede ayudar.
Los Romanos construyeron el acueducto de Segovia. Los Reyes Católicos tomaron Granada. Don Quijote es una novela.
La ley de Ohm describe la corriente, las leyes de Newton el movimiento. El teorema de Pitágoras entra en el examen.
El Tajo pasa por Toledo. El Teide está en Tenerife. El Sahara es el mayor desierto cálido.
Tema 3: Las Células || Dibuja una célula. Señala el Núcleo y la Membrana.
Buenos Días y Buenas Noches son saludos. Feliz Navidad se dice en diciembre.
La herida se limpia con Betadine y se cubre con Mepitel. El Sintrom se suspende antes.
El Consejo Escolar y la Junta de Andalucía deciden. La Jefatura de Estudios abre a las ocho.
"""

NL = """
Wie vond de sleutels? || {full}.
Wie heeft vannacht dienst? || {full}, en na middernacht {given2}.
Welke leerling ontbreekt? || {given}.
Om 9.15 uur struikelde {full} op de trap; de zuster heeft {given} onderzocht.
's Middags weigerde {full} de soep, later at {given} wat brood. || Goed.
Reactie voor {given}: net handschrift, meer alinea's. || {given} zal blij zijn.
Toestemming van {given}: ontbreekt. Die van {given2}: getekend.
Stuur dit door naar {given} en {given2}. || Gestuurd aan {full}.
Zet {full} op dinsdag en {full2} op vrijdag.
Bed 2, {full}, 77 jaar, beroerte; bed 3, {full2}, 59 jaar, galstenen.
{full} won de race en {given2} werd tweede.
De diëtiste, {full}, liet een briefje achter. || Heeft {given} het gelezen?
We hielpen {given} in de stoel en gaven {given2} een deken.
Moet {given} de spalk 's nachts dragen? || Heeft {full} hem nog?
Gewicht van {given}: 31 kg. Temperatuur van {given2}: 37,9.
Zoals {full} uitlegde, is de lift kapot.
Afwezig: {given}, {given2}. Te laat: {full}.
Ik zei tegen {given} dat {full2} zou bellen. || {given} was blij.
{given} speelt fluit, {given2} zingt en {full} dirigeert.
Is {given} ingeënt? || Op 3 mei, door {full}.
Op de armen van {given} kwam uitslag. || {given} had aardbeien gegeten.
{full} belde twee keer over de rekening. || Ik bel {given} na de lunch terug.
We hebben {given} in de andere klas gezet omdat {given2} steeds praat. || Goed. Zeg het ook tegen {full}.
De uitstrijk van {full} was negatief, die van {full2} ligt nog in het lab. || Weet mevrouw {sur} het?
Staat {given} op de lijst? || Ja, en {given2} ook; {full} niet.
{given} huilde in de kring en ging om elf uur naar huis. || Oma heeft {given} opgehaald.
Kamer 3: {full}. Kamer 4: {full2}. || Graag ruilen.
Het ontbijt van {full} zonder melk. || En voor {full2}? || Ook zonder.
Ik denk dat {given} en {given2} van elkaar afkeken. || Vraag eerst {given}.
Heeft iemand {given} gezien? || Bij {full}, in de tuin.
Volgens {full} was de val 's nachts. || {given} sliep toen.
Het verband is verwisseld door {full}. || Wanneer kijkt {given} er weer naar?
Herinnering: {full} heeft een nieuw recept nodig; {full2} kreeg er maandag een.
{given} leest graag en helpt {given2} met rekenen. || Fijn.
De afspraak van {full} is te vroeg. || We vroegen {given}; ze komt liever om tien uur.
Laat {given} vooraan zitten. || En wat vindt {full2}?
De insuline van {full} ligt in de koelkast en {given} weet de dosis. || Dank je, {given}.
De taart is van {full}. || {given2} heeft hem gebakken.
Het gesprek met {full} is in de bibliotheek. || {given} neemt de papieren mee.
Gefeliciteerd {given}, {given2} en {full}. || Verdiend.
De ataxie van Friedreich begint in de kindertijd. Het syndroom van Sjögren maakt de ogen droog. De Schirmertest meet tranen.
Achtergrond: sepsis komt vaak voor. Methoden: er is gezocht in Cochrane. Resultaten: de sterfte daalde.
De Glasgow Coma Scale, de Apgarscore en de Barthel-index worden in Europa en in de Verenigde Staten gebruikt.
Stafylokokken en Pseudomonas groeien in wonden. Candida is een gist.
Het Ministerie van Volksgezondheid, het Zorginstituut en het Rode Kruis hebben folders.
Wat is de ziekte van Graves? || Een ziekte van de schildklier. De behandeling bestaat uit Strumazol.
Hoe wordt het syndroom van Gilles de la Tourette behandeld? || Er is geen genezing. Haloperidol kan helpen.
De Romeinen bouwden de Limes. De Noormannen kwamen in 1066; Normandië ligt in Frankrijk. Karel de Grote was keizer.
De wet van Ohm beschrijft stroom, de wetten van Newton beweging. De stelling van Pythagoras komt in de toets.
De Maas stroomt door Maastricht. De Mont Blanc ligt in de Alpen. De Sahara is de grootste woestijn.
Hoofdstuk 3: Cellen en Weefsels || Teken een cel. Benoem de Kern en het Membraan.
Goedemorgen en Goedenavond zijn begroetingen. Fijne Kerst zeg je in december.
De wond wordt met Betadine gereinigd en met Mepitel bedekt. Ascal stopt vooraf.
De Medezeggenschapsraad en de Onderwijsinspectie beslissen. De Belgen en de Fransen spreken ook Frans.
"""

LINES = {
    code: list(text.strip().splitlines())
    for code, text in (("en", EN), ("de", DE), ("fr", FR), ("es", ES), ("nl", NL))
}
