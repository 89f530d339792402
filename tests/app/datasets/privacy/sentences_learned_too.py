"""More of what the weights for names are learned from: wards, schools and letters, and what textbooks name.

Written apart from all files by which the rules are judged, and before those were looked at; what is
in braces is put in by learn.py.
"""

EN = """
Yesterday {given} vomited after breakfast, so the doctor stopped the tablets.
The ward is quiet; only {sur} in room 12 needs turning every two hours.
Spoke with {full} about the discharge plan. {sur} lives alone on the second floor.
{full} was brought in by ambulance with chest pain.
Seen today in clinic: {full}, who has lost four kilos since May.
The plaster on {given}'s arm is wet again. || Bring {given} in before noon.
We are worried about {given}, since {given2} has not been eating.
Could you ask {full} for the blood results? || They went to {full2} this morning.
In the afternoon {given} read aloud while {given2} listened.
For homework {given} handed in two pages, {given2} none at all.
After the test {given} said that the questions were unfair.
Both {given} and {given2} missed the bus.
The parents of {given} asked for a meeting. || Is Thursday at four possible for {full}?
Next to {given} sits {given2}, who needs glasses.
The report that {full} wrote is in the folder.
It was {given} who rang the bell.
Neither {sur} nor {sur2} was told about the change.
Physio: {sur} walked ten metres with a frame.
Night shift: {full} slept well, {full2} called twice for water.
Dictated by {full}, typed by {full2}.
Signed: {full}
Kind regards, {full}
Best wishes, {given}
All the best from {given} and {given2}
Interpreter needed for {full}; {full2} speaks some English.
The vaccination card of {full} got lost. || {given} can pick up a new one.
Ring {given} back, please. || I tried; {given} was out and {given2} answered.
This morning, {given} complained of an itchy nose.
Under the new plan {full} takes over from {full2}.
Someone pushed {given} in the playground, and {given2} saw it.
Reading group: {given}, {given2}, and three others.
When {given} laughs, {given2} laughs too.
He told {given} to wait outside.
She gave {given} her gloves, and {given2} her scarf.
My neighbour, {full}, has the spare key.
His sister {given} is eleven; his brother {given2} is three.
If {given} has a fever, keep {given} at home. || And {given2}?
A letter for {full} came back unopened.
Results for {sur}: potassium 5.9, repeat tomorrow.
{sur} denies chest pain. {sur} smokes ten a day.
Handed over to {given}, who will watch the drain.
{given} from reception found the parcel; {given2} from the kitchen signed for it.
Why did {given} cry? || {given2} had taken the blue chair.
Without {given} we could not have carried the bed.
Between {given} and {given2} there was a quarrel about the swing.
In the waiting room: {full} with a cough and {full2} with a rash.
Thank {full} for the flowers. || I did; {given} was touched.
I saw {given} yesterday and {given2} today.
Dear {given}, your test is on Monday.
{given}, please sit down. || But {given2} is standing too.
Let {full} know that the scan is free at two.
The swing hit {given} on the forehead; {given2} fetched ice.
Do you remember {full}? || Of course, {given} was in my class.
Everyone clapped when {given} finished.
Medication of {full}: two in the morning, one at night.
According to the notes {full} fell twice in March.
{full}'s mother rang. {given} is still feverish.
{given}'s drawing hangs beside {given2}'s poem.
"I am tired," said {given}. "So am I," answered {given2}.
Grandchildren: {given}, {given2}. Carer: {full}.
Transfer {full} to the stroke unit; inform {full2}.
{initial} {sur} was admitted on Friday.
Reviewed with {initial} {sur}, no change.
Attendance today: {full}, {full2}; excused: {given}.
Objective: To test whether the Coping Scale predicts stress. Method: Adults (N = 412) completed the Beck Anxiety Inventory and the Impact of Event Scale. Results: Scores on the Avoidance subscale fell.
Survivors of Hurricane Katrina and of the Loma Prieta earthquake were compared with Vietnam veterans and with soldiers of the Gulf War.
Growth Mixture Modeling showed four trajectories: Resilient, Recovered, Delayed and Chronic. Akaike and Bayesian criteria favoured four classes.
Cronbach's alpha was 0.91. The Kaiser-Meyer-Olkin measure and Bartlett's test were satisfactory. Post hoc tests used Tukey and Bonferroni corrections.
After the September 11 attacks on the World Trade Center, residents of Lower Manhattan, Brooklyn and Queens were interviewed.
The Structured Clinical Interview for DSM-IV, the Davidson Trauma Scale and the Hamilton Rating Scale were used. The Likert items had five points.
Police officers in Amsterdam, firefighters in Perth, and bank staff in Tel Aviv took part. The Israeli sample was larger than the Danish one.
Keywords: Posttraumatic Growth; Latent Class Analysis; Emergency Medical Services; Child Abuse; Refugees
Copyright Elsevier Ltd. All rights reserved. Published by Wiley Periodicals and Sage Publications.
Swedish tourists who survived the tsunami in Khao Lak were followed by Statistics Sweden for six years.
What is Marfan syndrome? || Marfan syndrome weakens the aorta. Doctors may prescribe Losartan or Atenolol. The Ghent criteria help.
Treating Raynaud's || Keep warm. Nifedipine widens vessels. Raynaud's may come with Lupus or Scleroderma.
Is there a test for Huntington disease? || Yes. Testing for Huntington disease needs counselling. Chorea is an early sign.
Overview: Nephrotic Syndrome in Children || Children with Nephrotic Syndrome pass protein. Minimal Change disease is most common.
Symptoms of Chagas disease, Dengue and Lassa Fever overlap. Travelers to Bolivia and Brazil should avoid bites.
Early Childhood Education: Play Based Learning || The Montessori method and the Waldorf school use wood and wool.
Grace periods end in April. Hope is not a plan. Will power alone does not help; a May holiday might.
Autumn Term Dates || Half Term begins on Monday. Summer clothes may be worn until Easter.
Check the Blood Pressure before Dialysis. Note Fluid Balance. Rinse with Saline. Press Start, then Prime.
Open Windows, click Settings, choose Bluetooth and pair the Omron. Dexcom and FreeStyle Libre work with Android.
Visit Yosemite, the Grand Canyon or Niagara. The Amazon, the Nile and the Rhine are rivers. Mercury and Venus are planets.
Hamlet asks a question; Othello trusts the wrong man; in Macbeth the wood moves. Romeo is in love.
The Magna Carta was sealed at Runnymede. The Tudors followed. The Vikings burned Lindisfarne.
Boyle's law, Charles's law and Avogadro's number: learn all three. The Bohr model is simpler. Use Bernoulli for flow.
Stages of Piaget: Sensorimotor, Preoperational, Concrete. Maslow drew a pyramid. Bloom's taxonomy has six levels.
Serve Brie, Cheddar or Parmesan; avoid Roquefort. Bake the Yorkshire pudding. Add Worcester sauce and Dijon mustard.
Bring the Blue Badge and a Bus Pass. The Red Cross stands at Gate 4, next to Costa and Boots.
Wear Velcro shoes. Bring Lego, Play-Doh or Crayola. No Nintendo on Wednesdays.
Gram stain showed Klebsiella. Ziehl-Neelsen was negative. Plated on MacConkey and Sabouraud agar.
Dukes B cancer after Whipple resection; Gleason 3+4; Breslow 0.8 mm; Clark level II. Staging by Ann Arbor.
"""

