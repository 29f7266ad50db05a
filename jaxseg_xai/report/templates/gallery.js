// The viewer: which case is shown, how, and what the keys and the pointer do.

const KINDS = {class: "explained class", others: "other classes", truth: "truth",
  explained: "region", method: "of the method"};
const ASK = element("pointer").textContent;
const viewer = {known: null, plane: 0, panels: [], hidden: new Set(), pointer: null, asked: 0};

for (const [kind, name] of Object.entries(KINDS)) {
  const box = make("input", {type: "checkbox", value: kind, checked: kind !== "others"});
  element("outlines").append(make("label", {}, box, name));
}
for (const {name} of INDEX.labels) {
  const box = make("input", {type: "checkbox", value: name, checked: true});
  element("methods").querySelector("fieldset").append(make("label", {}, box, name));
}

function redraw() {
  const checked = [...element("outlines").querySelectorAll(":checked")].map(box => box.value);
  const kinds = new Set(checked), opacity = element("opacity").value / 100;
  for (const panel of viewer.panels) panel.draw(opacity, kinds);
  for (const entry of element("panels").querySelectorAll(".legend li"))
    entry.hidden = !kinds.has(entry.dataset.kind);
}

// Show a case of the index.
async function show(number) {
  list.current = number;
  const asked = ++viewer.asked;
  const place = list.order.indexOf(number);
  if (place >= 0 && Math.floor(place / AT_A_TIME) * AT_A_TIME !== list.start) drawList(place);
  bringIntoView(markCurrent());
  element("previous").disabled = place <= 0;
  element("next").disabled = place < 0 || place + 1 >= list.order.length;
  const name = `${INDEX.images[number]}, ${INDEX.class_names[INDEX.classes[number]]}`;
  element("case_title").textContent = name;
  history.replaceState(null, "", `#${number}`);
  try {
    const known = await unpackCase(await readCase(number));
    await Promise.all(known.planes.map(loadPicture));
    if (asked !== viewer.asked) return; // another case was asked for meanwhile
    element("message").hidden = true;
    viewer.known = known;
    viewer.plane = Math.min(viewer.plane, Math.max(0, known.planes.length - 1));
    drawPlanes();
    drawCase(name);
  } catch (error) {
    if (asked !== viewer.asked) return;
    element("message").textContent = `This case cannot be shown: ${error.message}`;
    element("message").hidden = false;
    element("panels").replaceChildren();
    element("curves").replaceChildren();
    viewer.panels = [];
  }
  document.body.dataset.shown = number;
}

function drawPlanes() {
  const {planes} = viewer.known;
  element("planes").hidden = planes.length < 2;
  const choices = planes.map((plane, i) => make("label", {}, make("input",
    {type: "radio", name: "plane", value: i, checked: i === viewer.plane}), plane.name));
  element("planes").replaceChildren(element("planes").querySelector("legend"), ...choices);
}

function drawCase(name) {
  const {known} = viewer, plane = known.planes[viewer.plane];
  const shown = known.explanations.filter(one => !viewer.hidden.has(one.label));
  const shared = plane?.outlines ?? [];
  viewer.panels = [...(plane ? [imagePanel(plane, name)] : []),
    ...shown.map(one => panelOf(one, plane, viewer.plane, shared, name))];
  element("panels").replaceChildren(...viewer.panels.map(panel => panel.article));
  const curves = curvesOf(shown);
  element("curves").replaceChildren(...curves);
  element("curves_title").hidden = !curves.length;
  redraw();
  point(plane && viewer.pointer);
}

