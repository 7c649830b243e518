// What the page shows of an answer.

const $ = (id) => document.getElementById(id);
// Rounded down: what is nearly sure is not 100 %.
const percent = new Intl.NumberFormat("en", {
  style: "percent",
  maximumFractionDigits: 1,
  roundingMode: "floor",
});
const SPOKEN_AFTER = 700; // ms without a new answer: a screen reader is not told each of them

const bars = Array.from({ length: 10 }, (_, digit) => {
  const item = document.createElement("li");
  for (const name of ["name", "track", "percent"]) {
    item.append(Object.assign(document.createElement("span"), { className: name }));
  }
  const [name, track] = item.children;
  name.textContent = digit;
  track.append(Object.assign(document.createElement("div"), { className: "fill" }));
  $("bars").append(item);
  return item;
});

let speaking = 0;

export function say(text, delay = SPOKEN_AFTER) {
  clearTimeout(speaking);
  speaking = setTimeout(() => ($("status").textContent = text), delay);
}

// What an answer says in a few words.
function summed(answer) {
  if (!answer) return "nothing drawn yet";
  if (!answer.number) return `this ${answer.doubt}`;
  const least = Math.min(...answer.digits.map((digit) => digit.confidence));
  const sure = `${percent.format(least)} sure`;
  return answer.doubt ? `${sure}: ${answer.doubt}` : sure;
}

// Show an answer of the API's; null: nothing is drawn.
export function showAnswer(answer) {
  document.querySelector(".reading").classList.toggle("empty", !answer?.number);
  $("digit").textContent = answer?.number || "?";
  $("digit").style.setProperty("--length", Math.max(1, answer?.number.length ?? 1));
  $("confidence").textContent = summed(answer);
  bars.forEach((bar, digit) => {
    const share = answer?.probabilities[digit] ?? 0;
    bar.classList.toggle("top", answer?.digit === digit);
    bar.querySelector(".fill").style.setProperty("--share", share);
    bar.querySelector(".percent").textContent = answer ? percent.format(share) : "";
  });
  showSeen(answer);
  showContributions(answer);
  say(answer ? [answer.number, summed(answer)].filter(Boolean).join(", ") : "Nothing drawn");
}

function showSeen(answer) {
  $("seen").setAttribute("aria-label", answer ? `A ${answer.digit} in 28 by 28 pixels` : "Nothing drawn yet");
  paint($("seen"), answer?.pixels, (value) => [value, value, value]);
}

function showContributions(answer) {
  const values = answer?.contributions;
  $("legend").hidden = !values;
  $("legend-digit").textContent = answer?.digit ?? "";
  const canvas = $("contributions");
  const [most, share] = summary(values ?? [[0]]);
  canvas.setAttribute(
    "aria-label",
    values
      ? `${percent.format(share)} of what the pixels contributed speaks for ${answer.digit}, the rest against it`
      : "Contributions are not shown",
  );
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(name).match(/\w\w/g).map((hex) => parseInt(hex, 16));
  const [forIt, against, ground] = ["--accent", "--against", "--paper"].map(colour);
  paint(canvas, values, (value) => {
    const strength = Math.sqrt(Math.abs(value) / (most || 1)); // so that small ones are seen
    const ink = value > 0 ? forIt : against;
    return ground.map((channel, i) => channel + (ink[i] - channel) * strength);
  });
}

// The largest of the values without their sign, and the positive ones' share of all.
function summary(rows) {
  const values = rows.flat();
  const sum = (some) => some.reduce((total, value) => total + Math.abs(value), 0);
  const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
  return [most, sum(values.filter((value) => value > 0)) / (sum(values) || 1)];
}

function paint(canvas, rows, colour) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!rows) return;
  const image = context.createImageData(rows[0].length, rows.length);
  rows.flat().forEach((value, i) => image.data.set([...colour(value), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

export function showProblem(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text;
}

export function showModel({ model }) {
  const parts = [model.net?.class_path.split(".").at(-1), model.checkpoint];
  if (model.test_accuracy) {
    parts.push(`${(100 * model.test_accuracy).toFixed(2)}% of ${model.dataset}'s test images right`);
  }
  $("model").textContent = parts.filter(Boolean).join(" · ");
}
