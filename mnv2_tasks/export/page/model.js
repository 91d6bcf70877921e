// The network: model.json says what it takes and gives, onnxruntime-web runs it.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { fit } from "./fit.js";

const PAGE = 1; // the version of model.json that this page reads, see mnv2_tasks/export/web.py
const MOST_CLASSES = 5; // of a classification that are shown

ort.env.wasm.numThreads = 1; // several need headers that few static servers send
ort.env.logLevel = "error";

export async function load() {
  const about = await readAbout();
  const response = await fetch(about.model).catch(() => ({ ok: false, status: "no answer" }));
  if (!response.ok) {
    throw new Error(
      `${about.model} cannot be fetched (${response.status}): it belongs beside model.json. Copy the whole folder.`,
    );
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }).catch((error) => {
    throw new Error(`${about.model} cannot be run: is it whole? Export the folder anew. (${error.message})`);
  });
  const missing = about.tasks
    .flatMap((task) => Object.values(task.outputs))
    .filter((name) => !session.outputNames.includes(name));
  if (missing.length) {
    throw new Error(
      `${about.model} has no output ${missing[0]}, which model.json names. Copy the whole folder of one export.`,
    );
  }
  const model = new Model(about, session);
  await model.predict(new ImageData(about.input.size, about.input.size)); // the first run is slow, and nobody's
  return model;
}

async function readAbout() {
  const remedy = "This page shows folders that mnv2 export format=web wrote.";
  const response = await fetch("model.json", { cache: "no-cache" }).catch(() => ({ ok: false, status: "no answer" }));
  if (!response.ok) throw new Error(`There is no model.json beside this page (${response.status}). ${remedy}`);
  const about = await response.json().catch(() => ({}));
  if (about.made_by !== "mnv2_tasks") throw new Error(`The model.json beside this page is not one of ours. ${remedy}`);
  if (about.page !== PAGE)
    throw new Error(`model.json is of page ${about.page}, this is page ${PAGE}. Export the folder anew.`);
  return about;
}

class Model {
  constructor(about, session) {
    Object.assign(this, { about, session });
  }

  // Of ImageData: {results: one of each task, ms: {fit, network}}.
  async predict(picture) {
    const start = performance.now();
    const fitted = fit(picture, this.about.input);
    const { size } = fitted;
    const { input } = this.about;
    if (!input.any_size && (size[0] !== input.size || size[1] !== input.size)) {
      throw new Error(
        `This network takes at most ${input.size} × ${input.size} pixels, not ${picture.width} × ${picture.height}.`,
      );
    }
    const tensor = new ort.Tensor("uint8", fitted.pixels, [1, ...size, 3]);
    const fittedAt = performance.now();
    const outputs = await this.session.run({ images: tensor });
    const done = performance.now();
    const where = { ...fitted, picture: [picture.height, picture.width] };
    const results = this.about.tasks.map((task) => {
      const arrays = Object.fromEntries(
        Object.entries(task.outputs).map(([name, output]) => [name, outputs[output].data]),
      );
      return { task: task.name, kind: task.kind, ...KINDS[task.kind](arrays, task, where) };
    });
    tensor.dispose();
    Object.values(outputs).forEach((output) => output.dispose());
    return { results, ms: { fit: fittedAt - start, network: done - fittedAt } };
  }
}

// What each kind of task makes of its outputs, in the picture's own pixels, as mnv2_tasks/kinds/ does.
const KINDS = {
  classification({ probabilities }, task) {
    const scores = Array.from(probabilities);
    const order = scores.map((_, label) => label).sort((a, b) => scores[b] - scores[a] || a - b);
    return { best: order.slice(0, MOST_CLASSES).map((label) => found(task, label, scores[label])) };
  },

  detection({ boxes, scores, labels, counts }, task, { content, offset, picture }) {
    const corner = (value, axis) => {
      const place = ((value - offset[axis]) * picture[axis]) / content[axis];
      return Math.min(Math.max(place, 0), picture[axis]);
    };
    const all = Array.from({ length: Number(counts[0]) }, (_, i) => ({
      ...found(task, Number(labels[i]), scores[i]),
      box: [0, 1, 2, 3].map((side) => corner(boxes[4 * i + side], side % 2 ? 0 : 1)), // x0, y0, x1, y1
    }));
    return { boxes: all };
  },

  segmentation({ class_map: map }, task, where) {
    const shares = sharesOf(map, where);
    return {
      classes: task.class_names.map((_, label) => ({ ...found(task, label), share: shares[label] })),
      classMap: (size) => enlarged(map, where, size),
    };
  },
};

const found = (task, label, score) => ({ label, name: task.class_names[label], colour: task.colours[label], score });

// Of each label, among the pixels that hold the picture.
function sharesOf(map, { size, content, offset }) {
  const counts = new Array(256).fill(0);
  for (let y = offset[0]; y < offset[0] + content[0]; y++) {
    for (let x = offset[1]; x < offset[1] + content[1]; x++) counts[map[y * size[1] + x]] += 1;
  }
  return counts.map((count) => count / (content[0] * content[1]));
}

// (height, width) labels, the nearest of those of the input; by way of the frame, as Python goes.
function enlarged(map, { size, content, offset, frame }, [height, width]) {
  const places = [height, width].map((side, axis) =>
    Array.from({ length: side }, (_, i) => {
      const inFrame = Math.min(frame[axis] - 1, Math.floor((i * frame[axis]) / side));
      return offset[axis] + Math.min(content[axis] - 1, Math.floor(inFrame * Math.fround(content[axis] / frame[axis])));
    }),
  );
  const labels = new Uint8Array(height * width);
  for (let y = 0; y < height; y++) {
    const row = places[0][y] * size[1];
    for (let x = 0; x < width; x++) labels[y * width + x] = map[row + places[1][x]];
  }
  return labels;
}