// Say what is at a pixel of all pictures; null takes the pointer away.
function point(place, aloud = false) {
  viewer.pointer = place;
  const plane = viewer.known?.planes[viewer.plane];
  if (!plane) return;
  const [width, height] = plane.size;
  if (place && (place.x >= width || place.y >= height)) return point(null); // of a larger image
  const pixel = place && place.y * width + place.x;
  const readings = [];
  for (const panel of viewer.panels) {
    const text = panel.read(pixel);
    if (text) readings.push(`${panel.label}: ${text}`);
    const picture = panel.article.querySelector(".picture");
    picture.classList.toggle("pointed", place !== null);
    if (!place) continue;
    picture.style.setProperty("--x", `${100 * (place.x + 0.5) / width}%`);
    picture.style.setProperty("--y", `${100 * (place.y + 0.5) / height}%`);
  }
  if (!place) element("pointer").textContent = ASK;
  if (!place) return;
  const [row, column] = [plane.origin[0] + place.y * plane.factor, plane.origin[1] + place.x * plane.factor];
  const mean = plane.factor > 1 ? ` (means of ${plane.factor} × ${plane.factor} pixels)` : "";
  element("pointer").textContent = `Row ${row}, column ${column}${mean}`;
  if (aloud) element("said").textContent = `Row ${row}, column ${column}. ${readings.join(". ")}`;
}

function pixelUnder(event) {
  const box = event.target.getBoundingClientRect(), [width, height] = viewer.known.planes[viewer.plane].size;
  const within = (share, size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
  return {x: within((event.clientX - box.left) / box.width, width),
    y: within((event.clientY - box.top) / box.height, height)};
}

const isPicture = target => target.matches?.(".picture canvas");
for (const kind of ["pointermove", "pointerdown"])
  element("panels").addEventListener(kind, event => { if (isPicture(event.target)) point(pixelUnder(event)); });

// Arrows move the pointer of the picture that has the focus.
element("panels").addEventListener("keydown", event => {
  if (!isPicture(event.target)) return;
  const [width, height] = viewer.known.planes[viewer.plane].size;
  if (event.key === "Escape") return point(null);
  const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!move) return;
  event.preventDefault();
  const from = viewer.pointer ?? {x: width >> 1, y: height >> 1}, step = event.shiftKey ? 10 : 1;
  const within = (value, size) => Math.min(size - 1, Math.max(0, value));
  point({x: within(from.x + step * move[0], width), y: within(from.y + step * move[1], height)}, true);
});

function step(by) {
  const place = list.order.indexOf(list.current) + by;
  if (place >= 0 && place < list.order.length) show(list.order[place]);
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || !list.order.length) return;
  if (event.target.matches?.("input, select, .picture canvas")) return;
  const inList = element("cases").contains(event.target);
  const by = {ArrowLeft: -1, ArrowRight: 1, ...(inList && {ArrowUp: -1, ArrowDown: 1})}[event.key];
  if (by) step(by);
  else if (event.key === "Home") show(list.order[0]);
  else if (event.key === "End") show(list.order.at(-1));
  else return;
  event.preventDefault();
  if (inList) markCurrent()?.focus();
});

function update() {
  filterCases();
  drawList(list.order.indexOf(list.current));
  if (list.order.length && !list.order.includes(list.current)) show(list.order[0]);
  else if (list.order.length) show(list.current);
}

element("filters").addEventListener("input", update);
element("filters").addEventListener("reset", () => setTimeout(update));
element("filters").addEventListener("submit", event => event.preventDefault());
element("cases").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button) show(Number(button.dataset.number));
});
element("previous").addEventListener("click", () => step(-1));
element("next").addEventListener("click", () => step(1));
element("earlier").addEventListener("click", () => drawList(list.start - AT_A_TIME));
element("later").addEventListener("click", () => drawList(list.start + AT_A_TIME));
element("opacity").addEventListener("input", redraw);
element("outlines").addEventListener("input", redraw);
element("size").addEventListener("input", event =>
  element("viewer").style.setProperty("--size", `${event.target.value}px`));
element("planes").addEventListener("input", event => {
  viewer.plane = Number(event.target.value);
  drawCase(element("case_title").textContent);
});
element("methods").addEventListener("input", event => {
  viewer.hidden[event.target.checked ? "delete" : "add"](event.target.value);
  drawCase(element("case_title").textContent);
});

const first = Number(location.hash.slice(1));
list.current = Number.isInteger(first) && first < INDEX.images.length ? first : 0;
update();
if (!INDEX.images.length) element("case_title").textContent = "No explanations to show";
