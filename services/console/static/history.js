// Answers of this tab that outlast the page: no picture and no file name. Signing out and closing the tab delete them.

const KEY = "buckler-answers";
const MOST = 200;

/** The answers before this page was loaded, oldest first: {label, probability, decision, request, time}. */
export const earlier = read();

/** Add an answer. */
export function remember(answer) {
  write([...read(), answer].slice(-MOST));
}

/** Delete all answers. */
export function forget() {
  earlier.length = 0;
  write([]);
}

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) || [];
  } catch {
    return []; // storage is turned off
  }
}

function write(answers) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(answers));
  } catch {
    // storage is turned off: the answers last as long as the page
  }
}
