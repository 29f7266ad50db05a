// Curves of a case: one chart for each name, a line for each method that has it.

const NUM_COLOURS = 6, DASHES = ["", "6 3", "2 3", "9 3 2 3"];

// Lines differ in their dashes where colours come again.
function lineStyle(k) {
  return {class: `line${k % NUM_COLOURS}`, "stroke-dasharray": DASHES[Math.floor(k / NUM_COLOURS) % DASHES.length]};
}

function svg(tag, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function chartOf(name, curves) {
  const [width, height, left, right, top, bottom] = [320, 180, 56, 8, 8, 22];
  const values = curves.flatMap(curve => curve.values).filter(value => value !== null);
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const most = Math.max(...curves.map(curve => curve.values.length - 1));
  const x = i => left + (width - left - right) * i / most;
  const y = value => top + (height - top - bottom) * (high - value) / (high - low);
  const chart = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart"});
  const said = curves.map(({label, values}) => {
    const known = values.filter(value => value !== null);
    return `${label} from ${words(known[0])} to ${words(known.at(-1))}`;
  });
  chart.setAttribute("aria-label", `${name}: ${said.join("; ")}`);
  for (const value of [low, (low + high) / 2, high]) {
    chart.append(svg("line", {x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid"}));
    chart.append(svg("text", {x: left - 5, y: y(value) + 4, "text-anchor": "end"}, words(value)));
  }
  for (const [i, anchor] of [[0, "start"], [most, "end"]])
    chart.append(svg("text", {x: x(i), y: height - 6, "text-anchor": anchor}, i));
  chart.append(svg("text", {x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, "step"));
  curves.forEach(({values}, k) => {
    let path = "", pen = false;
    values.forEach((value, i) => {
      if (value !== null) path += `${pen ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = value !== null;
    });
    chart.append(svg("path", {d: path, fill: "none", "stroke-width": 2, ...lineStyle(k)}));
  });
  return chart;
}

// Charts of all curves of the explanations that are shown.
function curvesOf(explanations) {
  const named = new Map();
  for (const one of explanations)
    for (const [name, values] of Object.entries(one.curves ?? {})) {
      if (!named.has(name)) named.set(name, []);
      const label = one.region === "image" ? one.label : `${one.label}, ${one.region}`;
      named.get(name).push({label, values});
    }
  return [...named].map(([name, curves]) => {
    const entries = curves.map(({label}, k) => {
      const line = svg("svg", {viewBox: "0 0 26 8", class: "key", "aria-hidden": "true"});
      line.append(svg("line", {x1: 0, x2: 26, y1: 4, y2: 4, "stroke-width": 3, ...lineStyle(k)}));
      return make("li", {}, line, label);
    });
    return make("article", {className: "panel"}, make("h4", {textContent: name.replaceAll("_", " ")}),
      chartOf(name, curves), make("ul", {className: "legend"}, ...entries));
  });
}
