import { post } from "./send.js";

const file = document.getElementById("file");
const drop = document.getElementById("drop");
const status = document.getElementById("status");
const answer = document.getElementById("answer");
const attack = document.getElementById("attack");
const attackSwitch = document.getElementById("attack-switch");
const radii = document.getElementById("radii");
const attackStatus = document.getElementById("attack-status");
const attacked = document.getElementById("attacked");

let picture = null; // kept by this page only, to be attacked
let asking = null;
let attacking = null;

async function ask(chosen) {
  picture = chosen;
  asking?.abort();
  attacking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  attack.hidden = true;
  showNoAttack();
  answer.setAttribute("aria-busy", "true");
  // The name stays here: it may be a patient's.
  say(status, `Asking about ${chosen.name || "the picture"} …`, true);
  try {
    const { ok, part } = await post("/ask", chosen, { signal });
    answer.replaceChildren(part);
    say(status, ok ? `Answer for ${chosen.name || "the picture"}` : "", false);
    attack.hidden = !ok;
    if (ok && attackSwitch.checked) {
      runAttack();
    }
    answer.focus({ preventScroll: true });
    answer.removeAttribute("aria-busy");
  } catch {
    // another picture was chosen meanwhile
  }
}

async function runAttack() {
  attacking?.abort();
  attacking = new AbortController();
  const { signal } = attacking;
  const radius = document.querySelector("input[name=epsilon_255]:checked").value;
  attacked.setAttribute("aria-busy", "true");
  say(attackStatus, "Attacking … the first time takes up to a minute, while the model's weights are loaded", true);
  try {
    const { ok, part } = await post(`/attack?epsilon_255=${radius}`, picture, { signal });
    attacked.replaceChildren(part);
    say(attackStatus, ok ? `Attacked within ${radius}/255` : "", false);
    attacked.removeAttribute("aria-busy");
  } catch {
    // another radius or picture was chosen meanwhile
  }
}

function showNoAttack() {
  attacked.replaceChildren();
  attacked.removeAttribute("aria-busy");
  say(attackStatus, "", false);
}

function say(place, text, busy) {
  place.textContent = text;
  place.classList.toggle("busy", busy);
}

file.addEventListener("change", () => {
  if (file.files.length) {
    ask(file.files[0]);
  }
  file.value = ""; // the same picture may be chosen again
});

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) {
    drop.classList.remove("over");
  }
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) {
    ask(event.dataTransfer.files[0]);
  }
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    ask(event.clipboardData.files[0]);
  }
});

attackSwitch.addEventListener("change", () => {
  radii.hidden = !attackSwitch.checked;
  if (attackSwitch.checked) {
    runAttack();
  } else {
    attacking?.abort();
    showNoAttack();
  }
});
radii.addEventListener("change", runAttack);
// Weights take seconds to load: begin when somebody comes near, not for everybody who looks at a picture.
for (const name of ["pointerenter", "focusin"]) {
  attack.addEventListener(name, () => post("/attack/prepare"), { once: true });
}
