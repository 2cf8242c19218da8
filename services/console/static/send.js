// Asks the console for a part of a page. What it sends back was escaped there.

const AWAY = ["The console does not answer", "Check the connection, and that it is running; then try again."];

/** Return a part of a page from `path` as text, whatever its status; a failure becomes such a part too. */
export async function fetchPart(path, options = {}) {
  try {
    const response = await fetch(path, { ...options, redirect: "error" });
    const type = response.headers.get("content-type") || "";
    if (type.startsWith("text/html")) {
      return { ok: response.ok, status: response.status, part: parse(await response.text()) };
    }
    return { ok: false, status: response.status, part: failure(...AWAY) };
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    return { ok: false, status: 0, part: failure(...AWAY) };
  }
}

/** As `fetchPart`, with the token that shows that our own page asks. */
export function post(path, body, options = {}) {
  const headers = { "x-buckler-token": document.body.dataset.token };
  return fetchPart(path, { method: "POST", body, headers, ...options });
}

function parse(text) {
  const template = document.createElement("template");
  template.innerHTML = text;
  return template.content;
}

function failure(title, advice) {
  const box = document.createElement("div");
  box.className = "problem";
  box.setAttribute("role", "alert");
  const strong = document.createElement("strong");
  strong.textContent = title;
  const text = document.createElement("p");
  text.textContent = advice;
  box.append(strong, text);
  return box;
}
