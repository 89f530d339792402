// Asks without leaving the page: a question goes out, its place comes back from the server, and each
// answer is read word by word from a stream of its own. Closing the stream ends the answer.

import { LOST, ask as asked, fresh, isOurs, reason } from "./answers.js";
import { Speaker } from "./speaker.js";

const page = document.querySelector("[data-ask]");
const turns = page.querySelector("[data-turns]");
const speaker = new Speaker(page.querySelector("[data-spoken]"));
const BAR_PIXELS = 88; // of the page's bar, as scroll-padding-top in etude.css
const running = new Map(); // answer's element -> what ends its stream
const signed = new Map(); // answer's element -> its words so far, with the server's proof of them

const box = () => page.querySelector("[data-box]");
const form = () => page.querySelector("[data-ask-form]");

// --- asking -----------------------------------------------------------------------------------

page.addEventListener("submit", (event) => {
  if (event.target.matches("[data-ask-form]")) {
    event.preventDefault();
    ask(event.submitter);
  } else if (event.target.matches("[data-again]")) {
    event.preventDefault();
    again(event.target.closest("[data-answer]"));
  } else if (event.target.matches("[data-report]")) {
    event.preventDefault();
    report(event.target);
  } else {
    judged = { id: event.target.closest("[data-answer]")?.id, action: event.submitter?.value };
  }
});

// An answer that was judged is drawn anew: the focus goes back to where it was.
let judged = {};
document.addEventListener("htmx:after:swap", () => {
  const answer = judged.id && document.getElementById(judged.id);
  if (!answer) return;
  const summary = answer.querySelector("summary");
  const button = answer.querySelector(`.judging [value="${judged.action}"]`);
  judged = {};
  (button ?? summary)?.focus();
});

page.addEventListener("keydown", (event) => {
  if (!event.target.matches("[data-box]") || event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    form().requestSubmit(page.querySelector("[data-send]"));
  } else if (event.key === "Escape" && running.size) {
    stopAll();
  }
});

let isAsking = false;

async function ask(submitter) {
  if (isAsking || running.size) {
    speaker.say("Wait for the answer, or stop it with Escape.");
    return;
  }
  const isTest = submitter?.name === "example";
  const typed = box().value;
  if (!isTest) box().focus();
  isAsking = true;
  tellProblem("");
  writeHistory(null);
  const fields = new FormData(form(), submitter);
  if (isTest) fields.set("question", "");
  try {
    const headers = { "X-Script": "1", Accept: "text/html, text/plain" };
    const answer = await asked(page.dataset.ask, { method: "POST", body: fields, headers }, tellProblem);
    if (answer === null) return;
    const place = document.createElement("div");
    place.innerHTML = answer.text;
    const turn = place.querySelector("[data-turn]");
    if (!turn) {
      tellProblem("Please load this page again, and sign in if it asks you to.");
      return;
    }
    if (!isTest && box().value === typed) box().value = "";
    tellLooks("");
    turns.append(turn);
    window.htmx?.process?.(turn);
    page.querySelector("[data-empty]").hidden = true;
    document.querySelector("[data-new]").hidden = false;
    const address = answer.header("X-Conversation");
    const isNew = address !== null && address !== location.pathname;
    if (address !== null) keepAddress(address);
    box().focus({ preventScroll: true });
    bringIntoView(turn);
    const isAnswered = await answerAll(turn, fields, isTest ? "" : typed);
    if (isNew && isAnswered) refreshConversations();
  } finally {
    isAsking = false;
  }
}

// Says whether anybody had a word. The second answer is asked for once the first one is under way, so
// that it does not come first where one follows the other.
async function answerAll(turn, fields, typed) {
  const answers = [...turn.querySelectorAll("[data-answer]")];
  const ends = [];
  for (const answer of answers) {
    await new Promise((begun) => {
      ends.push(stream(answer, fieldsFor(answer, fields), begun));
    });
  }
  const reasons = await Promise.all(ends);
  keepingInView(() => turn.classList.remove("is-busy"));
  const isLost = answers.every((one) => one.dataset.finish === "failed" && !words(one).textContent);
  if (!isLost) return true;
  // Nobody could say a word: the question stands in its box again, with the reason.
  turn.remove();
  if (!box().value) box().value = typed;
  tellProblem(reasons.find(Boolean) ?? "");
  if (!turns.children.length) forgetAddress();
  return false;
}

// The list below, with the button that deletes, knows of this conversation once it is kept.
async function refreshConversations() {
  const found = (await fresh(location.pathname))?.querySelector("[data-conversations]");
  if (found) page.querySelector("[data-conversations]").replaceChildren(...found.childNodes);
}

