// Pictures: an image, a map over it with an opacity, and outlines.

// Codes of a map as colours. Where it has two signs, small values are fainter, and zero is not there.
function paintMap(map, codes, [width, height]) {
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
  codes.forEach((code, pixel) => {
    if (code < count) pixels.data.set(painted.subarray(4 * code, 4 * code + 4), 4 * pixel);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The boundary of a mask along the edges of pixels, as closed lines, so that they can be dashed.
function pathOf(mask, [width, height], [across, down]) {
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
  const place = at => [across * (at % (width + 1)), down * Math.floor(at / (width + 1))];
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

// Where the planes of a volume meet: two thin lines with a gap around the pixel.
function strokeCross(context, {x, y}, [across, down], width) {
  const {canvas} = context, [middle, level] = [(x + 0.5) * across, (y + 0.5) * down];
  const gap = 3 * Math.max(across, down), path = new Path2D();
  for (const [a, b] of [[0, middle - gap], [middle + gap, canvas.width]]) {
    path.moveTo(a, level);
    path.lineTo(b, level);
  }
  for (const [a, b] of [[0, level - gap], [level + gap, canvas.height]]) {
    path.moveTo(middle, a);
    path.lineTo(middle, b);
  }
  context.setLineDash([]);
  context.lineWidth = width;
  context.strokeStyle = "rgb(255 255 255 / 55%)";
  context.stroke(path);
}

// A canvas; `fill` gives it a view with a map (or without) and outlines, `draw` draws it anew.
function pictureOf(name) {
  const canvas = make("canvas", {tabIndex: 0});
  canvas.setAttribute("role", "img");
  const context = canvas.getContext("2d");
  let view = null, painted = null, outlines = [], scale = [1, 1];
  const fill = (newView, map, newOutlines) => {
    [view, outlines] = [newView, newOutlines];
    const [width, height] = view.size, [wide, high] = view.pixel;
    const factor = Math.max(1, Math.round(640 / Math.max(width * wide, height * high)));
    scale = [factor * wide, factor * high];
    const sides = [Math.round(width * scale[0]), Math.round(height * scale[1])];
    if (canvas.width !== sides[0]) canvas.width = sides[0];
    if (canvas.height !== sides[1]) canvas.height = sides[1];
    canvas.setAttribute("aria-label", view.cross ? `${name}, ${view.name}` : name);
    painted = map && paintMap(map, view.cut(map.codes), view.size);
  };
  const pathIn = outline => {
    if (!view.paths.has(outline)) view.paths.set(outline, pathOf(view.cut(outline.mask), view.size, scale));
    return view.paths.get(outline);
  };
  const draw = (opacity, kinds) => {
    context.imageSmoothingEnabled = false;
    context.drawImage(painted && opacity > 0 ? view.grey : view.colour, 0, 0, canvas.width, canvas.height);
    if (painted) {
      context.globalAlpha = opacity;
      context.drawImage(painted, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
    }
    const line = Math.max(1, Math.max(canvas.width, canvas.height) / 320);
    for (const outline of outlines)
      if (kinds.has(outline.kind)) strokeOutline(context, outline, pathIn(outline), line);
    if (view.cross && kinds.has("position")) strokeCross(context, view.cross, scale, line);
  };
  return {canvas, fill, draw};
}

// The pictures of all views beside each other; widths go by the size of what is shown.
function picturesOf(views, name) {
  const pictures = views.map(() => pictureOf(name));
  const titles = views.map(() => make("p", {className: "soft plane"}));
  const boxes = views.map((view, i) => {
    const box = make("div", {className: "picture"}, pictures[i].canvas, ...view.edges.map((letter, edge) =>
      make("span", {className: `edge ${["left", "top"][edge]}`, textContent: letter})));
    const figure = make("div", {className: "view"}, box, view.cross ? titles[i] : null);
    figure.style.flexGrow = view.width;
    return figure;
  });
  return {
    element: make("div", {className: "views"}, ...boxes),
    fill(newViews, map, outlines) {
      newViews.forEach((view, i) => {
        pictures[i].fill(view, map, outlines);
        titles[i].textContent = view.name;
      });
    },
    draw(opacity, kinds) { for (const picture of pictures) picture.draw(opacity, kinds); },
  };
}
