// Says an answer to a screen reader as it comes: whole sentences, and one model after the other.

const SENTENCE = /[\s\S]*?(?:[.!?]["'”’)\]]*(?:\s+|$)|[。！？\n]\s*)/g;
const MAX_LINES = 30;

export class Speaker {
  constructor(place) {
    this.place = place;
    this.talks = []; // in the order in which they began; the first one has the word
  }

  begin(who, label) {
    this.talks.push({ who, label, rest: "", lines: [], isOver: false });
  }

  add(who, text) {
    const talk = this.#of(who);
    talk.rest += text;
    const found = talk.rest.match(SENTENCE) ?? [];
    // The last one may go on: “at 7.30” is no end.
    const whole = found.filter((line, at) => at < found.length - 1 || /[\s。！？]$/.test(line)).join("");
    if (!whole.trim()) return;
    talk.rest = talk.rest.slice(whole.length);
    talk.lines.push(whole.trim());
    this.#flush();
  }

  status(who, sentence) {
    if (!sentence) return;
    this.#of(who).lines.push(sentence);
    this.#flush();
  }

  end(who, note) {
    const talk = this.#of(who);
    talk.lines.push(...[talk.rest.trim(), note].filter(Boolean));
    talk.isOver = true;
    this.#flush();
  }

  say(sentence) {
    const line = document.createElement("p");
    line.textContent = sentence;
    this.place.append(line);
    while (this.place.children.length > MAX_LINES) this.place.firstElementChild.remove();
  }

  #of(who) {
    return this.talks.find((talk) => talk.who === who);
  }

  #flush() {
    while (this.talks.length) {
      const talk = this.talks[0];
      for (const line of talk.lines.splice(0)) {
        this.say(talk.label ? `${talk.label}: ${line}` : line);
        talk.label = "";
      }
      if (!talk.isOver) return;
      this.talks.shift();
    }
  }
}
