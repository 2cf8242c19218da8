import { fetchPart, post } from "./send.js";

const outcome = document.getElementById("outcome");
const dialog = document.getElementById("confirm");

async function load(panel) {
  const opened = new Set(
    [...panel.querySelectorAll("details")].filter((each) => each.open).map((each) => each.firstElementChild.textContent),
  );
  const { part } = await fetchPart(panel.dataset.panel);
  if (panel.contains(document.activeElement) && panel.dataset.loaded) {
    return; // whoever reads or is about to press something there is not disturbed
  }
  panel.replaceChildren(part);
  panel.dataset.loaded = "yes";
  for (const each of panel.querySelectorAll("details")) {
    each.open ||= opened.has(each.firstElementChild.textContent);
  }
}

async function follow(panel) {
  for (;;) {
    if (!document.hidden) {
      await load(panel);
    }
    await new Promise((resolve) => setTimeout(resolve, panel.dataset.seconds * 1000));
  }
}

function confirm({ title, text, yes }) {
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button || !(await confirm(button.dataset))) {
    return;
  }
  const panel = button.closest("[data-panel]");
  button.disabled = true;
  const waiting = document.createElement("p");
  waiting.className = "status busy";
  waiting.textContent = "Verifying and deciding …";
  outcome.replaceChildren(waiting);
  const body = new URLSearchParams(button.dataset.version ? { version: button.dataset.version } : {});
  const { part } = await post(button.dataset.act, body);
  outcome.replaceChildren(part);
  outcome.focus();
  await load(panel);
});

document.querySelectorAll("[data-panel]").forEach(follow);
