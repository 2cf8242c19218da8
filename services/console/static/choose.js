// The ways in which pictures get into the page: chosen, photographed, dropped, pasted, or one of the samples.

/** Call `add` with each list of files that the user gives. */
export function onFiles(add) {
  const drop = document.getElementById("drop");

  for (const input of [document.getElementById("file"), document.getElementById("camera")]) {
    input.addEventListener("change", () => {
      give([...input.files]);
      input.value = ""; // lets the user choose the same file again
    });
  }
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
    give([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => give([...event.clipboardData.files]));
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.addEventListener("click", async () => {
      const picture = await (await fetch(button.dataset.sample)).blob();
      give([new File([picture], button.dataset.name, { type: picture.type })]);
    });
  }

  function give(files) {
    if (files.length) {
      add(files);
    }
  }
}