DE = """
Gestern hat sich {given} nach dem Frühstück übergeben, da wurden die Tabletten abgesetzt.
Auf Station ist es ruhig; nur {full} muss alle zwei Stunden gelagert werden.
Mit {full} über die Entlassung gesprochen. {given} wohnt allein im zweiten Stock.
{full} kam mit dem Rettungswagen wegen Brustschmerzen.
Heute in der Sprechstunde: {full}, seit Mai vier Kilo leichter.
Der Gips von {given} ist wieder nass. || Bringen Sie {given} bitte vor zwölf.
Wir sorgen uns um {given}, weil auch {given2} nichts isst.
Können Sie {full} nach den Werten fragen? || Die gingen heute früh an {full2}.
Am Nachmittag las {given} vor und {given2} hörte zu.
Als Hausaufgabe gab {given} zwei Seiten ab, {given2} keine.
Nach der Arbeit sagte {given}, die Fragen seien unfair gewesen.
Sowohl {given} als auch {given2} haben den Bus verpasst.
Neben {given} sitzt {given2} und braucht eine Brille.
Der Bericht, den {full} geschrieben hat, liegt im Ordner.
Es war {given}, die geklingelt hat.
Weder {full} noch {full2} wussten davon.
Nachtdienst: {full} schlief gut, {full2} klingelte zweimal wegen Wasser.
Diktiert von {full}, geschrieben von {full2}.
Viele Grüße, {full}
Liebe Grüße von {given} und {given2}
Dolmetscher für {full} nötig; {full2} spricht etwas Deutsch.
Der Impfpass von {full} ist weg. || {given} kann einen neuen holen.
Rufen Sie {given} zurück. || War nicht da, {given2} ging ans Telefon.
Heute Morgen klagte {given} über eine juckende Nase.
Jemand hat {given} auf dem Hof geschubst, und {given2} hat es gesehen.
Lesegruppe: {given}, {given2} und drei andere.
Wenn {given} lacht, lacht auch {given2}.
Er bat {given}, draußen zu warten.
Meine Nachbarin {full} hat den Schlüssel.
Seine Schwester {given} ist elf, sein Bruder {given2} drei.
Wenn {given} Fieber hat, bleibt {given} daheim. || Und {given2}?
Ein Brief an {full} kam ungeöffnet zurück.
{full} verneint Schmerzen und raucht zehn am Tag.
{given} vom Empfang hat das Paket gefunden, {given2} aus der Küche hat unterschrieben.
Warum hat {given} geweint? || {given2} hatte den blauen Stuhl genommen.
Ohne {given} hätten wir das Bett nicht tragen können.
Zwischen {given} und {given2} gab es Streit um die Schaukel.
Im Wartezimmer: {full} mit Husten und {full2} mit Ausschlag.
Gestern sah ich {given}, heute {given2}.
Die Schaukel traf {given} an der Stirn; {given2} holte Eis.
Erinnern Sie sich an {full}? || Natürlich, {given} war in meiner Klasse.
Alle klatschten, als {given} fertig war.
Laut Akte stürzte {full} im März zweimal.
{given}s Bild hängt neben dem Gedicht von {given2}.
„Ich bin müde“, sagte {given}. „Ich auch“, antwortete {given2}.
Verlegt {full} auf die Stroke Unit; informiert {full2}.
Dienst hat heute {given}, morgen {given2}.
Ziel: Geprüft wurde die Skala zur Belastung. Methode: 412 Erwachsene füllten das Beck-Angst-Inventar aus. Ergebnisse: Die Werte sanken.
Cronbachs Alpha lag bei 0,91. Der Bartlett-Test und das Kaiser-Kriterium waren erfüllt.
Nach dem Hurrikan Katrina und dem Hochwasser an der Oder kamen das Rote Kreuz und die Feuerwehr.
Was ist das Marfan-Syndrom? || Die Aorta wird schwach. Geholfen wird mit Losartan oder Atenolol.
Beim Raynaud-Phänomen helfen Wärme und Nifedipin. Lupus und Sklerodermie werden ausgeschlossen.
Chagas, Dengue und Lassafieber ähneln sich. Reisende nach Bolivien schützen sich vor Stichen.
Frühe Bildung: Lernen im Spiel || Die Montessori-Methode und die Waldorfschule nutzen Holz und Wolle.
Öffnen Sie Einstellungen, wählen Sie Bluetooth und koppeln Sie das Omron. Dexcom und Libre laufen mit Android.
Die Elbe, die Spree und der Neckar sind Flüsse. Die Zugspitze liegt in Bayern. Merkur und Venus sind Planeten.
Faust schließt einen Pakt mit Mephisto. Nathan erzählt die Ringparabel. In Hamlet sterben fast alle.
Das Gesetz von Boyle, der Satz des Pythagoras und die Formel von Bernoulli kommen dran.
Reichen Sie Emmentaler oder Gouda, keinen Roquefort. Dazu Senf, Meerrettich und Preiselbeeren.
Zu Weihnachten, zu Pfingsten und am Rosenmontag bleibt die Praxis zu. Auch am Buß- und Bettag.
Die Gram-Färbung zeigte Klebsiellen, die nach Ziehl-Neelsen war negativ. Ausgestrichen auf MacConkey-Agar.
Bringen Sie Versichertenkarte, Überweisung und Impfpass mit. Die Krankenkasse liegt neben dem Rathaus.
Mit Betaisodona reinigen, mit Mepilex abdecken. Falithrom pausieren. Novalgin oder Ibuprofen bei Bedarf.
Klettschuhe anziehen. Lego oder Knete mitbringen. Mittwochs keine Nintendo.
Für Kinder, für Eltern, mit Großeltern und ohne Geschwister: Anmeldung am Tresen. Nach Feierabend, bei Regen und an Brückentagen geschlossen.
An Bord, in Gefahr, zu Fuß, mit Fieber, gegen Schmerzen, vor Ort, unter Aufsicht, nach Plan, bei Bedarf, von Hand.
Kapitel 3: Zellen und Gewebe || Zeichne eine Zelle. Beschrifte Kern, Membran und Golgi-Apparat.
"""

