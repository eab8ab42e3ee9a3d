// COCO's run lengths, and how they are drawn: at the size at which they are seen.
"use strict";

function runLengths(counts) {
  const lengths = [];
  for (let at = 0; at < counts.length; ) {
    let number = 0, shift = 0, letter;
    do {
      letter = counts.charCodeAt(at++) - 48;
      number += (letter & 31) * 2 ** shift;
      shift += 5;
    } while (letter & 32);
    if (letter & 16) number -= 2 ** shift;
    if (lengths.length > 2) number += lengths[lengths.length - 2];
    lengths.push(number);
  }
  return lengths;
}

// Writes `value` where a mask of height x width pixels is, in `labels` of rows x columns.
function paint(labels, columns, rows, counts, height, width, value) {
  const first = (source, small, large) => Math.max(0, Math.ceil((source * small) / large - 0.5));
  let start = 0, inside = false;
  for (const length of runLengths(counts)) {
    const end = start + length;
    if (inside && length)
      for (let column = Math.floor(start / height); column * height < end; column++) {
        const left = first(column, columns, width), right = Math.min(columns, first(column + 1, columns, width));
        if (left >= right) continue;
        const top = first(Math.max(0, start - column * height), rows, height);
        const bottom = Math.min(rows, first(Math.min(height, end - column * height), rows, height));
        for (let y = top; y < bottom; y++) labels.fill(value, y * columns + left, y * columns + right);
      }
    start = end;
    inside = !inside;
  }
}

const ALPHA = 105, CHOSEN = 165, FAINT = 40;

// masks: [{counts, colour: [r, g, b], chosen}]; the chosen one, if there is one, stands out.
function drawMasks(canvas, masks, height, width, columns, rows) {
  canvas.width = columns;
  canvas.height = rows;
  const labels = new Uint16Array(columns * rows);
  masks.forEach((mask, number) => paint(labels, columns, rows, mask.counts, height, width, number + 1));
  const anyChosen = masks.some((mask) => mask.chosen);
  const context = canvas.getContext("2d"), drawn = context.createImageData(columns, rows), pixels = drawn.data;
  for (let y = 0, at = 0; y < rows; y++)
    for (let x = 0; x < columns; x++, at++) {
      const label = labels[at];
      if (!label) continue;
      const mask = masks[label - 1];
      const edge = (x && labels[at - 1] !== label) || (x < columns - 1 && labels[at + 1] !== label) ||
        (y && labels[at - columns] !== label) || (y < rows - 1 && labels[at + columns] !== label);
      pixels.set(mask.colour, 4 * at);
      pixels[4 * at + 3] = edge ? (anyChosen && !mask.chosen ? 120 : 255) : mask.chosen ? CHOSEN : anyChosen ? FAINT : ALPHA;
    }
  context.putImageData(drawn, 0, 0);
}
