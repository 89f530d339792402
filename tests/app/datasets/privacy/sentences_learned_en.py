"""Still more English that the weights for names are learned from: letters, notes, forms and lessons.

Written apart from all files by which the rules are judged: what people own beside what diseases are
called after them, names amid headings, and names where a textbook has a thing. What is in braces is
put in by learn.py.
"""

EN = """
The physiotherapist asked whether {full} could manage the stairs, and {sur} said yes.
{given}'s temperature came down overnight, so we stopped the paracetamol.
{sur}'s operation was moved to Friday. || Does the family know? || Not yet.
{full}'s test results are back. || {given}'s kidney function is normal.
The scan of {full}'s lungs shows a shadow; {sur}'s ECG is unremarkable.
{given}'s score in the reading test went from 41 to 58.
{full}'s infection has cleared. {given} may go home.
{full}'s reading plan is in the green folder.
We looked at {given}'s body weight: 38 kg, down from 41.
{full}'s fever is gone, but {given2}'s cough is worse.
Which ward is {sur} on? || {sur} moved to the stroke unit last night.
Overnight: {sur} settled, {sur2} restless and pulled out the cannula.
Bed 7 {sur}: nil by mouth. Bed 9 {sur2}: mobilise twice a day.
COPD, oxygen 2 l: {sur}. Heart failure, diuretics: {sur2}.
CT booked for {full}, MRI for {full2}; both need a creatinine.
INR of {sur} 3.4, so no warfarin tonight. INR of {sur2} 2.1.
Blood Sugar Chart for {full} || Fasting 7.9; {given} had eaten toast.
Care Plan: {full} || Turn every two hours; {given} likes the left side.
Progress Report for {full} || This term {given} has read six books.
Discharge Letter, {full} || {given} was treated for pneumonia and recovered well.
Subject: {full}, Physiotherapy Referral || Please see {given} about the left knee.
Incident Form || At 10:40 {full} slipped in the bathroom. Nobody was near {given}.
Daily Handover, Ward 4 || {full} is for theatre at eight; {full2} went home.
Parents' Evening Appointments || 17:10 {full}; 17:20 {full2}; 17:30 free.
Seating Plan, Row 1 || {given} by the window, {given2} by the door.
School Trip to the Science Museum || Group A: {given}, {given2}. Group B: {full}.
Sports Day Results || 1st place: {full}; 2nd place: {full2}.
Re: {full} || I am happy with {given}'s progress since the last review.
Whose coat is this? || I think it is {given}'s, or {given2}'s.
Who will take minutes? || Either {given} or {given2}.
What has {given} drawn? || A house. {given2} drew the sea.
Where does {sur} live now? || With a cousin, {full}, in the old mill.
How old is {given}? || Nine. {given2} will be seven in June.
When was {full} last seen? || In March, by {full2}.
Since {given} moved up a set, {given2} has lost interest in maths.
Although {given} was tired, {given} finished the page.
While waiting for {given}, I spoke to {full} about the fees.
Because {sur} lives alone, the nurse visits every day.
After lunch {given} fell asleep; before dinner {given} asked for water.
Until {full} has signed, nothing may be ordered.
Unless {given} calls, the appointment stands.
Once {given} had stopped crying, {given2} offered a biscuit.
Despite the pain {sur} walked to the bathroom.
Instead of {given}, {given2} will read the first verse.
Apart from {given} everybody passed; {given} may sit the test again.
Like {given}, {given2} is allergic to nuts.
Unlike {full}, {full2} was never told about the risk.
Together with {given} we made a list of words to practise.
Opposite {given} sits {given2}; behind {given} there is an empty chair.
According to {given}, {given2} started it.
Thanks to {given}, the class pet survived the weekend.
The teacher praised {given} and corrected {given2}.
The dentist reminded {full} to floss; {given} laughed.
The consultant examined {full} and reassured {full2}, the wife.
The porter wheeled {sur} to X-ray and brought {sur2} back.
The interpreter for {full} is late. || Then see {full2} first.
The ambulance crew handed {full} over at 02:15.
The carer washed {full} and dressed {full2}.
The wound nurse saw {sur} and photographed the heel.
The head teacher invited {full} to assembly.
The coach chose {given}, {given2} and two goalkeepers.
The librarian fined {full} forty pence.
The bus left without {given}. || Can {given2} collect {given}?
The driver recognised {full} at once.
The judge of the cake contest was {full}.
The pharmacist rang {full} about the new inhaler.
The group consists of {given}, {given2} and myself.
The cheque from {full} bounced.
The flowers that {given} picked are on the desk.
The story by {given} made {given2} laugh out loud.
The rash {given} had last week is back.
The blister on {given}'s heel has burst.
The drawing of {given}'s is the best. || {given2} helped.
This is {full} calling about an invoice.
This is about {given}, who has been late four times.
That was {full} on the phone. || What did {sur} want?
These shoes belong to {given}; those are {given2}'s.
Here comes {given}. || And where is {given2}?
There is {given}! || Hurry up, {given2}.
Here are the notes that {full} promised.
You should have seen {given}; {given} was so proud.
You may give {given} the second dose at six.
You asked about {full}: {sur} was discharged on the fourth.
I, {full}, agree to the examination.
I have known {full} for eleven years.
I met {full} and {full2} at the ward round.
I spoke with {full}, the grandmother, who speaks little English.
I wonder why {given} did not come. || {given} has chickenpox.
I am writing on behalf of {full}, who cannot hold a pen.
I enclose the report of {full}. Copies: {full2}; file.
We had to separate {given} and {given2} again.
We found {sur} on the floor beside the bed.
We will miss {given}. || So will {given2}.
We all sang for {given}, who turned ten.
They call {given} the professor. || And {given2}?
They sent {full} home without a letter.
She lives with {full}, her partner, and their son {given2}.
She sat beside {given} until the doctor came.
He shares the flat with {full} and {full2}.
He is a friend of {given} and {given2}.
His teacher, {full}, noticed the squint.
Her niece, {full}, holds power of attorney.
Our new colleague {full} starts on Monday. || Is {given} a nurse?
My brother-in-law {given} broke his wrist; {given2} drove him.
My dad's carer, {given}, comes twice a day.
Their neighbour {full} found the dog.
Your tutor is {full}; your mentor is {full2}.
Mum of {given} rang: chickenpox, back next week.
Dad of {given2} will collect both, {given} too.
Twins {given} and {given2} sit apart this term.
Little {given} counted to twenty; {given2} clapped.
Poor {given}! || {given2} did say sorry.
Young {given} and old {full} planted the tree.
Former pupil {full} gave a talk; {given} asked three questions.
Nobody told {full}. || Then tell {sur} now.
Everyone but {given} has handed in the form.
Someone called {full} rang; the number is on the pad.
Only {given} and {given2} knew the answer.
Even {given} managed it, and {given2} helped.
Perhaps {given} could share with {given2}.
Maybe {sur} would like the window bed.
Yesterday {full} had a fall; today {sur} is confused.
Today {given} spelled nine words out of ten.
Tomorrow {full} will be operated on by {full2}.
Last night {sur} was agitated; {sur2} slept.
On Monday {given} forgot the kit, on Tuesday {given2} did.
In class {given} whispers; at home, says {full}, {given} shouts.
At break {given} pushed {given2} off the climbing frame.
By noon {sur} had passed no urine.
For {given}: gluten-free. For {given2}: no fish.
From {given}: a card. From {given2}: a jar of jam.
With {given} away, {given2} has no partner for science.
Please remind {given} to bring the reply slip.
Please welcome {full}, our speaker.
Please excuse {given} from swimming; {given} has grommets.
Please refer {full} to dermatology.
Kindly inform {full} that the form is incomplete.
Ask {given} whether {given2} has the glue.
Give {sur} the bell and show {sur2} how the bed works.
Tell {given} well done from me.
Call {full} before nine and {full2} after five.
Show {given} how to carry the one.
Help {given} with the buttons.
Watch {given}: {given} climbs everything.
Check on {sur} every fifteen minutes.
Remember that {given} is left-handed.
Swap {given} and {given2} in the relay.
Well done, {given}! || You too, {given2}.
Good morning, {given}. || Morning, {given2}.
Happy birthday, {given}!
Welcome back, {given}! || {given} missed two weeks.
Congratulations to {full} and {full2}.
See you on Friday, {given}.
Sorry, {given}, I was held up.
No, {given}, the other left. || Like this, {given2}?
Yes, {given} may have ice cream.
Cheers, {given}
Yours sincerely, {full}
Love, {given}
Minutes taken by {full}; present: {full}, {full2}; apologies: {given2}.
Key worker {full}, link teacher {full2}.
Carer: {full}; allergies: eggs; {given} carries an EpiPen.
Witness: {full}. Reported to: {full2}.
Volunteers: {given}; {given2}; {full}.
Teams: {given} / {given2}; {full} / {full2}
New patients: {full} (diabetes), {full2} (asthma).
Choir ({given}, {given2}) meets in the hall.
One pupil, {given}, finished early; another, {given2}, wept.
One of my residents ({full}) refuses tablets.
Two boys, {given} and {given2}, were sent out.
Three names came up: {given}, {given2} and {full}.
Room 12 – {sur} – soft diet; room 14 – {sur2} – thickened fluids.
"Stop it, {given}!" shouted {given2}.
"Is {given} here?" asked {full}.
"{given} took my pen," complained {given2}.
A friend of hers, {full}, works in radiology.
A boy named {given} asked for {given2}.
A seizure was witnessed by {full} at 14:05; {sur} was postictal for ten minutes.
A biopsy of {sur}'s thyroid is planned; {sur2}'s was benign.
A parent, {full}, complained about the marking.
Both {full} and {full2} need flu jabs.
Not {given} but {given2} rang the fire bell.
Neither {given} nor {given2} owned up.
Either {full} has the file or {full2} does.
First {given} spoke, then {given2}, last {full}.
Then {given} hid under the table. || And {given2} laughed?
Now {given} reads to {given2}.
So {given} waited, and {given2} never came.
But {given} insisted, and {full} gave in.
And {given}? || Still asleep, like {given2}.
If {full} cannot come, {full2} will.
Whether {given} stays depends on {full}.
That {given} lied upset {given2}.
What {given} said hurt {given2}.
{given} is allergic to penicillin; {given2} is not.
{given} and {given2} are partners.
{given} was stung by a wasp. || Call {given}'s mother.
{given} has outgrown the splint.
{given} needs glasses and {given2} needs a hearing test.
{given} won't eat; {given2} eats everything.
{given} can tie a bow, {given2} cannot yet.
{given} went to the toilet alone.
{given} seems withdrawn lately. || Has {given2} noticed?
{given} scored 17 of 20, {given2} 12.
{given} wet the bed twice this week.
{given} therefore repeats the year.
{given} will see the nurse at ten.
{sur} complains of headaches.
{sur} remains on oxygen; {sur2} is weaned.
{sur} declined the flu vaccine.
{sur} transferred with two; {sur2} independent.
{sur} tolerated the feed. || And {sur2}? || Vomited once.
{full} attended with a friend, {full2}.
{full} reports poor sleep.
{full} scored 24 on the Mini-Mental State Examination.
{full} was screened for sepsis; {full2} for MRSA.
{full} died peacefully at 4:20; {full2} was present.
{full} paid in cash.
{full}, {full2} and I will cover Saturday.
{full}, a widow, manages alone with help from {full2}.
{full}, bed 3: bloods at six.
{full} - wheelchair; {full2} - walking stick.
{full} (mother) signed; {full2} (father) did not.
{initial} {sur} scrubbed in, {full2} assisted.
Cataract list: {full} left eye, {full2} right eye.
Allergic to latex: {full}. Pacemaker: {full2}.
Lost property: scarf ({given}), lunch box ({given2}).
House points: {given} 12, {given2} 9.
Merit for {given}; detention for {given2}.
Homework missing from {given} and {given2}.
Absence note for {given}: tonsillitis.
Swimming: {given} level 2, {given2} level 3.
Music lesson: {given} on cello, {given2} on drums.
Lunch with {full} cost nine pounds.
Visiting {full} today, {full2} tomorrow.
Anger towards {given}; tears when {given2} left.
Concerns about {full}'s memory were raised by {full2}.
Support for {given} ends in July.
Advice given to {full}: rest, ice, elevation.
Consent obtained from {full} by {full2}.
Contact with {sur}'s nephew, {full2}, was made by phone.
Mental Health Review: {full} || Mood low. {given} denies plans to self-harm.
Fluid Chart {full} || Intake 900 ml.
Speech Therapy Notes || {given} says "wabbit"; {given2} drops the final sound.
End of Year Prizes || Maths: {full}. Art: {full2}.
Reading Log of {given} || Monday: two pages with {given2}.
Kitchen Rota || Monday {given}, Tuesday {given2}, Wednesday {full}.
Chapter 2 || {given} and {given2} share twelve apples. How many does {given} get?
Word Problem || {given} buys 3 pens, {given2} buys 5. Who pays more?
Hodgkin lymphoma was suspected in {full}; {sur}'s biopsy is pending.
Parkinson's disease makes it hard for {full} to write. {given} uses a laptop.
Crohn's disease was found in {given}; {given2} only had a virus.
On the Glasgow Coma Scale {sur} scored 9, {sur2} 15.
For Bell's palsy {full} was given prednisolone.
Metformin suits {full}, but gliclazide gave {full2} hypos.
Apgar 9 and 10; the baby of {full} is doing well.
Babinski negative in {sur}, upgoing in {sur2}.
Montessori beads helped {given}; {given2} prefers Cuisenaire rods.
In Foods and Nutrition {given} baked scones; in Design and Technology {given2} sawed a shelf.
The Royal Infirmary took {full}; St Luke's took {full2}.
The Samaritans spoke to {given} for an hour.
Results are shown in Table 2. Findings were similar in Group B. Treatment lasted eight weeks.
Infants, Children and Adolescents need other doses than Adults. Others should ask first.
Although Treatment is available, Awareness is low. Newly Diagnosed patients feel lost.
Education and Guidance for Families || Being active helps. Feeling tired is common. Over time, symptoms fade.
The Food and Drug Administration approved Humira, Enbrel and Remicade. The U.S. Department of Health and Human Services agreed.
Ashkenazi Jews, Saudi Arabians and French Canadians are screened for Tay-Sachs and Gaucher disease.
Variant (Prinzmetal's) angina happens at rest. Erb's palsy follows a difficult birth. Dercum's is rare.
Brand names include Plavix, Lipitor, Zocor and Synthroid. (Coumadin is warfarin.) Glucophage is taken with meals.
Axis I and Axis II disorders were coded. Met/Met and Val/Met carriers differed. Wave 2 had fewer cases.
Bosnia and Herzegovina, the Gaza Strip, Gujarat and Kosovo were studied. The Southwestern states were not.
The Health and Illness Profile has domains for Comfort, Achievement and Risk Avoidance. Status was rated by Parents.
Enduring Freedom, Desert Storm and New Dawn veterans joined. Combat Veterans and Reservists answered by post.
What Works for Whom? || Prevalent views, Social Support and Coping Style explain Resilience and Recovery.
Varicose Veins, Spider Veins and Hemorrhoids || Elevate your legs. Wear Compression Stockings. Avoid Standing.
Key Points || Newly diagnosed? Read this. View all. Share Print. Top of Page.
The Krebs cycle, the Calvin cycle and the Haber process are on the exam. Use the Bunsen burner. Fill the Petri dish.
The Henle loop, the Bowman capsule and the Malpighi pyramids lie in the kidney. Peyer patches lie in the gut.
Kegel exercises, the Epley manoeuvre and the Valsalva manoeuvre are taught. Use a Zimmer frame.
Read Matilda, Heidi and Oliver Twist. Watch Frozen. Listen to Peter and the Wolf.
Tesla, Newton, Pascal and Joule are units. Celsius and Fahrenheit measure heat. Richter measures earthquakes.
Winter Uniform is worn from October. Summer Fair: stalls wanted. Autumn Walk: bring boots. Spring Concert at six.
May half term, June exams, August holiday. In April it rains; in March the wind blows. Easter falls in April.
North Bridge, Castle Hill, River Walk and Church Lane are closed. Park Hall opens at nine. Meet at Lake House.
"""

LINES = {"en": [line for line in EN.strip().split("\n") if line]}
