// The picture page: sends the pictures that the user gives, two at a time, and shows the answers.

import { offerAttack } from "./attack.js";
import { onFiles } from "./choose.js";
import { clear, count, Entry, mark, open, showList } from "./entries.js";
import "./feedback.js";
import "./print.js";
import { show } from "./progress.js";
import { failure } from "./send.js";
import { upload } from "./upload.js";
import "./zoom.js";

const AT_ONCE = 2;

const status = document.getElementById("status");
const bar = document.getElementById("progress");
const answer = document.getElementById("answer");
const start = document.getElementById("start");
const cancel = document.getElementById("cancel");
const { limit, limitText } = document.querySelector(".choose").dataset;

let batch = []; // the entries since the queue was last empty
let current = null; // the entry whose answer is on the page
let running = 0;

function add(files) {
  const added = files.map((file) => new Entry(file, display));
  enqueue(added);
  start.hidden = true;
  showList();
  added.filter((entry) => entry.file.size > limit).forEach((entry) => finish(entry, false, tooLarge(entry.file)));
  display(added[0]);
  work();
}

/** Make `added`, which wait to be sent, part of the batch. */
function enqueue(added) {
  if (open().every((entry) => added.includes(entry))) {
    batch = [];
  }
  batch = [...batch.filter((entry) => !added.includes(entry)), ...added];
}

/** Start to send entries that wait, up to AT_ONCE at the same time. */
function work() {
  const waiting = open().filter((entry) => entry.state === "waiting");
  for (const entry of waiting.slice(0, AT_ONCE - running)) {
    running += 1;
    send(entry).finally(() => {
      running -= 1;
      work();
    });
  }
  report();
}

async function send(entry) {
  entry.request = new AbortController();
  entry.become("sending");
  const onProgress = (share) => {
    entry.share = share;
    if (entry.state === "sending" && share === 1) {
      entry.become("checking");
    }
    report();
  };
  try {
    const { ok, part } = await upload("/ask", entry.file, { signal: entry.request.signal, onProgress });
    finish(entry, ok, part);
    if (!ok) {
      offerRetry(entry);
    }
  } catch {
    cancelled(entry);
  }
}

function cancelled(entry) {
  finish(entry, false, failure("Cancelled", "The picture was not classified."));
  offerRetry(entry);
}

function offerRetry(entry) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Try again";
  button.addEventListener("click", () => {
    entry.request = null;
    entry.part = null;
    entry.become("waiting");
    enqueue([entry]);
    display(entry);
    work();
  });
  entry.part.querySelector(".problem").append(button);
}

function finish(entry, ok, part) {
  entry.finish(ok, part);
  if (entry === current) {
    display(entry);
  }
}

/** Show the answer of `entry`, or that it is not there yet. */
function display(entry) {
  current = entry;
  mark(entry);
  answer.replaceChildren(...(entry?.part ? [entry.part] : [])); // an old answer must not be taken for this picture's
  offerAttack(entry?.answer ? entry.file : null);
  if (entry?.part) {
    answer.focus({ preventScroll: true });
    if (answer.getBoundingClientRect().top > innerHeight / 2) {
      answer.scrollIntoView(); // on a phone, the answer begins below the screen
    }
  }
  report();
}

/** Say how far the batch is. */
function report() {
  const { done, failed, review } = count(batch);
  const busy = done < batch.length;
  cancel.hidden = !busy || batch.length < 2;
  const sending = batch.filter((entry) => entry.state === "sending");
  bar.hidden = !sending.length;
  bar.value = sending.reduce((sum, entry) => sum + (entry.share || 0), 0) / (sending.length || 1);
  if (batch.length > 1) {
    const more = [review && `${review} need${review > 1 ? "" : "s"} review`, failed && `${failed} not answered`];
    show(status, [`${done} of ${batch.length} done`, ...more.filter(Boolean)].join(", "), busy);
  } else if (batch.length) {
    const [{ name, answer: found, state }] = batch;
    const texts = { sending: `Sending ${name} …`, checking: `Classifying ${name} …`, waiting: `Classifying ${name} …` };
    show(status, found ? `Answer for ${name}` : texts[state] || "", busy);
  } else {
    show(status, "", false);
  }
}

function tooLarge(file) {
  const size = `${(file.size / 1e6).toFixed(1)} MB`;
  return failure("The file is too large", `Choose one of at most ${limitText}. This one has ${size}.`);
}

function stop() {
  for (const entry of open()) {
    if (entry.request) {
      entry.request.abort();
    } else {
      cancelled(entry);
    }
  }
  report();
}

cancel.addEventListener("click", stop);
document.getElementById("clear").addEventListener("click", () => {
  stop();
  clear();
  batch = [];
  start.hidden = false;
  display(null);
  document.getElementById("file").focus();
});
onFiles(add);
showList();
