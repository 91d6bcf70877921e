// Files and frames -> pixels, as they are stored: neither turned by a colour profile nor made darker by transparency.

const working = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

export async function decoded(file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name ?? "This"} is no picture that this browser can read. Try a JPEG, PNG or WebP.`);
  }
}

// source: what drawImage takes. Returns ImageData.
export function pixelsOf(source, width, height) {
  Object.assign(working.canvas, { width, height });
  working.drawImage(source, 0, 0, width, height);
  return working.getImageData(0, 0, width, height);
}
