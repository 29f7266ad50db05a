// The list of cases: filters, order, and a page of names at a time.

const AT_A_TIME = 100;
// Name of a score -> for each case its values, of all entries that have the score.
const list = {order: INDEX.images.map((_, i) => i), start: 0, current: 0};

for (const [id, values] of [
  ["class_name", INDEX.class_names],
  ["status", [...new Set(INDEX.labels.flatMap(label => label.status))].sort()],
]) for (const value of values) element(id).add(new Option(value, value));
for (const label of INDEX.labels) {
  const names = Object.keys(label.scores).sort();
  const options = names.map(name => new Option(`${label.name}: ${name}`, JSON.stringify([label.name, name])));
  if (options.length) element("score").append(make("optgroup", {label: label.name}, ...options));
}

// Case -> values of the chosen score; several where several regions are explained.
function chosenScores() {
  const found = new Map();
  if (!element("score").value) return found;
  const [name, score] = JSON.parse(element("score").value);
  const label = INDEX.labels.find(label => label.name === name);
  label.case.forEach((number, i) => {
    const value = label.scores[score][i];
    if (value === null) return;
    if (!found.has(number)) found.set(number, []);
    found.get(number).push(value);
  });
  return found;
}

function casesWithStatus(status) {
  const found = new Set();
  for (const label of INDEX.labels)
    label.status.forEach((one, i) => { if (one === status) found.add(label.case[i]); });
  return found;
}

function filterCases() {
  const score = element("score").value, scores = chosenScores();
  const bound = (id, none) => element(id).value === "" ? none : Number(element(id).value);
  const low = bound("low", -Infinity), high = bound("high", Infinity);
  const search = element("search").value.toLowerCase();
  const wanted = element("class_name").value, status = element("status").value;
  const statuses = status && casesWithStatus(status);
  // A chosen score leaves only the cases that have it, in the range.
  const order = INDEX.images.map((_, i) => i).filter(i =>
    (!search || INDEX.images[i].toLowerCase().includes(search)) &&
    (!wanted || INDEX.class_names[INDEX.classes[i]] === wanted) &&
    (!status || statuses.has(i)) &&
    (!score || scores.get(i)?.some(value => value >= low && value <= high)));
  const sort = score && element("sort").value;
  const least = new Map([...scores].map(([i, values]) => [i, Math.min(...values)]));
  const most = new Map([...scores].map(([i, values]) => [i, Math.max(...values)]));
  if (sort === "up") order.sort((a, b) => least.get(a) - least.get(b));
  if (sort === "down") order.sort((a, b) => most.get(b) - most.get(a));
  list.order = order;
  list.scores = scores;
  for (const id of ["low", "high", "sort"]) element(id).disabled = !score;
  element("shown").textContent = `${order.length} of ${INDEX.images.length} cases`;
}

// Draw the page of the list with the place `place` in the order.
function drawList(place) {
  list.start = AT_A_TIME * Math.floor(Math.max(0, place) / AT_A_TIME);
  const end = Math.min(list.start + AT_A_TIME, list.order.length);
  const entries = [];
  for (let i = list.start; i < end; i++) {
    const number = list.order[i], values = list.scores.get(number);
    const button = make("button", {type: "button", tabIndex: -1},
      make("span", {className: "name", textContent: INDEX.images[number]}),
      make("span", {className: "soft", textContent: INDEX.class_names[INDEX.classes[number]]}),
      values ? make("span", {className: "value", textContent: values.map(words).join(", ")}) : null);
    button.dataset.number = number;
    entries.push(make("li", {}, button));
  }
  element("cases").replaceChildren(...entries);
  element("cases").start = list.start + 1;
  element("earlier").parentElement.hidden = list.order.length <= AT_A_TIME;
  element("earlier").disabled = list.start === 0;
  element("later").disabled = end === list.order.length;
  markCurrent();
}

// Scroll the list alone: the window stays where it is, and the Tab key goes on from there.
function bringIntoView(button) {
  if (!button) return;
  const box = element("cases"), above = button.offsetTop - box.offsetTop;
  const least = above + button.offsetHeight - box.clientHeight;
  box.scrollTop = Math.min(above, Math.max(least, box.scrollTop));
}

// One entry of the list is in the order of the Tab key: the current one, or else the first.
function markCurrent() {
  const buttons = [...element("cases").querySelectorAll("button")];
  const current = buttons.find(button => Number(button.dataset.number) === list.current);
  for (const button of buttons) {
    button.tabIndex = button === (current ?? buttons[0]) ? 0 : -1;
    if (button === current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  return current;
}
