import { offerAttack } from "./attack.js";
import { show } from "./progress.js";
import { post } from "./send.js";

const file = document.getElementById("file");
const drop = document.getElementById("drop");
const status = document.getElementById("status");
const answer = document.getElementById("answer");

let classifyRequest = null;

async function classify(chosen) {
  classifyRequest?.abort();
  classifyRequest = new AbortController();
  const { signal } = classifyRequest;
  offerAttack(null);
  answer.replaceChildren(); // an old answer must not be taken for the new picture's
  answer.setAttribute("aria-busy", "true");
  // The file name is not sent: it may name a patient.
  show(status, `Classifying ${chosen.name || "the picture"} …`, true);
  try {
    const { ok, part } = await post("/ask", chosen, { signal });
    answer.replaceChildren(part);
    show(status, ok ? `Answer for ${chosen.name || "the picture"}` : "", false);
    offerAttack(ok ? chosen : null);
    answer.focus({ preventScroll: true });
    answer.removeAttribute("aria-busy");
  } catch {
    // another picture was chosen in the meantime
  }
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
