// Panels of a case side by side: the image, and each explanation with its map and numbers.

const NOTHING_YET = "\u00a0";

function legendOf(outlines) {
  const entries = outlines.map(outline => {
    const swatch = make("span", {className: outline.dashed ? "swatch dashed" : "swatch"});
    swatch.style.setProperty("--line-colour", outline.colour);
    const entry = make("li", {}, swatch, outline.name);
    entry.dataset.kind = outline.kind;
    return entry;
  });
  return make("ul", {className: "legend"}, ...entries);
}

function colourBar(map, unit) {
  const canvas = make("canvas", {width: 256, height: 1, className: "bar"});
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d"), pixels = context.createImageData(256, 1);
  for (let i = 0; i < 256; i++)
    pixels.data.set([...COLOURS[map.colours].subarray(3 * i, 3 * i + 3), 255], 4 * i);
  context.putImageData(pixels, 0, 0);
  const [below, above] = [map.open && map.signed ? "≤ " : "", map.open ? "≥ " : ""];
  const ends = make("div", {className: "ends"}, make("span", {textContent: below + words(map.low)}),
    make("span", {textContent: unit}), make("span", {textContent: above + words(map.high)}));
  return make("div", {className: "scale"}, canvas, ends);
}

function numbersOf(one) {
  const meanings = INDEX.labels.find(label => label.name === one.label).meanings;
  const rows = Object.entries(one.scores).map(([name, value]) => make("div", {title: meanings[name] ?? ""},
    make("dt", {textContent: name}), make("dd", {textContent: words(value)})));
  return rows.length ? make("details", {className: "numbers"}, make("summary", {textContent: "Scores"}),
    make("dl", {}, ...rows)) : null;
}

// The method's own figure is fetched when it is opened.
function figureOf(one, caseName) {
  if (!one.figure) return null;
  const details = make("details", {className: "figure"}, make("summary", {textContent: "Figure"}));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("img")) return;
    details.append(make("img", {src: one.figure, alt: `Figure of ${one.label}, ${caseName}. ${one.caption}`}));
  });
  return details;
}

// What stands below a picture about one pixel: value, interval, and whose region it is in.
function readingOf(place, name, pixel) {
  const map = place?.maps[name];
  if (!map) return "";
  const found = valueAt(map, pixel);
  if (!found) return "no value";
  let text = words(found.value);
  const interval = name === "attribution" && place.interval;
  const half = interval && valueAt(place.maps[interval.map], pixel);
  if (half && half.value > 0) text += ` ± ${words(half.value)} (${interval.words})`;
  if (found.error) text += ` (rounded, within ${Number(found.error.toPrecision(1))})`;
  const inside = place.outlines.filter(outline => outline.kind === "method" && outline.mask[pixel]);
  return [text, ...inside.map(outline => outline.name)].join(", ");
}

// One explanation. Returns its element, `fill` (with other views), `draw` (anew) and `read` (a
// pixel, or null).
function panelOf(one, views, shared, caseName) {
  const label = INDEX.labels.find(label => label.name === one.label);
  const tags = [one.region === "image" ? null : one.region, label.method === one.label ? null : label.method];
  const status = make("span", {className: `status ${one.status}`, textContent: one.status});
  const heading = make("h3", {title: one.run}, one.label,
    make("span", {className: "soft tags", textContent: tags.filter(Boolean).join(" · ")}), status);
  const reading = make("output", {className: "reading", textContent: NOTHING_YET});
  const names = Object.keys(one.place?.maps ?? {});
  const outlines = [...shared, ...(one.place?.outlines ?? [])];
  const below = make("div");
  const pictures = names.length ? picturesOf(views, `${one.label}: map over ${caseName}`) : null;
  let shown = names[0], last = null;
  const fill = newViews => {
    views = newViews;
    pictures?.fill(views, one.place.maps[shown], outlines);
  };
  const fillBelow = () => {
    if (shown) below.replaceChildren(colourBar(one.place.maps[shown], shown === "attribution" ? one.unit : ""));
  };
  fill(views);
  fillBelow();
  let choice = null;
  if (names.length > 1) {
    const options = names.map(name => new Option(
      name === "attribution" ? one.title || "attribution" : one.place.maps[name].title, name));
    choice = make("select", {}, ...options);
    choice.addEventListener("change", () => {
      shown = choice.value;
      fill(views);
      fillBelow();
      if (last) panel.draw(...last);
    });
    choice = make("label", {className: "choice"}, "Map", choice);
  }
  const warning = one.error ?? one.warning, figure = figureOf(one, caseName);
  const article = make("article", {className: "panel"}, heading, pictures?.element, below, shown ? reading : null,
    choice, warning ? make("p", {className: "bad", textContent: warning}) : null,
    shown ? make("p", {className: "soft caption", textContent: one.caption}) : null,
    shown ? legendOf(one.place.outlines) : null, numbersOf(one), figure);
  // What has no map, but something to show, is its figure.
  if (figure && !shown && !warning) figure.open = true;
  const panel = {
    article,
    label: one.label,
    fill,
    draw(opacity, kinds) { last = [opacity, kinds]; pictures?.draw(opacity, kinds); },
    read(pixel) {
      const text = pixel === null ? NOTHING_YET : readingOf(one.place, shown, pixel);
      reading.textContent = text || NOTHING_YET;
      return text;
    },
  };
  return panel;
}

// The image alone, with everything that is known of it.
function imagePanel(place, views, caseName) {
  const pictures = picturesOf(views, `Image of ${caseName}`);
  pictures.fill(views, null, place.outlines);
  const reading = make("output", {className: "reading", textContent: NOTHING_YET});
  const article = make("article", {className: "panel"}, make("h3", {}, "Image",
    make("span", {className: "soft tags", textContent: place.name})),
    pictures.element, reading, legendOf(place.outlines));
  return {
    article,
    label: null,
    fill(newViews) { pictures.fill(newViews, null, place.outlines); },
    draw: pictures.draw,
    read(pixel) {
      const inside = pixel === null ? [] : place.outlines.filter(outline => outline.mask[pixel]);
      reading.textContent = inside.map(outline => outline.name).join(", ") || NOTHING_YET;
      return "";
    },
  };
}