async function again(answer) {
  if (running.has(answer)) return;
  const turn = answer.closest("[data-turn]");
  let fields = new FormData(answer.querySelector("[data-again]"));
  if (!answer.dataset.id) {
    writeHistory(turn);
    fields = new FormData(form());
    fields.set("question", turn.querySelector("[data-question]").textContent);
    if (turn.dataset.example) fields.set("example", turn.dataset.example);
    writeHistory(null);
  }
  turn.classList.add("is-busy");
  await stream(answer, fieldsFor(answer, fields), () => {});
  if (![...turn.querySelectorAll("[data-answer]")].some((one) => running.has(one))) {
    turn.classList.remove("is-busy");
  }
  box().focus({ preventScroll: true });
}

function fieldsFor(answer, fields) {
  const mine = new FormData();
  if (answer.dataset.id) {
    mine.set("answer", answer.dataset.id);
    return mine;
  }
  for (const [name, value] of fields) mine.set(name, value);
  mine.set("place", answer.dataset.place);
  return mine;
}

// --- one answer -------------------------------------------------------------------------------

const words = (answer) => answer.querySelector("[data-words]");
const note = (answer) => answer.querySelector("[data-note]");

// Returns why it failed before its first word, or nothing.
async function stream(answer, fields, begun) {
  const ending = new AbortController();
  running.set(answer, ending);
  showRunning();
  answer.dataset.finish = "open";
  words(answer).textContent = "";
  answer.querySelector("[data-seconds]").textContent = "";
  tellNote(answer, "");
  showSources(answer, "", "");
  const label = answer.querySelector("[data-label]").textContent;
  speaker.begin(answer, label);
  // Where nobody answers at all, nobody had a word.
  let end = { finish: "failed", note: LOST, seconds: "", is_empty: true };
  let told = "";
  signed.delete(answer);
  try {
    const response = await fetch(page.dataset.answerAddress, {
      method: "POST",
      body: fields,
      headers: { Accept: "text/event-stream" },
      signal: ending.signal,
    });
    const header = (name) => response.headers.get(name);
    const isStream = header("Content-Type")?.startsWith("text/event-stream");
    if (!response.ok || !isStream || !isOurs(header)) {
      end.note = reason({ status: response.status, header, text: await response.text() });
      return end.note;
    }
    end = null;
    for await (const { event, data } of events(response.body)) {
      begun();
      if (event === "waiting") {
        tellNote(answer, data.sentence);
        speaker.status(answer, data.sentence);
      } else if (event === "sources") {
        keepingInView(() => showSources(answer, data.html, data.note));
        speaker.status(answer, data.note);
      } else if (event === "piece") {
        tellNote(answer, "");
        told += data.text;
        keepingInView(() => words(answer).append(data.text));
        speaker.add(answer, data.text);
      } else if (event === "end") {
        end = data;
      }
      if (data.proof) signed.set(answer, { answer: told, proof: data.proof });
    }
  } catch {
    // Stopped, or the connection is lost: what is there stays.
  } finally {
    begun();
    running.delete(answer);
    showRunning();
    end ??= { finish: "broken_off", note: "This answer was interrupted.", seconds: "", is_empty: false };
    if (ending.signal.aborted) end = { ...end, finish: "broken_off", note: "You stopped this answer." };
    keepingInView(() => {
      answer.dataset.finish = end.finish;
      words(answer).textContent = words(answer).textContent.trimEnd();
      answer.querySelector("[data-seconds]").textContent = end.seconds;
      tellNote(answer, end.note);
    });
    const better = answer.querySelector("textarea[name=better]");
    if (better) better.value = words(answer).textContent;
    speaker.end(answer, end.note);
  }
  return end.finish === "failed" && end.is_empty ? end.note : "";
}

// The rows of the data that it is taken from, as the server draws them.
function showSources(answer, html, sentence) {
  answer.querySelector("[data-sources]").innerHTML = html;
  answer.querySelector("[data-sources-note]").textContent = sentence;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const of = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      yield { event: of("event") ?? "", data: JSON.parse(of("data") ?? "{}") };
    }
  }
}

function stopAll() {
  for (const ending of running.values()) ending.abort();
}

page.addEventListener("click", (event) => {
  const stop = event.target.closest("[data-stop]");
  const copy = event.target.closest("[data-copy]");
  if (stop) {
    const answer = stop.closest("[data-answer]");
    if (answer) running.get(answer)?.abort();
    else stopAll();
    box().focus({ preventScroll: true });
  } else if (copy) {
    navigator.clipboard.writeText(words(copy.closest("[data-answer]")).textContent);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  }
});
// Browsers give the clipboard to pages of https and of this machine alone.
if (!navigator.clipboard) page.classList.add("cannot-copy");

