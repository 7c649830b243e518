// Wires the drawing area, the server and what is shown together.

import { info, predict, Problem } from "./client.js";
import { Pad } from "./pad.js";
import { showAnswer, showModel, showProblem } from "./view.js";

const $ = (id) => document.getElementById(id);
const canvas = $("pad");
let explaining = false;

// At most one request is on its way; what was drawn meanwhile is asked next.
let busy = false;
let stale = false;

async function ask() {
  stale = true;
  if (busy) return;
  busy = true;
  while (stale) {
    stale = false;
    try {
      if (!pad.isReadable) continue;
      const answer = await predict(await pad.blob(), explaining);
      showProblem("");
      if (!pad.isReadable) continue; // cleared meanwhile
      showAnswer(answer);
      if (!stale) pad.mark(answer.number.length > 1 ? answer.digits : []);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      showAnswer(null);
      showProblem(error.message);
    }
  }
  busy = false;
}

function changed() {
  $("hint").classList.toggle("gone", !pad.isEmpty);
  $("undo").disabled = !pad.canUndo;
  $("clear").disabled = pad.isEmpty;
  crop(false);
  $("crop").hidden = !pad.hasPicture;
  if (!pad.isReadable) {
    showAnswer(null);
    showProblem("");
  }
  ask();
}

// Whether dragging on the pad cuts out a part of the picture.
function crop(cropping) {
  pad.cropping = cropping;
  $("crop").setAttribute("aria-pressed", cropping);
}

async function open(file) {
  if (!file) return;
  try {
    await pad.open(file);
  } catch {
    showProblem(`${file.name || "That"} is not a picture that this browser can show.`);
  }
}

const pad = new Pad(canvas, changed);
showAnswer(null);

$("undo").addEventListener("click", () => pad.undo());
$("clear").addEventListener("click", () => {
  pad.clear();
  canvas.focus();
});
$("crop").addEventListener("click", () => crop(!pad.cropping));
for (const [button, input] of [["choose", "file"], ["camera", "photo"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", (event) => {
    open(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
// A telephone has a camera at hand; elsewhere `capture` opens a file.
$("camera").hidden = !matchMedia("(pointer: coarse)").matches;
$("explain").addEventListener("click", () => {
  explaining = !explaining;
  $("explain").setAttribute("aria-pressed", explaining);
  $("explain").textContent = explaining ? "Hide" : "Show";
  ask();
});

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && event.target.tagName !== "INPUT") {
    event.preventDefault();
    pad.undo();
  }
});

// Pictures: pasted by key, pasted by button where the browser allows it, dropped.
const picture = (files) => [...files].find((file) => file.type.startsWith("image/"));

document.addEventListener("paste", (event) => {
  const file = picture(event.clipboardData.files);
  if (file) {
    event.preventDefault();
    open(file);
  }
});

$("paste").hidden = !navigator.clipboard?.read;
$("paste").addEventListener("click", async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name.startsWith("image/"));
      if (type) return open(await item.getType(type));
    }
    showProblem("There is no picture to paste.");
  } catch {
    showProblem("The browser does not let this page read what was copied.");
  }
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  canvas.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) canvas.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  canvas.classList.remove("dropping");
  open(picture(event.dataTransfer.files));
});

info().then(showModel, (problem) => showProblem(problem.message));
