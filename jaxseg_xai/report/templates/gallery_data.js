// What the page knows: the index of all cases, and each case when it is looked at.
const element = id => document.getElementById(id);
const INDEX = JSON.parse(element("index").textContent);

// A case of this page, or of the server that the page comes from.
async function readCase(number) {
  const embedded = element(`case-${number}`);
  if (embedded) return JSON.parse(embedded.textContent);
  const answer = await fetch(`cases/${number}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}

async function inflate(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Arrays of a map: a code for each pixel, and the values that the codes stand for. Codes come as
// differences along the rows of differences between the rows; bytes wrap, so sums give them back.
async function unpackMap(map, shape) {
  const codes = await inflate(map.codes), [height, width] = shape.slice(-2);
  for (let i = 0; i < codes.length; i++) if (i % width) codes[i] += codes[i - 1];
  for (let i = width; i < codes.length; i++) if (i % (height * width) >= width) codes[i] += codes[i - width];
  map.codes = codes;
  map.levels = new Float32Array(bytesOf(map.levels).buffer);
}

async function unpackCase(known) {
  const outlined = async outline => { outline.mask = await inflate(outline.mask); };
  const waiting = (known.place?.outlines ?? []).map(outlined);
  const mapped = map => unpackMap(map, known.place.shape);
  for (const {place} of known.explanations)
    if (place) waiting.push(...Object.values(place.maps).map(mapped), ...place.outlines.map(outlined));
  if (known.place) waiting.push(loadVoxels(known.place).then(voxels => { known.place.voxels = voxels; }));
  await Promise.all(waiting);
  return known;
}

// The value of a pixel, and by how much it may be off for having a level: null where there is none.
function valueAt(map, pixel) {
  const code = map.codes[pixel], levels = map.levels;
  if (code >= levels.length) return null;
  if (!map.error) return {value: levels[code], error: 0};
  const below = code ? levels[code] - levels[code - 1] : 0;
  const above = code + 1 < levels.length ? levels[code + 1] - levels[code] : 0;
  return {value: levels[code], error: Math.max(below, above) / 2};
}

const COLOURS = Object.fromEntries(
  Object.entries(INDEX.colour_maps).map(([name, colours]) => [name, bytesOf(colours)]));

// A number in few letters: 1234, 12.3, 0.0123, 1.2e-7; a true minus sign lines up.
function words(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  let text = value.toPrecision(3);
  if (size >= 1000 && size < 1e6) text = value.toFixed(0);
  if (text.includes("e")) text = value.toExponential(2);
  else if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  return text.replace(/^-/, "−");
}

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}
