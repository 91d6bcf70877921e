// How a picture becomes the network's input: what mnv2_tasks/data/images/fit.py does, of the same pixels.
//
// Each way of resizing is a row of taps for every pixel of the result, {first, weights}: along x, and along y.

const GREY = 128; // around a letterboxed picture
const GRID = 32; // pads grow by multiples of it
const TF1_CROP = 7 / 8; // of each side

// picture: ImageData. input: that of model.json.
// Returns {pixels: (height, width, 3) RGB bytes, size, content, offset, frame}, each of the last four [height, width]:
// the input's, of the part that holds the picture, where that lies, and of the picture that results are computed in.
export function fit(picture, input) {
  const size = [input.size, input.size];
  const frame = sizeWithin(picture, input.frame);
  const whole = { size, content: size, offset: [0, 0], frame };
  const squeezed = (window, taps) => ({ ...whole, pixels: resized(window, size, taps) });
  switch (input.fit) {
    case "square":
      return squeezed(windowOf(picture), linear);
    case "tf1_square":
      return squeezed(windowOf(picture), fromCorners);
    case "tf1_centre_crop":
      return squeezed(middleOf(picture), fromCorners);
    case "centre_crop":
      return { ...whole, pixels: cropped(picture, input) };
    case "letterbox":
      return { ...whole, ...letterboxed(picture, input.size) };
    case "pad":
      return { ...whole, ...padded(picture, input, frame) };
  }
  throw new Error(`This page does not know the fit ${input.fit} of model.json: export the folder anew.`);
}

// ---------------------------------------------------------------- resizing

// The part of a picture that is looked at.
const windowOf = (picture) => ({
  data: picture.data,
  stride: picture.width,
  top: 0,
  left: 0,
  height: picture.height,
  width: picture.width,
});

function middleOf(picture) {
  const [top, left] = [picture.height, picture.width].map((side) => Math.trunc((side - side * TF1_CROP) / 2));
  return { ...windowOf(picture), top, left, height: picture.height - 2 * top, width: picture.width - 2 * left };
}

// Of pixel i of `size`, which stands for `side` pixels: OpenCV's bilinear, which measures between middles.
const linear = (i, side, size) => between(((i + 0.5) * side) / size - 0.5, side);

// As TensorFlow 1 has it: between the pixels' corners.
const fromCorners = (i, side, size) => between((i * side) / size, side);

function between(place, side) {
  const at = Math.min(Math.max(place, 0), side - 1);
  const first = Math.min(Math.floor(at), Math.max(0, side - 2));
  return side === 1 ? { first, weights: [1] } : { first, weights: [1 - (at - first), at - first] };
}

// Pillow's bilinear, which looks at all pixels that a smaller picture's pixel stands for.
function antialiased(i, side, size) {
  const scale = side / size;
  const reach = Math.max(1, scale);
  const middle = (i + 0.5) * scale;
  const first = Math.max(0, Math.trunc(middle - reach + 0.5));
  const end = Math.min(side, Math.trunc(middle + reach + 0.5));
  const weights = Array.from({ length: end - first }, (_, k) =>
    Math.max(0, 1 - Math.abs((first + k + 0.5 - middle) / reach)),
  );
  const sum = weights.reduce((a, b) => a + b);
  return { first, weights: weights.map((weight) => weight / sum) };
}

// OpenCV's area: the mean of what a pixel covers.
function area(i, side, size) {
  const [start, end] = [(i * side) / size, ((i + 1) * side) / size];
  const first = Math.floor(start);
  const covered = Array.from(
    { length: Math.min(side, Math.ceil(end - 1e-9)) - first },
    (_, k) => Math.min(end, first + k + 1) - Math.max(start, first + k),
  );
  return { first, weights: covered.map((part) => part / (end - start)) };
}

// (height, width, 3) bytes of a window, along x first; rows that no tap needs are left out.
function resized(window, [height, width], taps) {
  const columns = Array.from({ length: width }, (_, i) => taps(i, window.width, width));
  const rows = Array.from({ length: height }, (_, i) => taps(i, window.height, height));
  const inBytes = taps === antialiased; // as Pillow keeps what lies between
  const narrowed = new Map();
  const narrow = (y) => {
    if (!narrowed.has(y)) narrowed.set(y, narrowedRow(window, y, columns, inBytes));
    return narrowed.get(y);
  };
  const pixels = new Uint8Array(height * width * 3);
  rows.forEach(({ first, weights }, y) => {
    const sums = new Float32Array(width * 3);
    weights.forEach((weight, k) => {
      const row = narrow(first + k);
      for (let i = 0; i < sums.length; i++) sums[i] += weight * row[i];
    });
    for (let i = 0; i < sums.length; i++) pixels[y * width * 3 + i] = Math.round(sums[i]);
    for (const seen of narrowed.keys()) if (seen < first) narrowed.delete(seen);
  });
  return pixels;
}

