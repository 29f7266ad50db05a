// Views: what of an image or a volume is drawn. An image has one, all of it; a volume has three,
// the planes that meet at a position.

// Voxels of a plane across an axis, of an array with a number for each voxel.
function planeOf(values, [depth, height, width], axis, index) {
  const slab = height * width;
  if (axis === 0) return values.subarray(index * slab, (index + 1) * slab);
  const columns = axis === 1 ? width : height;
  const cut = new values.constructor(depth * columns);
  for (let d = 0; d < depth; d++) {
    const from = d * slab + (axis === 1 ? index * width : index), step = axis === 1 ? 1 : width;
    for (let c = 0; c < columns; c++) cut[d * columns + c] = values[from + c * step];
  }
  return cut;
}

// The picture of a place as a number for each voxel: red, green, blue and 255 in four bytes.
async function loadVoxels(place) {
  const image = new Image();
  image.src = place.picture;
  await image.decode();
  const canvas = make("canvas", {width: image.width, height: image.height});
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  if (!place.volume) return pixels;
  const [depth, height, width] = place.shape, {columns} = place.volume;
  const voxels = new Uint32Array(depth * height * width);
  for (let d = 0; d < depth; d++) {
    const corner = Math.floor(d / columns) * height * image.width + (d % columns) * width;
    for (let h = 0; h < height; h++) {
      const row = corner + h * image.width;
      voxels.set(pixels.subarray(row, row + width), (d * height + h) * width);
    }
  }
  return voxels;
}

function canvasOf(pixels, [width, height], change) {
  const canvas = make("canvas", {width, height});
  const data = new Uint8ClampedArray(pixels.slice().buffer);
  if (change) change(data);
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

function greyOut(data) {
  for (let i = 0; i < data.length; i += 4)
    data[i] = data[i + 1] = data[i + 2] = 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
}

// A view: `cut` takes its pixels out of an array of the place, `flat` is where one of them is there.
function viewOf(place, axis, position) {
  const {shape, volume} = place, all = [...shape.keys()];
  const axes = volume ? all.filter(other => other !== axis) : all;
  const size = [shape[axes[1]], shape[axes[0]]], index = volume && position[axis];
  const spacing = volume ? [volume.spacing[axes[1]], volume.spacing[axes[0]]] : [1, 1];
  const factors = axes.map(other => place.factors[other]);
  const cut = values => volume ? planeOf(values, shape, axis, index) : values;
  const at = ({x, y}) => {
    const found = volume ? [index, index, index] : [0, 0];
    [found[axes[0]], found[axes[1]]] = [y, x];
    return found;
  };
  const flat = pixel => at(pixel).reduce((sum, n, i) => sum * shape[i] + n, 0);
  const whole = [spacing[0] * factors[1], spacing[1] * factors[0]], least = Math.min(...whole);
  const pixels = cut(place.voxels);
  return {
    axis, axes, size, cut, at, flat,
    name: volume ? `${volume.axes[axis]} ${index + 1} of ${shape[axis]}` : place.name,
    edges: volume?.edges[axis] ?? [],
    width: size[0] * whole[0],
    // Sides of a pixel, which is as wide and high as the voxels of a volume are apart.
    pixel: volume ? whole.map(side => side / least) : [1, 1],
    cross: volume && crossIn(axes, position),
    colour: canvasOf(pixels, size),
    grey: canvasOf(pixels, size, greyOut),
    paths: new Map(),
  };
}

const crossIn = (axes, position) => ({x: position[axes[1]], y: position[axes[0]]});

// The same plane, where the others meet it elsewhere.
const moved = (view, position) => ({...view, cross: crossIn(view.axes, position)});

function viewsOf(place, position) {
  return (place.volume ? [0, 1, 2] : [0]).map(axis => viewOf(place, axis, position));
}

// What there is to say of where a voxel or pixel is, in the image's own indices.
function whereIs(place, found) {
  const reduced = place.factors.some(factor => factor > 1);
  const mean = reduced ? ` (means of ${place.factors.join(" × ")} ${place.volume ? "voxels" : "pixels"})` : "";
  const whole = found.map((n, i) => place.origin[i] + n * place.factors[i]);
  if (!place.volume) return `Row ${whole[0]}, column ${whole[1]}${mean}`;
  const own = place.volume.own.map(({axis, size, back}) => back ? size - 1 - whole[axis] : whole[axis]);
  const {affine} = place.volume;
  const millimetres = affine?.slice(0, 3).map(row => row[3] + own.reduce((sum, n, i) => sum + row[i] * n, 0));
  const letters = ["R", "A", "S"];
  const mm = millimetres?.map((n, i) => `${letters[i]} ${n.toFixed(1).replace("-", "−")}`).join(", ");
  return `Voxel ${own.join(", ")}${mm ? ` · ${mm} mm` : ""}${mean}`;
}
