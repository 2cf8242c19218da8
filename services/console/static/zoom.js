// Shows a picture of the answer enlarged, in a dialog that works with the keyboard alone.

const STEP = 1.5;
const LARGEST = 8; // times the size that fits

const dialog = document.getElementById("zoom");
const frame = document.getElementById("zoom-frame");
const image = document.getElementById("zoom-image");
const title = document.getElementById("zoom-title");
const scaleText = document.getElementById("zoom-scale");
const other = dialog.querySelector("[data-zoom=other]");

let pictures = []; // of the answer: the picture and, if there is one, the heat map
let shown = 0;
let scale = 1;

const ACTIONS = {
  in: () => resize(scale * STEP),
  out: () => resize(scale / STEP),
  other: () => display(1 - shown),
  close: () => dialog.close(),
};
const KEYS = { "+": "in", "=": "in", "-": "out", 0: "fit" };

function display(place) {
  shown = place;
  image.src = pictures[place].src;
  image.alt = pictures[place].alt;
  title.textContent = place ? "Heat map" : "Picture";
  other.hidden = pictures.length < 2;
  other.textContent = place ? "Show picture" : "Show heat map";
}

/** Show the picture at `wanted` times the size that fits, around the point in the middle of the frame. */
function resize(wanted) {
  const before = scale;
  scale = Math.min(Math.max(wanted, 1), LARGEST);
  const [x, y] = [frame.scrollLeft + frame.clientWidth / 2, frame.scrollTop + frame.clientHeight / 2];
  image.style.width = image.style.height = `${scale * 100}%`;
  frame.scrollLeft = (x * scale) / before - frame.clientWidth / 2;
  frame.scrollTop = (y * scale) / before - frame.clientHeight / 2;
  scaleText.textContent = `${Math.round(scale * 100)} %`;
  dialog.querySelector("[data-zoom=out]").disabled = scale === 1;
  dialog.querySelector("[data-zoom=in]").disabled = scale === LARGEST;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".enlarge");
  if (button) {
    const buttons = [...button.closest(".views").querySelectorAll(".enlarge")];
    pictures = buttons.map((each) => each.querySelector("img"));
    dialog.showModal();
    display(buttons.indexOf(button));
    resize(1);
    frame.focus();
  }
});
dialog.addEventListener("click", (event) => {
  ACTIONS[event.target.closest("[data-zoom]")?.dataset.zoom]?.();
});
dialog.addEventListener("keydown", (event) => {
  const action = KEYS[event.key];
  if (action && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    resize(action === "fit" ? 1 : action === "in" ? scale * STEP : scale / STEP);
  }
});
