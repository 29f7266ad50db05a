// The viewer: which case is shown, how, and what the keys and the pointer do.

const KINDS = {class: "explained class", others: "other classes", truth: "truth",
  explained: "region", method: "of the method", position: "position"};
const ASK = element("pointer").textContent;
// `position` is where the planes of a volume meet, `pointer` a pixel of a view.
const viewer = {known: null, views: [], position: null, panels: [], hidden: new Set(), pointer: null, asked: 0};

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
    if (asked !== viewer.asked) return; // another case was asked for meanwhile
    element("message").hidden = true;
    viewer.known = known;
    viewer.position = known.place?.volume?.start ?? null;
    viewer.pointer &&= viewer.position ? null : viewer.pointer;
    viewer.views = known.place ? viewsOf(known.place, viewer.position) : [];
    drawSliders();
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

// A scroll bar for each axis of a volume.
function drawSliders() {
  const place = viewer.known.place, axes = place?.volume?.axes ?? [];
  element("planes").hidden = !axes.length;
  element("outlines").querySelector("[value=position]").parentElement.hidden = !axes.length;
  element("panels").classList.toggle("volumes", axes.length > 0);
  const bars = axes.map((name, axis) => make("label", {className: "slider"}, name, make("input",
    {type: "range", min: 0, max: place.shape[axis] - 1, value: viewer.position[axis]})));
  element("planes").replaceChildren(element("planes").querySelector("legend"), ...bars);
}

function drawCase(name) {
  const {known, views} = viewer, shown = known.explanations.filter(one => !viewer.hidden.has(one.label));
  viewer.panels = [...(known.place ? [imagePanel(known.place, views, name)] : []),
    ...shown.map(one => panelOf(one, views, known.place?.outlines ?? [], name))];
  element("panels").replaceChildren(...viewer.panels.map(panel => panel.article));
  const curves = curvesOf(shown);
  element("curves").replaceChildren(...curves);
  element("curves_title").hidden = !curves.length;
  redraw();
  point(viewer.pointer);
}

// Let the planes of a volume meet elsewhere; those across an axis that did not change stay.
function moveTo(position) {
  const {place} = viewer.known, old = viewer.position;
  viewer.position = position.map((n, axis) => Math.min(place.shape[axis] - 1, Math.max(0, n)));
  if (viewer.position.every((n, axis) => n === old[axis])) return;
  viewer.views = viewer.views.map((view, axis) => viewer.position[axis] === old[axis] ?
    moved(view, viewer.position) : viewOf(place, axis, viewer.position));
  for (const panel of viewer.panels) panel.fill(viewer.views);
  element("planes").querySelectorAll("input").forEach((bar, axis) => { bar.value = viewer.position[axis]; });
  redraw();
}

// Say what is at a pixel of a view in all pictures; null takes the pointer away.
function point(pointer, aloud = false) {
  viewer.pointer = pointer;
  const {place} = viewer.known ?? {};
  if (!place) return;
  const view = pointer && viewer.views[pointer.view];
  if (view && (pointer.x >= view.size[0] || pointer.y >= view.size[1])) return point(null); // of a larger image
  const readings = [];
  for (const panel of viewer.panels) {
    const text = panel.read(view && view.flat(pointer));
    if (text) readings.push(`${panel.label}: ${text}`);
    panel.article.querySelectorAll(".picture").forEach((picture, i) => {
      picture.classList.toggle("pointed", i === pointer?.view);
      if (i !== pointer?.view) return;
      picture.style.setProperty("--x", `${100 * (pointer.x + 0.5) / view.size[0]}%`);
      picture.style.setProperty("--y", `${100 * (pointer.y + 0.5) / view.size[1]}%`);
    });
  }
  const where = view && whereIs(place, view.at(pointer));
  element("pointer").textContent = where ?? ASK;
  if (aloud) element("said").textContent = `${where}. ${readings.join(". ")}`;
}

const isPicture = target => target.matches?.(".picture canvas");
const viewUnder = canvas => [...canvas.closest(".views").querySelectorAll("canvas")].indexOf(canvas);

function pixelUnder(event) {
  const box = event.target.getBoundingClientRect(), number = viewUnder(event.target);
  const within = (share, size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
  const [width, height] = viewer.views[number].size;
  return {view: number, x: within((event.clientX - box.left) / box.width, width),
    y: within((event.clientY - box.top) / box.height, height)};
}

// A press, or a move while pressed, takes the other planes of a volume there.
for (const kind of ["pointermove", "pointerdown"])
  element("panels").addEventListener(kind, event => {
    if (!isPicture(event.target)) return;
    const pixel = pixelUnder(event);
    if (viewer.position && event.buttons & 1) moveTo(viewer.views[pixel.view].at(pixel));
    point(pixel);
  });

// Arrows move the pointer of the picture that has the focus, in a volume with the other planes;
// Page Up and Page Down go through its planes.
element("panels").addEventListener("keydown", event => {
  if (!isPicture(event.target)) return;
  if (event.key === "Escape") return point(null);
  const number = viewUnder(event.target), view = viewer.views[number], by = event.shiftKey ? 10 : 1;
  const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  const through = viewer.position && {PageUp: -1, PageDown: 1}[event.key];
  if (!move && !through) return;
  event.preventDefault();
  if (through) return scrollThrough(number, by * through, true);
  const [width, height] = view.size, within = (value, size) => Math.min(size - 1, Math.max(0, value));
  const last = viewer.pointer?.view === number ? viewer.pointer : null;
  const from = view.cross ?? last ?? {x: width >> 1, y: height >> 1};
  const pixel = {view: number, x: within(from.x + by * move[0], width), y: within(from.y + by * move[1], height)};
  if (viewer.position) moveTo(view.at(pixel));
  point(pixel, true);
});

function scrollThrough(number, by, aloud = false) {
  moveTo(viewer.position.map((n, axis) => axis === number ? n + by : n));
  point({view: number, ...viewer.views[number].cross}, aloud);
}

// The wheel does so, too, over a picture that has the focus: else the page would not scroll.
element("panels").addEventListener("wheel", event => {
  if (!viewer.position || event.target !== document.activeElement || !isPicture(event.target)) return;
  event.preventDefault();
  scrollThrough(viewUnder(event.target), Math.sign(event.deltaY));
}, {passive: false});

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
element("planes").addEventListener("input", () => {
  moveTo([...element("planes").querySelectorAll("input")].map(bar => Number(bar.value)));
  point(null);
});
element("methods").addEventListener("input", event => {
  viewer.hidden[event.target.checked ? "delete" : "add"](event.target.value);
  drawCase(element("case_title").textContent);
});

const first = Number(location.hash.slice(1));
list.current = Number.isInteger(first) && first < INDEX.images.length ? first : 0;
update();
if (!INDEX.images.length) element("case_title").textContent = "No explanations to show";