FR = """
Hier {given} a vomi après le petit déjeuner, le médecin a arrêté les comprimés.
Le service est calme ; seule {full} doit être tournée toutes les deux heures.
Parlé de la sortie avec {full}. {given} vit seule au deuxième étage.
{full} est arrivé en ambulance avec des douleurs à la poitrine.
Vu ce jour en consultation : {full}, qui a perdu quatre kilos depuis mai.
Le plâtre de {given} est encore mouillé. || Amenez {given} avant midi.
Nous nous inquiétons pour {given}, car {given2} ne mange pas non plus.
Pouvez-vous demander les résultats à {full} ? || {full2} les a reçus ce matin.
L'après-midi {given} a lu à voix haute et {given2} a écouté.
Comme devoir {given} a rendu deux pages, {given2} aucune.
Après le contrôle {given} a dit que les questions étaient injustes.
{given} et {given2} ont tous deux raté le bus.
Les parents de {given} demandent un rendez-vous. || Jeudi à seize heures convient-il à {full} ?
À côté de {given} est assise {given2}, qui a besoin de lunettes.
Le rapport que {full} a écrit est dans le dossier.
C'est {given} qui a sonné.
Ni {full} ni {full2} n'étaient au courant.
Kiné : {sur} a marché dix mètres avec le cadre.
Nuit : {full} a bien dormi, {full2} a appelé deux fois pour de l'eau.
Dicté par {full}, tapé par {full2}.
Signé : {full}
Bien à vous, {full}
Bises de {given} et {given2}
Il faut un interprète pour {full} ; {full2} parle un peu français.
Le carnet de {full} est perdu. || {given} peut en retirer un autre.
Rappelez {given}. || J'ai essayé ; {given} était sortie et {given2} a répondu.
Ce matin, {given} s'est plaint du nez qui gratte.
On a poussé {given} dans la cour, et {given2} l'a vu.
Groupe de lecture : {given}, {given2} et trois autres.
Quand {given} rit, {given2} rit aussi.
Il a dit à {given} d'attendre dehors.
Elle a donné ses gants à {given} et son écharpe à {given2}.
Ma voisine, {full}, a le double des clés.
Sa sœur {given} a onze ans ; son frère {given2} en a trois.
Si {given} a de la fièvre, gardez {given} à la maison. || Et {given2} ?
Une lettre pour {full} est revenue non ouverte.
{given} nie toute douleur. {given} fume dix cigarettes par jour.
{given}, de l'accueil, a trouvé le colis ; {given2}, de la cuisine, a signé.
Pourquoi {given} pleurait-il ? || {given2} avait pris la chaise bleue.
Sans {given} nous n'aurions pas pu porter le lit.
Entre {given} et {given2} il y a eu une dispute pour la balançoire.
En salle d'attente : {full} avec une toux et {full2} avec des boutons.
Remerciez {full} pour les fleurs. || C'est fait ; {given} était émue.
Hier j'ai vu {given}, aujourd'hui {given2}.
{given}, assieds-toi. || Mais {given2} est debout.
La balançoire a heurté {given} au front ; {given2} a apporté de la glace.
Vous souvenez-vous de {full} ? || Bien sûr, {given} était dans ma classe.
Tout le monde a applaudi quand {given} a fini.
Selon le dossier {full} est tombée deux fois en mars.
La mère de {given} a téléphoné. {given} a toujours de la fièvre.
Le dessin de {given} est à côté du poème de {given2}.
« Je suis fatiguée », dit {given}. « Moi aussi », répondit {given2}.
Transférez {full} en neurologie ; prévenez {full2}.
{initial} {sur} est entré vendredi.
Présents : {full}, {full2} ; excusée : {given}.
Objectif : évaluer l'Échelle d'Impact. Méthode : 412 adultes de Lyon et de Nantes. Résultats : les scores de l'Inventaire de Beck ont baissé.
L'alpha de Cronbach était de 0,91. Le test de Bartlett et l'indice de Kaiser étaient bons.
Après l'ouragan Katrina et la tempête Xynthia, la Croix-Rouge est venue. Les Pompiers aussi.
Qu'est-ce que le syndrome de Marfan ? || Il affaiblit l'aorte. On donne du Losartan ou de l'Aténolol.
Le phénomène de Raynaud || Gardez les mains au chaud. La Nifédipine aide.
La maladie de Chagas, la Dengue et la fièvre de Lassa se ressemblent. En Bolivie, protégez-vous.
Petite Enfance : Apprendre en Jouant || La méthode Montessori et l'école Steiner utilisent le bois.
Ouvrez Réglages, choisissez Bluetooth et associez l'Omron. Dexcom et FreeStyle Libre marchent avec Android.
La Loire, la Garonne et la Meuse sont des fleuves. Le Puy de Dôme est en Auvergne. Mercure et Vénus sont des planètes.
Tartuffe trompe Orgon. Candide voyage. Dans Hamlet presque tous meurent. Les Misérables sont longs.
La loi de Boyle, celle de Mariotte et le théorème de Thalès sont au programme.
Servez du Comté ou du Cantal ; évitez le Roquefort. Ajoutez de la Moutarde de Dijon.
À Noël, à Pâques et à la Toussaint le cabinet est fermé. Le Lundi de Pentecôte aussi.
La coloration de Gram montrait Klebsiella. Celle de Ziehl était négative. Culture sur gélose MacConkey.
Apportez la Carte Vitale et le Livret de Famille. La Sécurité Sociale est près de la Mairie.
Nettoyez à la Bétadine, couvrez avec Mepitel. Arrêtez le Previscan. Prenez du Doliprane ou du Spasfon.
Des chaussures à Velcro. Du Lego ou de la Patafix. Pas de Nintendo le mercredi.
Chapitre 3 : Cellules et Tissus || Dessinez une Cellule. Indiquez le Noyau, la Membrane et l'appareil de Golgi.
Le Ministère de la Santé, la Haute Autorité et l'Hôpital Necker publient des guides.
"""

