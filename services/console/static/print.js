// Prints the answer on the page; "Save as PDF" is one of the browser's printers.

const TITLE = document.title;
let opened = [];

window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("#answer details:not([open])")];
  opened.forEach((each) => each.open = true);
  const request = document.querySelector("#answer article")?.dataset.request;
  if (request) {
    document.title = `Buckler answer ${request}`; // becomes the name of the PDF
  }
});
window.addEventListener("afterprint", () => {
  opened.forEach((each) => each.open = false);
  document.title = TITLE;
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) {
    window.print();
  }
});
