// The panel that attacks the picture of the answer on the page.

import { show } from "./progress.js";
import { fetchPart, post } from "./send.js";

const POLL_MILLISECONDS = 700;

const panel = document.getElementById("attack");
const attackSwitch = document.getElementById("attack-switch");
const choices = document.getElementById("attack-choices");
const status = document.getElementById("attack-status");
const attacked = document.getElementById("attacked");

let picture = null;
let request = null;

/** Offer to attack `file`, the picture of the answer on the page; without a file, hide the panel. */
export function offerAttack(file) {
  picture = file;
  request?.abort();
  clear();
  panel.hidden = !file;
  if (file && attackSwitch.checked) {
    run();
  }
}

async function run() {
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  const attack = chosen("attack");
  const radius = chosen("radius").value;
  const title = attack.nextElementSibling.textContent;
  attacked.setAttribute("aria-busy", "true");
  show(status, "Attacking …", true);
  const polling = setInterval(() => showProgress(signal), POLL_MILLISECONDS);
  try {
    const { ok, part } = await post(`/attack?attack=${attack.value}&radius=${encodeURIComponent(radius)}`, picture, { signal });
    clearInterval(polling);
    attacked.replaceChildren(part);
    show(status, ok ? `${title}, at most ${radius}` : "", false);
    attacked.removeAttribute("aria-busy");
  } catch {
    // another attack, radius or picture was chosen in the meantime
  } finally {
    clearInterval(polling);
  }
}

async function showProgress(signal) {
  try {
    const { ok, part } = await fetchPart("/attack/progress", { signal });
    if (ok && !signal.aborted && attacked.hasAttribute("aria-busy")) {
      show(status, part.textContent.trim(), true);
    }
  } catch {
    // the attack was aborted
  }
}

function chosen(name) {
  return panel.querySelector(`input[name=${name}]:checked`);
}

function clear() {
  attacked.replaceChildren();
  attacked.removeAttribute("aria-busy");
  show(status, "", false);
}

attackSwitch.addEventListener("change", () => {
  choices.hidden = !attackSwitch.checked;
  if (attackSwitch.checked) {
    run();
  } else {
    request?.abort();
    clear();
  }
});
choices.addEventListener("change", () => {
  for (const about of choices.querySelectorAll("[data-attack]")) {
    about.hidden = about.dataset.attack !== chosen("attack").value;
  }
  run();
});
// Loading the weights takes seconds: start when the user approaches the attack, not for every picture.
for (const name of ["pointerenter", "focusin"]) {
  panel.addEventListener(name, () => post("/attack/prepare"), { once: true });
}
