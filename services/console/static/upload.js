// Sends a picture and reports how much of it has been sent, which `fetch` cannot.

import { failure, NO_ANSWER, parse } from "./send.js";

/**
 * POST `file` to `path`; resolve to {ok, part} as `post` in send.js does.
 *
 * `onProgress` gets the share of the file that has been sent, 0 to 1. An abort of `signal` rejects.
 */
export function upload(path, file, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.setRequestHeader("x-buckler-token", document.body.dataset.token);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
    request.addEventListener("load", () => {
      const isPart = (request.getResponseHeader("content-type") || "").startsWith("text/html");
      resolve(
        isPart
          ? { ok: request.status < 400, part: parse(request.responseText) }
          : { ok: false, part: failure(...NO_ANSWER) },
      );
    });
    request.addEventListener("error", () => resolve({ ok: false, part: failure(...NO_ANSWER) }));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    // The file name is not sent: it may name a patient.
    request.send(file);
  });
}
