// The pictures of this tab and their answers, and the list that shows them.

import { earlier, forget, remember } from "./history.js";
import { thumbnail } from "./thumbnail.js";

const STATES = { waiting: "waiting", sending: "sending", checking: "checking", failed: "not answered" };
const DECISIONS = { review: "needs review", accept: "no automatic warning" };

const section = document.getElementById("session");
const list = document.getElementById("entries");
const reviewFirst = document.getElementById("review-first");
const entries = [];

/** One picture: its file, state, and, once answered, the part of the page that shows the answer. */
export class Entry {
  /** Add a row for `file`; `open` is called with the entry when the user chooses the row. */
  constructor(file, open) {
    this.file = file;
    this.name = file.name || "picture";
    this.state = "waiting";
    this.part = null; // element with the answer or the error
    this.text = ""; // more about the state
    this.answer = null; // {label, probability, decision, request, time}
    this.row = document.createElement("li");
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "entry";
    this.image = document.createElement("img");
    this.image.alt = "";
    this.words = document.createElement("span");
    this.button.append(this.image, this.words);
    this.button.addEventListener("click", () => open(this));
    this.row.append(this.button);
    entries.push(this);
    thumbnail(file).then((address) => this.picture(address));
    this.draw();
  }

  /** Change the state; `text` says more about it. */
  become(state, text = "") {
    this.state = state;
    this.text = text;
    this.draw();
  }

  /** Keep the answer or the error `part`. */
  finish(ok, part) {
    this.part = document.createElement("div");
    this.part.append(part);
    const article = this.part.querySelector("article.answer");
    if (ok && article) {
      const { label, probability, decision, request } = article.dataset;
      this.answer = { label, probability, decision, request, time: new Date().toISOString() };
      remember(this.answer);
      this.picture(article.querySelector(".views img").src); // of a DICOM file, which the browser cannot show
    }
    this.become(this.answer ? "answered" : "failed", this.part.querySelector(".problem strong")?.textContent);
  }

  /** Show the picture at `address` in the row, unless it shows one already. */
  picture(address) {
    if (address && !this.image.src) {
      this.image.src = address;
    }
  }

  get done() {
    return !["waiting", "sending", "checking"].includes(this.state);
  }

  draw() {
    const { answer } = this;
    const warning = answer?.decision === "review" || this.state === "failed";
    const more = answer ? `${answer.label}, ${answer.probability}, ${clock(answer.time)}` : this.text;
    this.words.replaceChildren(...texts(this.name, more, answer ? DECISIONS[answer.decision] : STATES[this.state], warning));
    if (this.done && reviewFirst.checked) {
      sort();
    }
  }
}

/** Mark `entry` as the one whose answer is on the page. */
export function mark(entry) {
  for (const each of entries) {
    each.button.setAttribute("aria-current", String(each === entry));
  }
}

/** Show the list if there is more to it than the answer on the page. */
export function showList() {
  section.hidden = entries.length < 2 && !earlier.length;
  sort();
}

/** Return the entries that are not answered yet, oldest first. */
export function open() {
  return entries.filter((entry) => !entry.done);
}

/** Return how many of the entries `ours` are answered, not answered, and need review. */
export function count(ours) {
  return {
    done: ours.filter((entry) => entry.done).length,
    failed: ours.filter((entry) => entry.done && !entry.answer).length,
    review: ours.filter((entry) => entry.answer?.decision === "review").length,
  };
}

/** Remove every entry and everything that the tab keeps of earlier ones. */
export function clear() {
  entries.forEach((entry) => URL.revokeObjectURL(entry.image.src));
  entries.length = 0;
  forget();
  showList();
}

function sort() {
  const rank = (entry) => (entry.state === "failed" || entry.answer?.decision === "review" ? 0 : 1);
  const shown = reviewFirst.checked ? [...entries].sort((a, b) => rank(a) - rank(b)) : entries;
  const rows = [...shown.map((entry) => entry.row), ...earlier.map(earlierRow)];
  const focused = document.activeElement;
  list.replaceChildren(...rows);
  focused?.focus({ preventScroll: true }); // an element loses the focus when it moves
}

function earlierRow({ label, probability, decision, time, request }) {
  const row = document.createElement("li");
  row.className = "entry earlier";
  const words = document.createElement("span");
  const more = `${clock(time)}, picture no longer kept, request ${request.slice(0, 8)}…`;
  words.append(...texts(`${label}, ${probability}`, more, DECISIONS[decision], decision === "review"));
  row.append(words);
  return row;
}

/** Return the lines of a row: title, more about it, and a pill. */
function texts(title, more, pill, warning) {
  const lines = [
    ["strong", "", title],
    ["span", "quiet small", more],
    ["span", warning ? "pill warning" : "pill", pill],
  ];
  return lines.filter(([, , text]) => text).map(([tag, style, text]) => {
    const line = document.createElement(tag);
    line.className = style;
    line.textContent = text;
    return line;
  });
}

function clock(time) {
  return new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

reviewFirst.addEventListener("change", sort);
