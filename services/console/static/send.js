// Requests parts of a page from the console, which has escaped every value in them.

export const NO_ANSWER = ["The console does not answer", "Check the connection and that the console is running. Then try again."];

/** Return the part of a page at `path`, whatever its status; without an answer, the part is an error message. */
export async function fetchPart(path, options = {}) {
  try {
    const response = await fetch(path, { ...options, redirect: "error" });
    const type = response.headers.get("content-type") || "";
    if (type.startsWith("text/html")) {
      return { ok: response.ok, status: response.status, part: parse(await response.text()) };
    }
    return { ok: false, status: response.status, part: failure(...NO_ANSWER) };
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    return { ok: false, status: 0, part: failure(...NO_ANSWER) };
  }
}

/** POST as `fetchPart`, with the token that proves that the request comes from a page of the console. */
export function post(path, body, options = {}) {
  const headers = { "x-buckler-token": document.body.dataset.token };
  return fetchPart(path, { method: "POST", body, headers, ...options });
}

/** Return the elements of the HTML `text`. */
export function parse(text) {
  const template = document.createElement("template");
  template.innerHTML = text;
  return template.content;
}

/** Return an error message. */
export function failure(title, advice) {
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