ES = """
Ayer {given} vomitó después del desayuno y el médico retiró las pastillas.
La planta está tranquila; solo hay que girar a {full} cada dos horas.
Hablé con {full} sobre el alta. {given} vive sola en un segundo piso.
{full} llegó en ambulancia con dolor de pecho.
Hoy se vio en consulta a {full}, que ha perdido cuatro kilos desde mayo.
El yeso de {given} está mojado otra vez. || Traiga a {given} antes de mediodía.
Nos preocupa {given}, porque {given2} tampoco come.
¿Puede pedir a {full} los análisis? || Los recibió {full2} esta mañana.
Por la tarde {given} leyó en voz alta y {given2} escuchó.
De deberes {given} entregó dos páginas, {given2} ninguna.
Después del examen {given} dijo que las preguntas eran injustas.
Tanto {given} como {given2} perdieron el autobús.
Los padres de {given} pidieron una reunión. || ¿Puede {full} el jueves a las cuatro?
Al lado de {given} se sienta {given2}, que necesita gafas.
El informe que escribió {full} está en la carpeta.
Fue {given} quien tocó el timbre.
Ni {full} ni {full2} sabían del cambio.
Fisioterapia: {sur} caminó diez metros con andador.
Turno de noche: {full} durmió bien, {full2} llamó dos veces para pedir agua.
Dictado por {full}, escrito por {full2}.
Firmado: {full}
Un saludo, {full}
Un abrazo, {given}
Saludos de {given} y de {given2}
Hace falta intérprete para {full}; {full2} habla algo de español.
Se perdió la cartilla de {full}. || {given} puede recoger otra.
Devuelva la llamada a {given}. || Lo intenté; {given} no estaba y contestó {given2}.
Esta mañana, {given} se quejó de picor en la nariz.
Con el nuevo plan {full} sustituye a {full2}.
Alguien empujó a {given} en el patio y {given2} lo vio.
Grupo de lectura: {given}, {given2} y tres más.
Cuando {given} se ríe, {given2} se ríe también.
Le dijo a {given} que esperara fuera.
Dio a {given} los guantes y a {given2} la bufanda.
Mi vecina, {full}, tiene la otra llave.
Su hermana {given} tiene once años; su hermano {given2}, tres.
Si {given} tiene fiebre, que se quede en casa. || ¿Y {given2}?
Volvió sin abrir una carta para {full}.
Resultados de {full}: potasio 5,9, repetir mañana.
{given} niega dolor. {given} fuma diez al día.
Se queda {given} en el turno y vigila el drenaje.
{given}, de recepción, encontró el paquete; {given2}, de cocina, lo firmó.
¿Por qué lloró {given}? || {given2} le había quitado la silla azul.
Sin {given} no habríamos podido mover la cama.
Entre {given} y {given2} hubo una pelea por el columpio.
En la sala de espera: {full} con tos y {full2} con sarpullido.
Dé las gracias a {full} por las flores. || Ya lo hice; {given} se emocionó.
Ayer vi a {given} y hoy a {given2}.
Querida {given}, el examen es el lunes.
{given}, siéntate, por favor. || Pero {given2} está de pie.
Avise a {full} de que la sala queda libre a las dos.
El columpio golpeó a {given} en la frente; {given2} trajo hielo.
¿Se acuerda de {full}? || Claro, {given} estuvo en mi clase.
Todos aplaudieron cuando {given} terminó.
Medicación de {full}: dos por la mañana, una por la noche.
Según las notas {full} se cayó dos veces en marzo.
Llamó la madre de {given}. {given} sigue con fiebre.
El dibujo de {given} cuelga junto al poema de {given2}.
«Estoy cansada», dijo {given}. «Yo también», respondió {given2}.
Nietos: {given}, {given2}. Cuidadora: {full}.
Trasladen a {full} a la unidad de ictus; informen a {full2}.
Asistencia de hoy: {full}, {full2}; justificada: {given}.
{initial} {sur} ingresó el viernes.
Quedamos con {given} en la puerta. || Yo llevo a {given2}.
El turno de {full} empieza a las siete y el de {full2} a las tres.
Se ha quedado {given} con la carpeta de {given2}.
La paz llegó en 1648. El rey de Castilla firmó la Paz de Westfalia. Los Reyes Católicos vivieron en Granada.
¿Qué es el síndrome de Marfan? || Debilita la aorta. Se trata con Losartán o Atenolol. Ayudan los criterios de Gante.
El fenómeno de Raynaud || Mantenga calientes las manos. El Nifedipino dilata los vasos.
Objetivo: evaluar la Escala de Impacto. Método: participaron 412 adultos de Bilbao y Sevilla. Resultados: bajaron las puntuaciones del Inventario de Beck.
El alfa de Cronbach fue de 0,91. La prueba de Bartlett y el índice de Kaiser fueron adecuados.
El huracán Katrina y el terremoto de Lorca dejaron heridos. Llegó la Cruz Roja. Intervino la Guardia Civil.
La enfermedad de Chagas, el Dengue y la fiebre de Lassa se parecen. Quien viaje a Bolivia debe protegerse.
Educación Infantil: Aprender Jugando || El método Montessori y la escuela Waldorf usan madera.
Abra Ajustes, elija Bluetooth y conecte el Omron. Dexcom y FreeStyle Libre funcionan con Android.
El Ebro, el Tajo y el Duero son ríos. El Teide está en Tenerife. Mercurio y Venus son planetas.
Don Quijote cabalga con Rocinante. La Celestina es una tragicomedia. En Hamlet mueren casi todos.
La ley de Boyle, la de Charles y el número de Avogadro entran en el examen. También el modelo de Bohr.
Sirva Manchego o Cabrales; evite el Roquefort. Añada Pimentón y Azafrán.
En Navidad, en Semana Santa y en Reyes el centro cierra. Por San Isidro también.
La tinción de Gram mostró Klebsiella. La de Ziehl fue negativa. Se sembró en agar MacConkey.
Traiga la Tarjeta Sanitaria y el Libro de Familia. La Seguridad Social está junto al Ayuntamiento.
Rosa, Verde y Azul son los grupos. La Luna gira alrededor de la Tierra. El Sol es una estrella.
El Ministerio de Sanidad, la Junta de Andalucía y el Hospital La Paz publican guías.
Limpie con Betadine y cubra con Mepitel. Suspenda Sintrom antes. Tome Nolotil o Paracetamol.
Ponga Velcro en los zapatos. Lleve Lego o plastilina. Nada de Nintendo los miércoles.
Tema 3: Células y Tejidos || Dibuje una Célula. Señale el Núcleo, la Membrana y el aparato de Golgi.
"""

