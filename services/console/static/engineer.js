import { fetchPart, post } from "./send.js";

const outcome = document.getElementById("outcome");
const dialog = document.getElementById("confirm");

/** Replace the content of `panel`, keeping opened details open. */
async function load(panel) {
  const opened = new Set(
    [...panel.querySelectorAll("details")].filter((each) => each.open).map((each) => each.firstElementChild.textContent),
  );
  const { part } = await fetchPart(panel.dataset.panel);
  if (panel.contains(document.activeElement) && panel.dataset.loaded) {
    return; // the focus is in this panel: replacing its content would interrupt the user
  }
  panel.replaceChildren(part);
  panel.dataset.loaded = "yes";
  for (const each of panel.querySelectorAll("details")) {
    each.open ||= opened.has(each.firstElementChild.textContent);
  }
}

/** Load `panel` at its interval while the page is visible, and sooner while its server is slow. */
async function refresh(panel) {
  for (;;) {
    if (!document.hidden) {
      await load(panel);
    }
    const seconds = panel.querySelector("[data-again]")?.dataset.again ?? panel.dataset.seconds;
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

/** Ask in the dialog; resolve to whether the user agreed. */
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
  waiting.textContent = "Verifying the release …";
  outcome.replaceChildren(waiting);
  const body = new URLSearchParams(button.dataset.version ? { version: button.dataset.version } : {});
  const { part } = await post(button.dataset.act, body);
  outcome.replaceChildren(part);
  outcome.focus();
  await load(panel);
});

document.querySelectorAll("[data-panel]").forEach(refresh);
