// The page: a picture comes in by file, drop, example or camera; what the network finds is drawn and said.

import { draw, rgb, rowsOf, summary } from "./draw.js";
import { load } from "./model.js";
import { decoded, pixelsOf } from "./pictures.js";

const SPOKEN_EVERY = 3000; // ms between sentences of what the camera shows
const $ = (id) => document.getElementById(id);

const state = {
  model: null,
  shown: null, // {source, picture, results, ms}: what is on the screen
  hidden: new Set(), // tasks that are not drawn
  stream: null, // of the camera
  turn: 0, // of the picture that was asked for last: what comes later than another is thrown away
  spoken: 0,
};

start();

async function start() {
  try {
    state.model = await load();
  } catch (error) {
    $("status").textContent = "The network could not be loaded.";
    return complain(error);
  }
  const { about } = state.model;
  $("about").textContent =
    `${about.name}, ${about.precision}. Pictures stay on this device: the network runs in the page.`;
  if (about.remark) $("about").append(" ", about.remark);
  $("status").textContent = "Ready for a picture.";
  if (!isSecureContext) $("hint").append(". The camera needs HTTPS.");
  $("least").value = 100 * about.least_score;
  $("file").disabled = $("camera").disabled = false;
  about.tasks.forEach(addTask);
  about.examples.forEach(addExample);
  $("examples").hidden = !about.examples.length;
  $("threshold").hidden = !about.tasks.some((task) => task.kind === "detection");
  showLeast();
}

// ---------------------------------------------------------------- pictures in

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) showFile(file);
  $("file").value = ""; // so that the same one can be chosen again
});

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // else the browser leaves the page for the file
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind !== "drop" || !state.model) return;
    const [file] = event.dataTransfer.files;
    if (file) showFile(file);
    else complain(new Error("What was dropped is no file. Save the picture first, then drop it."));
  });
}

function addExample(address, number) {
  const button = document.createElement("button");
  const image = document.createElement("img");
  Object.assign(image, { src: address, alt: `Example ${number + 1}` });
  button.type = "button";
  button.append(image);
  button.addEventListener("click", async () => showFile(await (await fetch(address)).blob()));
  $("examples").append(button);
}

async function showFile(file) {
  stopCamera();
  const turn = ++state.turn;
  try {
    const start = performance.now();
    const bitmap = await decoded(file);
    const picture = pixelsOf(bitmap, bitmap.width, bitmap.height);
    const reading = performance.now() - start;
    await show(turn, bitmap, picture, { reading });
  } catch (error) {
    if (turn === state.turn) complain(error);
  }
}

// ---------------------------------------------------------------- camera

$("camera").addEventListener("click", () => (state.stream ? stopCamera() : startCamera()));
document.addEventListener("visibilitychange", () => document.hidden && stopCamera());

const REFUSED = {
  NotAllowedError: "The camera was refused. Allow it for this page, beside its address, then press Camera again.",
  NotFoundError: "There is no camera. Connect one, or choose a picture.",
  NotReadableError: "Another program uses the camera. Close that, then press Camera again.",
};

async function startCamera() {
  const turn = ++state.turn;
  quiet();
  if (!navigator.mediaDevices) {
    return complain(
      new Error(
        "The camera needs HTTPS, except on the machine that serves. Serve this folder by HTTPS, or choose a picture.",
      ),
    );
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (turn !== state.turn) return stream.getTracks().forEach((track) => track.stop());
    state.stream = stream;
    pressed(true);
    $("video").srcObject = stream;
    await $("video").play();
    while (state.stream === stream) {
      await look(turn);
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    if (turn !== state.turn) return;
    stopCamera();
    complain(REFUSED[error.name] ? new Error(REFUSED[error.name]) : error);
  }
}

async function look(turn) {
  const start = performance.now();
  const { videoWidth: width, videoHeight: height } = $("video");
  const picture = pixelsOf($("video"), width, height);
  await show(turn, await createImageBitmap(picture), picture, { reading: performance.now() - start });
}

function stopCamera() {
  state.stream?.getTracks().forEach((track) => track.stop());
  state.stream = $("video").srcObject = null;
  pressed(false);
}

function pressed(on) {
  $("camera").setAttribute("aria-pressed", on);
  $("camera").textContent = on ? "Stop the camera" : "Camera";
}

// ---------------------------------------------------------------- results out

async function show(turn, source, picture, ms) {
  const { results, ms: spent } = await state.model.predict(picture);
  if (turn !== state.turn) return;
  quiet();
  state.shown?.source.close();
  state.shown = { source, picture, results, ms: { ...ms, ...spent } };
  redraw();
}

function redraw() {
  if (!state.shown) return;
  const { source, picture, results, ms } = state.shown;
  const start = performance.now();
  const least = leastScore();
  $("canvas").hidden = false;
  draw($("canvas"), source, picture, results, { least, shown: (task) => !state.hidden.has(task) });
  for (const result of results) fillTask(result, least);
  tell(summary(results, least));
  showTimes({ ...ms, drawing: performance.now() - start });
}

function tell(sentence) {
  $("canvas").setAttribute("aria-label", `Your picture with what was found. ${sentence}`);
  if (state.stream && performance.now() - state.spoken < SPOKEN_EVERY) return;
  state.spoken = performance.now();
  $("status").textContent = sentence;
}

function showTimes(ms) {
  const names = { reading: "reading", fit: "fitting", network: "network", drawing: "drawing" };
  $("times").hidden = false;
  $("times").replaceChildren(
    ...Object.entries(names).map(([part, name]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, `${ms[part].toFixed(1)} ms`)),
    ),
  );
}

function addTask(task) {
  const box = element("input", { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    state.hidden[box.checked ? "delete" : "add"](task.name);
    redraw();
  });
  const title = { classification: "Class", detection: "Objects", segmentation: "Areas" }[task.kind];
  const label = task.kind === "classification" ? title : element("label", {}, box, title); // bars: not drawn
  $("tasks").append(
    element("section", { id: `task-${task.name}`, hidden: true }, element("h2", {}, label), element("ul", {})),
  );
}

function fillTask(result, least) {
  const section = $(`task-${result.task}`);
  const rows = rowsOf(result, least).map(rowOf);
  section.hidden = false;
  section
    .querySelector("ul")
    .replaceChildren(...(rows.length ? rows : [element("li", { className: "none" }, "none that scores so much")]));
}

function rowOf({ name, value, colour, more, bar }) {
  const swatch = element("span", { className: "swatch" });
  if (colour) swatch.style.background = rgb(colour);
  const row = element("li", {}, swatch, element("span", {}, name), element("span", { className: "value" }, value));
  if (more) row.append(element("span", { className: "more" }, more));
  if (bar !== undefined) {
    const filled = element("span", {});
    Object.assign(filled.style, { width: `${100 * bar}%`, background: rgb(colour) });
    row.append(element("div", { className: "bar", ariaHidden: "true" }, filled));
  }
  return row;
}

// ---------------------------------------------------------------- threshold, errors

const leastScore = () => $("least").value / 100;

$("least").addEventListener("input", () => {
  showLeast();
  redraw();
});

function showLeast() {
  $("least-value").textContent = leastScore().toFixed(2);
}

function complain(error) {
  $("error").hidden = false;
  $("error").textContent = error.message;
}

function quiet() {
  $("error").hidden = true;
}

function element(kind, properties, ...content) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...content);
  return made;
}
