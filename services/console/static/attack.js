// The panel that attacks the picture of the answer on the page.

import { show } from "./progress.js";
import { post } from "./send.js";

const panel = document.getElementById("attack");
const attackSwitch = document.getElementById("attack-switch");
const radii = document.getElementById("radii");
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
  const radius = document.querySelector("input[name=epsilon_255]:checked").value;
  attacked.setAttribute("aria-busy", "true");
  show(status, "Attacking … The first attack takes up to a minute, because the model's weights must be loaded.", true);
  try {
    const { ok, part } = await post(`/attack?epsilon_255=${radius}`, picture, { signal });
    attacked.replaceChildren(part);
    show(status, ok ? `Attacked within ${radius}/255` : "", false);
    attacked.removeAttribute("aria-busy");
  } catch {
    // another radius or picture was chosen in the meantime
  }
}

function clear() {
  attacked.replaceChildren();
  attacked.removeAttribute("aria-busy");
  show(status, "", false);
}

attackSwitch.addEventListener("change", () => {
  radii.hidden = !attackSwitch.checked;
  if (attackSwitch.checked) {
    run();
  } else {
    request?.abort();
    clear();
  }
});
radii.addEventListener("change", run);
// Loading the weights takes seconds: start when the user approaches the attack, not for every picture.
for (const name of ["pointerenter", "focusin"]) {
  panel.addEventListener(name, () => post("/attack/prepare"), { once: true });
}
