// Results on the picture, and beside it as text.

const LARGEST = 1280; // pixels of the drawing's longer side
const LEGIBLE = 720; // to which smaller pictures are enlarged
const layer = document.createElement("canvas").getContext("2d");

function sizeOf(picture) {
  const longest = Math.max(picture.width, picture.height);
  const scale = Math.min(Math.max(1, LEGIBLE / longest), LARGEST / longest);
  return {
    scale,
    width: Math.max(1, Math.round(picture.width * scale)),
    height: Math.max(1, Math.round(picture.height * scale)),
  };
}

// source: what drawImage takes.
export function draw(canvas, source, picture, results, { least, shown }) {
  const { scale, width, height } = sizeOf(picture);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  for (const result of results) {
    if (!shown(result.task)) continue;
    if (result.kind === "segmentation") paintMask(context, result, width, height);
  }
  for (const result of results) {
    if (result.kind === "detection" && shown(result.task)) frameBoxes(context, result.boxes, least, scale, width);
  }
}

function paintMask(context, result, width, height) {
  const labels = result.classMap([height, width]);
  const paint = new ImageData(width, height);
  const pixels = new Uint32Array(paint.data.buffer); // alpha, blue, green, red
  const colours = result.classes.map(({ colour }) => colour && (colour[2] << 16) | (colour[1] << 8) | colour[0]);
  for (let i = 0; i < labels.length; i++) {
    const colour = colours[labels[i]];
    if (colour == null) continue; // the background
    const edge = labels[i] !== labels[i + 1] || labels[i] !== labels[i + width];
    pixels[i] = colour | (edge ? 0xff000000 : 0x80000000);
  }
  Object.assign(layer.canvas, { width, height });
  layer.putImageData(paint, 0, 0); // which replaces what is there, so it goes by way of a canvas of its own
  context.drawImage(layer.canvas, 0, 0);
}

function frameBoxes(context, boxes, least, scale, width) {
  const perPixel = width / (context.canvas.clientWidth || width); // of the screen
  const line = Math.max(2, 2.5 * perPixel);
  const size = Math.round(13 * perPixel);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const chosen = boxes.filter((found) => found.score >= least);
  for (const { box, name, score, colour } of chosen.reverse()) {
    // the best on top
    const [x0, y0, x1, y1] = box.map((side) => side * scale);
    for (const [stroke, thickness] of [
      ["rgb(0 0 0 / 60%)", 2 * line],
      [rgb(colour), line],
    ]) {
      // seen on its own colour
      Object.assign(context, { strokeStyle: stroke, lineWidth: thickness });
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    const text = `${name} ${score.toFixed(2)}`;
    const tab = { width: context.measureText(text).width + size, height: 1.5 * size };
    const left = Math.max(0, Math.min(x0 - line / 2, width - tab.width));
    const top = y0 >= tab.height ? y0 - tab.height : y0;
    context.fillStyle = rgb(colour);
    context.fillRect(left, top, tab.width, tab.height);
    context.fillStyle = inkOn(colour);
    context.fillText(text, left + size / 2, top + tab.height / 2);
  }
}

export const rgb = (colour) => `rgb(${colour.join(" ")})`;

// Black or white, whichever stands out more.
const inkOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#121214" : "#fff");

// ---------------------------------------------------------------- text

export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

// What is said of a task: [{name, value, colour, and perhaps more: words below, bar: 0 to 1}].
export function rowsOf(result, least) {
  switch (result.kind) {
    case "classification":
      return result.best.map(({ name, score, colour }) => ({ name, value: percent(score), colour, bar: score }));
    case "detection":
      return result.boxes
        .filter((found) => found.score >= least)
        .map(({ name, score, colour, box }) => ({ name, value: percent(score), colour, more: placeOf(box) }));
    case "segmentation":
      return result.classes
        .filter(({ share }) => share > 0)
        .sort((a, b) => b.share - a.share)
        .map(({ name, share, colour }) => ({ name, value: percent(share), colour }));
  }
}

function placeOf(box) {
  const [x0, y0, x1, y1] = box.map(Math.round);
  return `${x1 - x0} × ${y1 - y0} at ${x0}, ${y0}`;
}

// One sentence for those who hear the page.
export function summary(results, least) {
  return results
    .map((result) => {
      const rows = rowsOf(result, least);
      if (result.kind === "classification") return `Class: ${rows[0].name}, ${rows[0].value}.`;
      if (result.kind === "segmentation") return `Areas: ${rows.map((row) => `${row.name} ${row.value}`).join(", ")}.`;
      const counts = new Map();
      for (const { name } of rows) counts.set(name, (counts.get(name) ?? 0) + 1);
      const objects = [...counts].map(([name, count]) => `${count} ${name}`).join(", ");
      return rows.length ? `Objects: ${objects}.` : `No object scores ${percent(least)} or more.`;
    })
    .join(" ");
}
