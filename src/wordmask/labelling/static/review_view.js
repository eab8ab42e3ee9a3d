// What is seen of it: the list of pictures, and the one that is looked at.
"use strict";

// The list.

function addressOf(picture) {
  if (files.has(picture.path)) return files.get(picture.path);
  if (picture.url?.startsWith("review/")) return picture.url;
  return about.folder + (picture.url ?? picture.path.split("/").map(encodeURIComponent).join("/"));
}

function leastScore(picture) {
  const scores = picture.masks.map((mask) => mask[1]).filter((score) => score !== null);
  return scores.length ? Math.min(...scores) : 1 - picture.unsure;
}

function select() {
  const before = current(), [name, verdict, path] = ["name", "verdict", "path"].map((id) => $(id).value);
  const most = $("score").value === "" ? Infinity : Number($("score").value);
  shown = pictures.filter((picture) =>
    (!name || picture.masks.some((_, number) => nameOf(picture, number) === name)) &&
    (!verdict || kind(picture) === verdict) && leastScore(picture) <= most && picture.path.includes(path)).map((each) => each.number);
  const place = (number) => pictures[number].place;
  const first = (number) => pictures[number].masks.map((_, mask) => nameOf(pictures[number], mask)).sort()[0] ?? "\uffff";
  if ($("order").value === "file") shown.sort((a, b) => place(a) - place(b));
  if ($("order").value === "name") {
    const names = new Map(shown.map((number) => [number, first(number)]));
    shown.sort((a, b) => (names.get(a) < names.get(b) ? -1 : names.get(a) > names.get(b) ? 1 : place(a) - place(b)));
  }
  at = Math.max(0, before ? shown.indexOf(before.number) : 0);
  $("rows").style.height = `${ROW * shown.length}px`;
  $("count").textContent = `${shown.length.toLocaleString("en")} of ${counted(pictures.length, "picture")}`;
  rows.clear();
  $("rows").replaceChildren();
  go(at);
}

function showRows() {
  const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE_ROWS);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE_ROWS);
  const wanted = new Set(shown.slice(first, last));
  for (const [number, row] of rows)
    if (!wanted.has(number)) {
      row.remove();
      rows.delete(number);
    }
  for (let place = first; place < last; place++) {
    const picture = pictures[shown[place]];
    if (!rows.has(picture.number)) rows.set(picture.number, newRow(picture, place));
    rows.get(picture.number).setAttribute("aria-selected", place === at);
  }
  if (current()) list.setAttribute("aria-activedescendant", `row${current().number}`);
}

function newRow(picture, place) {
  const row = document.createElement("div");
  row.className = "row";
  row.id = `row${picture.number}`;
  row.style.top = `${ROW * place}px`;
  for (const [key, value] of [["role", "option"], ["aria-posinset", place + 1], ["aria-setsize", shown.length]]) row.setAttribute(key, value);
  row.innerHTML = '<span class="thumb"><img alt="" decoding="async"><canvas></canvas></span><span><span class="path"></span><br><span class="said"></span></span>';
  const image = row.querySelector("img");
  image.onload = async () => {
    const masks = await drawn(picture), small = row.querySelector("canvas");
    if (row.isConnected) drawMasks(small, masks, picture.height, picture.width, image.width, image.height);
  };
  image.src = addressOf(picture);
  row.querySelector(".path").textContent = picture.path;
  row.onclick = () => go(place);
  tell(picture, row);
  $("rows").append(row);
  return row;
}

function tell(picture, row) {
  const text = row.querySelector(".said"), verdict = kind(picture);
  text.className = `said ${verdict}`;
  const names = [...new Set(picture.masks.map((_, number) => nameOf(picture, number)))].join(", ") || "no masks";
  text.textContent = verdict === "none" ? names : verdict === "part" ? "single masks" : verdict;
}

// The picture.

function colourOf(name) {
  const known = about.names.find(([own]) => own === name);
  if (known) return [1, 3, 5].map((place) => parseInt(known[1].slice(place, place + 2), 16));
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return [0, 8, 16].map((shift) => 70 + (((hash >>> shift) & 255) * 185) / 255);
}

async function drawn(picture, { all = true } = {}) {
  const counts = await countsOf(picture), told = said(picture);
  return counts.map((code, number) => ({ counts: code, number, colour: colourOf(nameOf(picture, number)), chosen: !all && number === chosen }))
    .filter(({ number }) => told.m[number][0] !== "rejected" || (!all && number === chosen))
    .filter(({ number }) => all || !hidden.has(number))
    .sort((a, b) => a.chosen - b.chosen); // the chosen one over the others
}