NL = """
Gisteren moest {given} na het ontbijt overgeven, de dokter stopte de tabletten.
Op de afdeling is het rustig; alleen {full} moet om de twee uur gedraaid worden.
Met {full} over het ontslag gesproken. {given} woont alleen op de tweede verdieping.
{full} kwam met de ambulance wegens pijn op de borst.
Vandaag op het spreekuur: {full}, sinds mei vier kilo afgevallen.
Het gips van {given} is weer nat. || Breng {given} voor twaalf uur.
We maken ons zorgen om {given}, want ook {given2} eet niet.
Kunt u {full} om de uitslag vragen? || Die ging vanochtend naar {full2}.
's Middags las {given} voor en luisterde {given2}.
Als huiswerk leverde {given} twee bladzijden in, {given2} geen.
Na de toets zei {given} dat de vragen oneerlijk waren.
Zowel {given} als {given2} miste de bus.
De ouders van {given} willen een gesprek. || Kan {full} donderdag om vier uur?
Naast {given} zit {given2}, die een bril nodig heeft.
Het verslag dat {full} schreef zit in de map.
Het was {given} die aanbelde.
Noch {full} noch {full2} wist ervan.
Fysio: {sur} liep tien meter met de rollator.
Nachtdienst: {full} sliep goed, {full2} belde twee keer om water.
Gedicteerd door {full}, getypt door {full2}.
Groeten, {full}
Veel liefs van {given} en {given2}
Tolk nodig voor {full}; {full2} spreekt wat Nederlands.
Het boekje van {full} is kwijt. || {given} kan een nieuw halen.
Bel {given} terug. || Geprobeerd; {given} was weg en {given2} nam op.
Vanmorgen klaagde {given} over een jeukende neus.
Iemand duwde {given} op het plein, en {given2} zag het.
Leesgroep: {given}, {given2} en nog drie.
Als {given} lacht, lacht {given2} ook.
Hij vroeg {given} om buiten te wachten.
Mijn buurvrouw {full} heeft de sleutel.
Zijn zus {given} is elf, zijn broer {given2} drie.
Als {given} koorts heeft, blijft {given} thuis. || En {given2}?
Een brief aan {full} kwam ongeopend terug.
{given} ontkent pijn. {given} rookt tien per dag.
{given} van de balie vond het pakje, {given2} uit de keuken tekende.
Waarom huilde {given}? || {given2} had de blauwe stoel gepakt.
Zonder {given} hadden we het bed niet kunnen tillen.
Tussen {given} en {given2} was er ruzie om de schommel.
In de wachtkamer: {full} met hoest en {full2} met uitslag.
Bedank {full} voor de bloemen. || Gedaan; {given} was ontroerd.
Gisteren zag ik {given}, vandaag {given2}.
{given}, ga zitten. || Maar {given2} staat ook.
De schommel raakte {given} op het voorhoofd; {given2} haalde ijs.
Herinnert u zich {full}? || Zeker, {given} zat bij mij in de klas.
Iedereen klapte toen {given} klaar was.
Volgens het dossier viel {full} in maart twee keer.
De moeder van {given} belde. {given} heeft nog koorts.
De tekening van {given} hangt naast het gedicht van {given2}.
"Ik ben moe," zei {given}. "Ik ook," antwoordde {given2}.
Breng {full} naar de stroke unit; informeer {full2}.
Aanwezig: {full}, {full2}; afgemeld: {given}.
Doel: de Schokverwerkingslijst toetsen. Methode: 412 volwassenen uit Zwolle en Breda. Resultaten: de scores op de Beck Depressievragenlijst daalden.
Cronbachs alfa was 0,91. De toets van Bartlett en het criterium van Kaiser waren goed.
Na orkaan Katrina en de vuurwerkramp in Enschede kwam het Rode Kruis. De Brandweer ook.
Wat is het syndroom van Marfan? || Het verzwakt de aorta. Losartan of Atenolol helpt.
Het fenomeen van Raynaud || Houd de handen warm. Nifedipine verwijdt de vaten.
De ziekte van Chagas, Dengue en Lassakoorts lijken op elkaar. Wie naar Bolivia reist, beschermt zich.
Vroege Educatie: Spelend Leren || De methode Montessori en de Vrijeschool gebruiken hout.
Open Instellingen, kies Bluetooth en koppel de Omron. Dexcom en FreeStyle Libre werken met Android.
De Rijn, de Waal en de Schelde zijn rivieren. De Vaalserberg ligt in Limburg. Mercurius en Venus zijn planeten.
Max Havelaar gaat over koffie. In Hamlet sterven bijna allen. Reinaert is slim.
De wet van Boyle, de wet van Hooke en het getal van Avogadro horen bij de stof.
Serveer Edammer of Leerdammer; geen Roquefort. Voeg Mosterd toe.
Met Kerst, met Pasen en op Koningsdag is de praktijk dicht. Ook met Hemelvaart.
De Gramkleuring toonde Klebsiella. Die volgens Ziehl was negatief. Kweek op MacConkey-agar.
Neem de Zorgpas en het Groeiboekje mee. De Gemeente zit naast de Bibliotheek.
Maak schoon met Betadine, dek af met Mepilex. Stop Marcoumar. Neem Panadol of Diclofenac.
Doe schoenen met Klittenband aan. Lego of klei mag. Geen Nintendo op woensdag.
Hoofdstuk 4: Planten en Dieren || Teken een Blad. Benoem de Nerf, de Steel en de Huidmondjes.
Het Ministerie van Volksgezondheid, de Onderwijsraad en Ziekenhuis Rijnstate geven folders uit.
"""

LINES = {
    code: list(text.strip().splitlines())
    for code, text in (("en", EN), ("de", DE), ("fr", FR), ("es", ES), ("nl", NL))
}