// A page that is left must not keep a machine busy.
window.addEventListener("pagehide", stopAll);

// --- a word to the model's owner --------------------------------------------------------------

async function report(reporting) {
  const answer = reporting.closest("[data-answer]");
  const fields = new FormData(reporting);
  for (const [name, value] of Object.entries(signed.get(answer) ?? {})) fields.set(name, value);
  fields.set("history", "");
  const problem = reporting.querySelector("[data-report-problem]");
  problem.textContent = "";
  const headers = { "X-Script": "1", Accept: "text/plain" };
  const said = await asked(reporting.action, { method: "POST", body: fields, headers }, (sentence) => {
    problem.textContent = sentence;
  });
  if (said === null) return;
  const done = document.createElement("p");
  done.className = "soft small reported";
  done.tabIndex = -1;
  done.textContent = said.text;
  answer.querySelector("[data-reporting]").replaceWith(done);
  done.focus();
}

// --- words while somebody types ---------------------------------------------------------------

let typing = null;
page.addEventListener("input", (event) => {
  if (!event.target.matches("[data-box]")) return;
  clearTimeout(typing);
  typing = setTimeout(look, 600);
});

async function look() {
  const text = box().value;
  const fields = new FormData();
  fields.set("text", text);
  if (!text.trim()) return tellLooks("");
  try {
    const answer = await fetch(page.dataset.look, { method: "POST", body: fields });
    if (answer.ok && box().value === text) tellLooks((await answer.json()).sentence ?? "");
  } catch {
    // No word of warning is no reason to say anything.
  }
}

// --- small things -----------------------------------------------------------------------------

// Where nothing is kept, the page is all there is: what was said goes along with each question.
function writeHistory(before) {
  const place = page.querySelector("[data-history]");
  if (!place || page.querySelector("[data-answer][data-id]")) return;
  const said = [];
  for (const turn of turns.querySelectorAll("[data-turn]")) {
    if (turn === before) break;
    said.push({
      question: turn.querySelector("[data-question]").textContent,
      example: turn.dataset.example ? Number(turn.dataset.example) : null,
      answers: [...turn.querySelectorAll("[data-answer]")].map((one) => ({
        label: one.querySelector("[data-label]").textContent,
        adapter: one.dataset.adapter ? Number(one.dataset.adapter) : null,
        text: words(one).textContent,
        finish: one.dataset.finish === "open" ? null : one.dataset.finish,
      })),
    });
  }
  place.value = said.length ? JSON.stringify(said) : "";
}

// A reload finds the conversation again.
function keepAddress(address) {
  history.replaceState(null, "", address);
  page.querySelector("[data-conversation]").value = address.split("/").pop();
}
function forgetAddress() {
  if (!page.querySelector("[data-conversation]").value) return;
  history.replaceState(null, "", page.dataset.ask);
  page.querySelector("[data-conversation]").value = "";
}

// From its question down to the box where that fits on the screen, else from its question on.
function bringIntoView(turn) {
  const room = window.innerHeight - BAR_PIXELS;
  const fits = form().getBoundingClientRect().bottom - turn.getBoundingClientRect().top <= room;
  if (fits) form().scrollIntoView({ block: "nearest" });
  if (!fits || turn.getBoundingClientRect().top < BAR_PIXELS) turn.scrollIntoView({ block: "start" });
}

// The box stays where it is while an answer above it grows, until that would hide the question.
function keepingInView(change) {
  const foot = form();
  const wasSeen = foot.getBoundingClientRect().bottom <= window.innerHeight + 4;
  change();
  const top = turns.lastElementChild?.getBoundingClientRect().top ?? 0;
  const beyond = foot.getBoundingClientRect().bottom - window.innerHeight;
  if (wasSeen && top - beyond >= BAR_PIXELS) foot.scrollIntoView({ block: "nearest" });
}

function showRunning() {
  const isRunning = running.size > 0;
  const stop = form().querySelector("[data-stop]");
  const send = form().querySelector("[data-send]");
  stop.hidden = !isRunning;
  send.hidden = isRunning;
}

function tellProblem(sentence) {
  page.querySelector("[data-problem]").textContent = sentence;
}
function tellLooks(sentence) {
  const place = page.querySelector("[data-looks]");
  if (place.textContent !== sentence) place.textContent = sentence;
}
function tellNote(answer, sentence) {
  if (note(answer).textContent !== sentence) note(answer).textContent = sentence;
}
