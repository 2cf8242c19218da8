// Sends what the clinician thinks of the answer on the page; a later opinion replaces an earlier one.

import { post } from "./send.js";

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form.opinion");
  if (!form) {
    return;
  }
  event.preventDefault();
  const chosen = event.submitter;
  const buttons = form.querySelectorAll("button");
  const outcome = form.querySelector(".opinion-outcome");
  buttons.forEach((each) => each.setAttribute("aria-disabled", "true")); // they keep the focus
  const { ok, part } = await post("/feedback", new URLSearchParams(new FormData(form, chosen)));
  outcome.replaceChildren(part);
  buttons.forEach((each) => {
    each.removeAttribute("aria-disabled");
    if (ok) {
      each.setAttribute("aria-pressed", String(each === chosen));
    }
  });
});
