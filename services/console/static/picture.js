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

let picture = null; // stays in this page, for the attack
let classifyRequest = null;
let attackRequest = null;

async function classify(chosen) {
  picture = chosen;
  classifyRequest?.abort();
  attackRequest?.abort();
  classifyRequest = new AbortController();
  const { signal } = classifyRequest;
  attack.hidden = true;
  clearAttack();
  answer.replaceChildren(); // an old answer must not be taken for the new picture's
  answer.setAttribute("aria-busy", "true");
  // The file name is not sent: it may name a patient.
  show(status, `Classifying ${chosen.name || "the picture"} …`, true);
  try {
    const { ok, part } = await post("/ask", chosen, { signal });
    answer.replaceChildren(part);
    show(status, ok ? `Answer for ${chosen.name || "the picture"}` : "", false);
    attack.hidden = !ok;
    if (ok && attackSwitch.checked) {
      runAttack();
    }
    answer.focus({ preventScroll: true });
    answer.removeAttribute("aria-busy");
  } catch {
    // another picture was chosen in the meantime
  }
}

async function runAttack() {
  attackRequest?.abort();
  attackRequest = new AbortController();
  const { signal } = attackRequest;
  const radius = document.querySelector("input[name=epsilon_255]:checked").value;
  attacked.setAttribute("aria-busy", "true");
  show(attackStatus, "Attacking … The first attack takes up to a minute, because the model's weights must be loaded.", true);
  try {
    const { ok, part } = await post(`/attack?epsilon_255=${radius}`, picture, { signal });
    attacked.replaceChildren(part);
    show(attackStatus, ok ? `Attacked within ${radius}/255` : "", false);
    attacked.removeAttribute("aria-busy");
  } catch {
    // another radius or picture was chosen in the meantime
  }
}

function clearAttack() {
  attacked.replaceChildren();
  attacked.removeAttribute("aria-busy");
  show(attackStatus, "", false);
}

function show(place, text, busy) {
  place.textContent = text;
  place.classList.toggle("busy", busy);
}

file.addEventListener("change", () => {
  if (file.files.length) {
    classify(file.files[0]);
  }
  file.value = ""; // lets the user choose the same file again
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
    classify(event.dataTransfer.files[0]);
  }
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    classify(event.clipboardData.files[0]);
  }
});

attackSwitch.addEventListener("change", () => {
  radii.hidden = !attackSwitch.checked;
  if (attackSwitch.checked) {
    runAttack();
  } else {
    attackRequest?.abort();
    clearAttack();
  }
});
radii.addEventListener("change", runAttack);
// Loading the weights takes seconds: start when the user approaches the attack, not for every picture.
for (const name of ["pointerenter", "focusin"]) {
  attack.addEventListener(name, () => post("/attack/prepare"), { once: true });
}
