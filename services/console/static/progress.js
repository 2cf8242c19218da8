// Says what the page is doing.

/** Write `text` in the line `place`; `busy` adds a sign that something is going on. */
export function show(place, text, busy) {
  place.textContent = text;
  place.classList.toggle("busy", busy);
}