async function draw() {
  const picture = current();
  if (!picture || !over.clientWidth) return;
  const masks = overlay ? await drawn(picture, { all: false }) : [];
  if (picture !== current()) return;
  const scale = Math.min(1, MOST_CANVAS / Math.max(over.clientWidth, over.clientHeight));
  const sharp = Math.min(devicePixelRatio || 1, 2) * scale;
  drawMasks(canvas, masks, picture.height, picture.width, Math.max(1, Math.round(over.clientWidth * sharp)), Math.max(1, Math.round(over.clientHeight * sharp)));
  canvas.dataset.drawn = `${picture.number}:${chosen}:${masks.length}`;
}

function go(place) {
  at = Math.max(0, Math.min(shown.length - 1, place));
  [chosen, hidden, zoom] = [null, new Set(), 1];
  const list = $("list");
  if (ROW * at < list.scrollTop) list.scrollTop = ROW * at;
  else if (ROW * (at + 1) > list.scrollTop + list.clientHeight) list.scrollTop = ROW * (at + 1) - list.clientHeight;
  showRows();
  const picture = current();
  $("stage").hidden = !picture;
  if (!picture) return;
  $("where").textContent = picture.path;
  canvas.width = canvas.width; // nothing of the one before
  for (const image of [plain, over]) {
    image.alt = `${picture.path}: ${image === plain ? "original" : "with masks"}`;
    image.src = addressOf(picture);
  }
  resize();
  showState();
}

function resize() {
  const enlarged = document.body.classList.contains("enlarged"), picture = current();
  if (!picture) return;
  const [width, height] = enlarged ? [innerWidth, innerHeight] : [$("over").clientWidth, HIGH * innerHeight];
  const fits = Math.min(width / picture.width, height / picture.height, enlarged ? Infinity : MOST_ENLARGED);
  plain.style.width = over.style.width = `${Math.floor(picture.width * fits * zoom)}px`;
  draw();
}

function showState() {
  const picture = current(), verdict = kind(picture);
  $("state").className = verdict;
  $("state").textContent = { none: "no verdict yet", part: "single masks judged" }[verdict] ?? verdict;
  $("masks").replaceChildren(...picture.masks.map(([, score], number) => maskLine(picture, number, score)));
  $("masks").querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
  draw();
}

function maskLine(picture, number, score) {
  const line = document.createElement("li"), [verdict, name] = said(picture).m[number];
  line.className = [number === chosen && "chosen", verdict === "rejected" && "dropped", hidden.has(number) && "hid"].filter(Boolean).join(" ");
  const pick = document.createElement("button"), dot = document.createElement("span");
  dot.className = "dot";
  dot.style.background = `rgb(${colourOf(nameOf(picture, number))})`;
  pick.className = "pick";
  pick.type = "button";
  pick.setAttribute("aria-pressed", number === chosen);
  const was = name ? ` (was ${about.names[picture.masks[number][0]][0]})` : "";
  const mark = { accepted: " ✓ right", rejected: " ✗ dropped" }[verdict] ?? "";
  pick.textContent = `${number + 1}  ${nameOf(picture, number)}${was}${score === null ? "" : ` ${score.toFixed(2)}`}${mark}`;
  pick.onclick = () => choose(number);
  line.append(dot, pick);
  if (number === chosen)
    for (const [key, text] of [["y", "Right"], ["d", "Drop"], ["n", "Rename"], ["h", "Hide"]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = `${text} <kbd>${key}</kbd>`;
      button.onclick = () => press(key);
      line.append(button);
    }
  return line;
}

function choose(number) {
  const count = current().masks.length;
  if (number !== null && (number < 0 || number >= count)) return;
  chosen = number === chosen ? null : number;
  showState();
}

function showProgress() {
  const counts = { accepted: 0, rejected: 0, part: 0, none: 0 };
  for (const picture of pictures) counts[kind(picture)]++;
  const looked = pictures.length - counts.none, unsaved = pictures.filter((picture) => !picture.saved).length;
  $("done").max = pictures.length || 1;
  $("done").value = looked;
  $("progress").textContent = `${looked} of ${pictures.length} judged: ${counts.accepted} accepted, ${counts.rejected} rejected` +
    (counts.part ? `, ${counts.part} in part` : "") + (unsaved ? `; ${unsaved} not saved` : "");
}