function narrowedRow({ data, stride, top, left }, y, columns, inBytes) {
  const row = new Float32Array(columns.length * 3);
  columns.forEach(({ first, weights }, x) => {
    let at = ((top + y) * stride + left + first) * 4;
    for (const weight of weights) {
      for (let channel = 0; channel < 3; channel++) row[x * 3 + channel] += weight * data[at + channel];
      at += 4;
    }
  });
  return inBytes ? row.map(Math.round) : row;
}

// ---------------------------------------------------------------- fits that are not one square

function cropped(picture, { size, resize }) {
  let [height, width] = [picture.height, picture.width];
  const [shorter, longer] = [Math.min(height, width), Math.max(height, width)];
  let pixels = null;
  if (resize && shorter !== resize) {
    const long = Math.trunc((resize * longer) / shorter);
    const target = height <= width ? [resize, long] : [long, resize];
    pixels = resized(windowOf(picture), target, antialiased);
    [height, width] = target;
  } else {
    pixels = withoutAlpha(picture);
  }
  const canvas = [Math.max(height, size), Math.max(width, size)]; // black around what is smaller
  const surrounded = canvas[0] === height && canvas[1] === width ? pixels : filled(canvas, [0, 0, 0]);
  if (surrounded !== pixels) {
    const corner = [Math.floor((canvas[0] - height) / 2), Math.floor((canvas[1] - width) / 2)];
    copy(pixels, [height, width], [0, 0], surrounded, canvas, corner, [height, width]);
  }
  const corner = canvas.map((side) => roundHalfEven((side - size) / 2));
  const square = new Uint8Array(size * size * 3);
  copy(surrounded, canvas, corner, square, [size, size], [0, 0], [size, size]);
  return square;
}

function letterboxed(picture, size) {
  const longest = Math.max(picture.height, picture.width);
  const content = [picture.height, picture.width].map((side) => Math.max(1, Math.floor((side * size) / longest)));
  const offset = content.map((side) => Math.floor((size - side) / 2));
  const pixels = filled([size, size], [GREY, GREY, GREY]);
  copy(resized(windowOf(picture), content, linear), content, [0, 0], pixels, [size, size], offset, content);
  return { pixels, content, offset };
}

function padded(picture, input, frame) {
  const size = frame.map((side) => input.size + Math.max(0, Math.ceil((side - input.size) / GRID)) * GRID);
  const asItIs = frame[0] === picture.height && frame[1] === picture.width;
  const content = asItIs ? withoutAlpha(picture) : resized(windowOf(picture), frame, area);
  const pixels = filled(size, input.fill);
  copy(content, frame, [0, 0], pixels, size, [0, 0], frame);
  return { pixels, size, content: frame };
}

// ---------------------------------------------------------------- pieces

// A picture's [height, width], or the same smaller, with no side beyond `most`.
function sizeWithin(picture, most) {
  const scale = Math.min(1, most / Math.max(picture.height, picture.width));
  return [picture.height, picture.width].map((side) => Math.max(1, roundHalfEven(scale * side)));
}

// As Python's round.
function roundHalfEven(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}

function withoutAlpha({ data, width, height }) {
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    pixels[j++] = data[i];
    pixels[j++] = data[i + 1];
    pixels[j++] = data[i + 2];
  }
  return pixels;
}

function filled([height, width], colour) {
  const pixels = new Uint8Array(height * width * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colour[i % 3];
  return pixels;
}

function copy(source, [, sourceWidth], [sourceTop, sourceLeft], target, [, targetWidth], [top, left], [height, width]) {
  for (let y = 0; y < height; y++) {
    const start = ((sourceTop + y) * sourceWidth + sourceLeft) * 3;
    target.set(source.subarray(start, start + width * 3), ((top + y) * targetWidth + left) * 3);
  }
}
