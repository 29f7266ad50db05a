// Pictures: an image, a map over it with an opacity, and outlines.

// The image of a plane in colours, and in grey for below a map.
async function loadPicture(plane) {
  const image = new Image();
  image.src = plane.picture;
  await image.decode();
  const [width, height] = plane.size;
  const draw = change => {
    const canvas = make("canvas", {width, height}), context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    if (change) {
      const pixels = context.getImageData(0, 0, width, height);
      change(pixels.data);
      context.putImageData(pixels, 0, 0);
    }
    return canvas;
  };
  plane.colour = draw();
  plane.grey = draw(data => {
    for (let i = 0; i < data.length; i += 4)
      data[i] = data[i + 1] = data[i + 2] = 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
  });
}

// A map as colours. Where it has two signs, small values are fainter, and zero is not there.
function paintMap(map, [width, height]) {
  const colours = COLOURS[map.colours], count = map.levels.length;
  const painted = new Uint8ClampedArray(4 * count);
  map.levels.forEach((value, code) => {
    const share = Math.min(1, Math.max(0, (value - map.low) / (map.high - map.low || 1)));
    const place = 3 * Math.round(255 * share);
    painted.set(colours.subarray(place, place + 3), 4 * code);
    const size = Math.min(1, Math.abs(value) / (map.high || 1));
    painted[4 * code + 3] = !map.signed ? 255 : value === 0 ? 0 : 255 * (0.3 + 0.7 * size);
  });
  const canvas = make("canvas", {width, height}), context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  map.codes.forEach((code, pixel) => {
    if (code < count) pixels.data.set(painted.subarray(4 * code, 4 * code + 4), 4 * pixel);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The boundary of a mask along the edges of pixels, as closed lines, so that they can be dashed.
function pathOf(mask, [width, height], scale) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x];
  const corner = (x, y) => y * (width + 1) + x, next = new Map();
  const edge = (a, b, c, d) => {
    const from = corner(a, b);
    if (!next.has(from)) next.set(from, []);
    next.get(from).push(corner(c, d));
  };
  // Every edge runs with the inside on its right, so that each corner is left as often as reached.
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      if (!inside(x, y)) continue;
      if (!inside(x, y - 1)) edge(x, y, x + 1, y);
      if (!inside(x + 1, y)) edge(x + 1, y, x + 1, y + 1);
      if (!inside(x, y + 1)) edge(x + 1, y + 1, x, y + 1);
      if (!inside(x - 1, y)) edge(x, y + 1, x, y);
    }
  const path = new Path2D();
  const place = at => [scale * (at % (width + 1)), scale * Math.floor(at / (width + 1))];
  for (const start of next.keys())
    while (next.get(start).length) {
      path.moveTo(...place(start));
      for (let at = next.get(start).pop(); at !== start; at = next.get(at).pop()) path.lineTo(...place(at));
      path.closePath();
    }
  return path;
}

// Below an outline is a wider line, dark or bright as the outline is not: it is seen on any image.
function strokeOutline(context, outline, path, width) {
  context.setLineDash([]);
  context.lineWidth = 2 * width;
  context.strokeStyle = outline.colour === "#000000" ? "#fff" : "#000";
  context.stroke(path);
  context.setLineDash(outline.dashed ? [5 * width, 4 * width] : []);
  context.lineWidth = 1.2 * width;
  context.strokeStyle = outline.colour;
  context.stroke(path);
}

// A canvas of a plane with a map, or without; `draw` draws it anew.
function pictureOf(plane, map, outlines, name) {
  const [width, height] = plane.size;
  const scale = Math.max(1, Math.round(640 / Math.max(width, height)));
  const canvas = make("canvas", {width: width * scale, height: height * scale, tabIndex: 0});
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  const context = canvas.getContext("2d");
  const painted = map && paintMap(map, plane.size);
  const paths = outlines.map(outline => pathOf(outline.mask, plane.size, scale));
  const draw = (opacity, kinds) => {
    context.imageSmoothingEnabled = false;
    context.drawImage(painted && opacity > 0 ? plane.grey : plane.colour, 0, 0, canvas.width, canvas.height);
    if (painted) {
      context.globalAlpha = opacity;
      context.drawImage(painted, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
    }
    const line = Math.max(1, Math.max(canvas.width, canvas.height) / 320);
    outlines.forEach((outline, i) => {
      if (kinds.has(outline.kind)) strokeOutline(context, outline, paths[i], line);
    });
  };
  return {canvas, draw};
}
