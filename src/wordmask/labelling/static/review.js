// A person's verdicts on labelled pictures. Data come by scripts beside the page, as a page from a file can fetch none.
"use strict";

const ROW = 72, SPARE_ROWS = 4, CHUNKS_KEPT = 24, MOST_CANVAS = 2400;
const $ = (id) => document.getElementById(id);
const api = document.documentElement.dataset.api;
const [plain, over, canvas] = [$("plain").querySelector("img"), $("over").querySelector("img"), $("over").querySelector("canvas")];

let about = null; // of the review
let pictures = []; // in the order in which they teach most
let shown = []; // numbers of pictures, filtered and ordered
let at = 0; // place in `shown`
let chosen = null; // number of a mask
let hidden = new Set(), overlay = true, zoom = 1;
const undos = [], files = new Map(), chunks = new Map(), waiting = new Map(), rows = new Map();
let saveHandle = null, storageFails = false;

window.wordmaskReview = {
  index(told) {
    about = told;
    pictures = told.pictures.map(([path, url, fingerprint, height, width, unsure, place, digest, masks], number) => (
      { number, path, url, fingerprint, height, width, unsure, place, digest, masks, said: null, saved: true }));
  },
  masks(number, told) {
    chunks.set(number, told);
    for (const use of waiting.get(number) ?? []) use(told);
    waiting.delete(number);
  },
};

function load(address) {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => { script.remove(); done(); };
    script.onerror = () => failed(new Error(`${address} cannot be read`));
    document.head.append(script);
  });
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// Run lengths of a picture's masks.
async function countsOf(picture) {
  const number = Math.floor(picture.number / about.together);
  let chunk = chunks.get(number);
  if (!chunk) {
    const arrived = new Promise((use) => waiting.set(number, [...(waiting.get(number) ?? []), use]));
    if (waiting.get(number).length === 1)
      load(`review/masks-${String(number).padStart(5, "0")}.js`).catch((error) => notice(error.message));
    chunk = await arrived;
    for (const old of chunks.keys()) if (chunks.size > CHUNKS_KEPT && old !== number) chunks.delete(old);
  }
  const [digest, counts] = chunk[picture.number % about.together];
  if (digest !== picture.digest) {
    notice("The labels have been made anew: load this page again.");
    return [];
  }
  return counts;
}

// What is said: {v: verdict, m: [[verdict, new name], ...]}, an entry a mask; null for nothing yet.

const blank = (picture) => ({ v: null, m: picture.masks.map(() => [null, null]) });
const said = (picture) => picture.said ?? blank(picture);
const saysNothing = (told) => !told.v && told.m.every(([verdict, name]) => !verdict && !name);
const nameOf = (picture, number) => said(picture).m[number][1] ?? about.names[picture.masks[number][0]][0];
const kind = (picture) => (picture.said ? picture.said.v ?? "part" : "none");

function keyOf(picture) {
  return `wordmask-review:${about.id}:${picture.fingerprint}`;
}

function keep(picture) {
  if (api) return send(picture);
  try {
    if (picture.said) localStorage.setItem(keyOf(picture), JSON.stringify({ ...picture.said, d: picture.digest, s: picture.saved }));
    else if (picture.saved) localStorage.removeItem(keyOf(picture));
    else localStorage.setItem(keyOf(picture), JSON.stringify({ v: null, m: [], d: picture.digest, s: false }));
  } catch {
    storageFails = true;
    notice("This browser keeps nothing for this page: save the corrections before you leave it.");
  }
}

function recall() {
  const byKey = new Map(pictures.map((picture) => [keyOf(picture), picture]));
  let older = 0;
  for (const picture of pictures) if (about.verdicts[picture.fingerprint]) picture.said = about.verdicts[picture.fingerprint];
  if (api) return;
  try {
    for (let place = 0; place < localStorage.length; place++) {
      const picture = byKey.get(localStorage.key(place));
      if (!picture) continue;
      const kept = JSON.parse(localStorage.getItem(localStorage.key(place)));
      if (kept.s && picture.said) continue; // what was saved since holds
      const { d, s, ...told } = kept;
      if (told.m.length && (d !== picture.digest || told.m.length !== picture.masks.length)) {
        older++;
        if (told.v !== "rejected") continue;
        told.m = blank(picture).m;
      }
      if (!told.m.length) told.m = blank(picture).m;
      picture.said = saysNothing(told) ? null : told;
      picture.saved = s;
    }
  } catch {
    storageFails = true;
  }
  if (older) notice(`${older} pictures have other masks since you judged them: look at them again.`);
}

function say(picture, told) {
  undos.push([picture, picture.said]);
  put(picture, told);
}

function put(picture, told) {
  picture.said = told && !saysNothing(told) ? told : null;
  picture.saved = false;
  keep(picture);
  if (rows.has(picture.number)) tell(picture, rows.get(picture.number));
  if (picture === current()) showState();
  showProgress();
}

const copyOf = (picture) => structuredClone(said(picture));
const current = () => pictures[shown[at]];

// The file.

async function entryOf(picture) {
  const told = said(picture), counts = picture.masks.length ? await countsOf(picture) : [];
  const masks = counts.map((code, number) => {
    const own = about.names[picture.masks[number][0]][0], [verdict, name] = told.m[number];
    return { name: name ?? own, ...(name && name !== own ? { was: own } : {}), verdict, counts: code };
  });
  const { path, fingerprint, height, width } = picture;
  return { picture: path, fingerprint, size: [height, width], verdict: told.v, masks };
}

async function save() {
  if (api) return notice("Every verdict is in corrections.json already.");
  const judged = pictures.filter((picture) => picture.said), entries = [];
  for (const picture of judged) entries.push(await entryOf(picture));
  entries.push(...about.elsewhere); // of pictures that are not in this review
  const lines = entries.map((entry) => JSON.stringify(entry)).join(",\n");
  const blob = new Blob([`{"format": "wordmask corrections", "version": 1, "pictures": [\n${lines}\n]}\n`], { type: "application/json" });
  if (window.showSaveFilePicker) {
    try {
      saveHandle ??= await showSaveFilePicker({ suggestedName: "corrections.json", id: "wordmask" });
      const file = await saveHandle.createWritable();
      await file.write(blob);
      await file.close();
    } catch (error) {
      saveHandle = null;
      if (error.name !== "AbortError") notice(`Not saved: ${error.message}`);
      return;
    }
  } else {
    const link = document.createElement("a");
    [link.href, link.download] = [URL.createObjectURL(blob), "corrections.json"];
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  for (const picture of pictures)
    if (!picture.saved) {
      picture.saved = true;
      keep(picture);
    }
  showProgress();
  notice(`${judged.length} pictures saved. Lay corrections.json beside review.html, and run the same \`wordmask label\` again.`);
}

async function open(file) {
  let told;
  try {
    told = JSON.parse(await file.text());
    if (told.format !== "wordmask corrections" || told.version !== 1) throw new Error("it is no such file");
  } catch (error) {
    return notice(`${file.name} holds no corrections: ${error.message}`);
  }
  const entries = new Map(told.pictures.map((entry) => [entry.fingerprint, entry]));
  let taken = 0;
  for (const picture of pictures) {
    const entry = entries.get(picture.fingerprint);
    if (!entry) continue;
    const counts = picture.masks.length ? await countsOf(picture) : [];
    const verdicts = new Map(entry.masks.map((mask) => [mask.counts, mask]));
    if (entry.masks.some((mask) => !counts.includes(mask.counts))) continue; // mended elsewhere: `label` reads those
    say(picture, { v: entry.verdict, m: counts.map((code) => {
      const mask = verdicts.get(code);
      return mask ? [mask.verdict, mask.was ? mask.name : null] : [null, null];
    }) });
    taken++;
  }
  notice(`${taken} of ${told.pictures.length} pictures taken from ${file.name}` +
    (taken < told.pictures.length ? "; the others have masks that are not here: lay the file beside review.html, and run `wordmask label` again" : ""));
}

// A service keeps them: one request after the other, the last of a picture.
const unsent = new Map();
let sending = false;

async function send(picture) {
  unsent.set(picture.fingerprint, picture);
  if (sending) return;
  sending = true;
  while (unsent.size) {
    const [fingerprint, own] = unsent.entries().next().value;
    unsent.delete(fingerprint);
    try {
      const answer = await fetch(`${api}/${fingerprint}`, {
        method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(await entryOf(own)) });
      if (!answer.ok) throw new Error((await answer.json()).error?.reason ?? answer.status);
      own.saved = true;
      notice("");
    } catch (error) {
      unsent.set(fingerprint, own);
      notice(`Not saved yet: ${error.message}. It is tried again.`);
      await new Promise((done) => setTimeout(done, 2000));
    }
    showProgress();
  }
  sending = false;
}

// The list.

function addressOf(picture) {
  const file = files.get(picture.path);
  if (file) return URL.createObjectURL(file);
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
  $("count").textContent = `${shown.length.toLocaleString("en")} of ${pictures.length.toLocaleString("en")} pictures`;
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
    .filter(({ number }) => all || !hidden.has(number));
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
  const fits = Math.min(innerWidth / picture.width, innerHeight / picture.height);
  over.style.width = enlarged ? `${picture.width * fits * zoom}px` : "";
  draw();
}

function showState() {
  const picture = current(), verdict = kind(picture);
  $("state").className = verdict;
  $("state").textContent = { none: "no verdict yet", part: "single masks judged" }[verdict] ?? verdict;
  $("masks").replaceChildren(...picture.masks.map(([, score], number) => maskLine(picture, number, score)));
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

// Keys.

function judgeMask(change) {
  const picture = current();
  if (chosen === null && picture.masks.length === 1) chosen = 0;
  if (chosen === null) return notice(picture.masks.length ? "Choose a mask first: 1 to 9, or [ and ]." : "There is no mask here.");
  notice("");
  const told = copyOf(picture);
  change(told.m[chosen]);
  say(picture, told);
}

function rename() {
  const picture = current();
  if (chosen === null && picture.masks.length === 1) chosen = 0;
  if (chosen === null) return notice("Choose a mask first: 1 to 9, or [ and ].");
  const names = new Set(about.names.map(([name]) => name));
  for (const each of pictures) for (const [, name] of each.said?.m ?? []) if (name) names.add(name);
  $("names").replaceChildren(...[...names].map((name) => new Option(name, name)));
  $("asked").textContent = `New name of mask ${chosen + 1}, ${nameOf(picture, chosen)}`;
  $("to").value = "";
  $("rename").showModal();
}

$("rename").addEventListener("close", () => {
  const name = $("to").value.normalize("NFC").trim().replace(/\s+/g, " ");
  if ($("rename").returnValue !== "yes" || !name) return;
  $("rename").returnValue = "";
  if (name.toLowerCase() === "background") return notice("Background is no name of a mask: drop it instead (d).");
  judgeMask((mask) => {
    mask[1] = name === about.names[current().masks[chosen][0]][0] ? null : name;
    mask[0] = "accepted";
  });
});
$("never").onclick = () => $("rename").close("no");

function judge(verdict) {
  say(current(), { ...copyOf(current()), v: verdict });
  if (verdict) go(at + 1);
}

const KEYS = {
  j: () => go(at + 1), k: () => go(at - 1), ArrowDown: () => go(at + 1), ArrowUp: () => go(at - 1),
  a: () => judge("accepted"), r: () => judge("rejected"), c: () => say(current(), null),
  u() {
    const last = undos.pop();
    if (!last) return notice("There is nothing to undo.");
    put(...last);
    if (shown.includes(last[0].number)) go(shown.indexOf(last[0].number));
  },
  y: () => judgeMask((mask) => (mask[0] = mask[0] === "accepted" ? null : "accepted")),
  d: () => judgeMask((mask) => (mask[0] = mask[0] === "rejected" ? null : "rejected")),
  n: rename,
  h() {
    if (chosen === null) return;
    if (!hidden.delete(chosen)) hidden.add(chosen);
    showState();
  },
  "[": () => choose(chosen === null ? current().masks.length - 1 : chosen - 1),
  "]": () => choose(chosen === null ? 0 : chosen + 1),
  o() {
    overlay = !overlay;
    $("overlay").setAttribute("aria-pressed", overlay);
    draw();
  },
  e() {
    $("enlarge").setAttribute("aria-pressed", document.body.classList.toggle("enlarged"));
    zoom = 1;
    resize();
  },
  "+"() { zoom = Math.min(8, zoom * 1.5); resize(); }, "-"() { zoom = Math.max(1, zoom / 1.5); resize(); },
  g() {
    $("order").selectedIndex = ($("order").selectedIndex + 1) % $("order").length;
    select();
  },
  s: save,
  "/": () => $("name").focus(),
  "?"() {
    $("help").hidden = !$("help").hidden;
    $("keys").setAttribute("aria-expanded", !$("help").hidden);
    showRows();
  },
  Escape() {
    if (chosen !== null) return choose(chosen);
    if (document.body.classList.contains("enlarged")) KEYS.e();
  },
};
KEYS["="] = KEYS["+"];

function press(key) {
  if (!current() && !"gs/?".includes(key)) return;
  if (/^[1-9]$/.test(key)) choose(Number(key) - 1);
  else KEYS[key]?.();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.key === "s") {
    event.preventDefault();
    return save();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || $("rename").open) return;
  const typing = event.target.matches("input, select");
  if (typing) {
    if (event.key === "Escape") $("list").focus();
    return;
  }
  if (!(/^[1-9]$/.test(event.key) || event.key in KEYS)) return;
  event.preventDefault();
  press(event.key);
});

async function begin() {
  try {
    await load("review/index.js");
  } catch {
    return notice("review/index.js is not beside this page: keep review.html and the folder review together.");
  }
  if (about.version !== 1) return notice("This page and its data are of different versions: run `wordmask label` again.");
  if (api) about.folder = "pictures/";
  recall();
  for (const [name] of about.names) $("name").add(new Option(name, name));
  $("rule").textContent = about.rule;
  for (const button of document.querySelectorAll("[data-key]")) button.onclick = () => press(button.dataset.key);
  for (const id of ["order", "name", "verdict"]) $(id).onchange = select;
  for (const id of ["score", "path"]) $(id).oninput = select;
  $("save").onclick = save;
  $("keys").onclick = () => press("?");
  $("open").onchange = () => $("open").files[0] && open($("open").files[0]);
  $("list").addEventListener("scroll", () => requestAnimationFrame(showRows), { passive: true });
  addEventListener("resize", () => { showRows(); resize(); });
  over.onload = () => { $("lost").hidden = true; draw(); };
  over.onerror = () => ($("lost").hidden = false);
  $("folder").onchange = () => {
    for (const file of $("folder").files) files.set(file.webkitRelativePath.split("/").slice(1).join("/"), file);
    select();
  };
  addEventListener("beforeunload", (event) => {
    if (unsent.size || (storageFails && pictures.some((picture) => !picture.saved))) event.preventDefault();
  });
  if (api) $("save").hidden = true;
  if (matchMedia("(max-width: 760px)").matches) press("?");
  showProgress();
  select();
  $("list").focus();
  document.documentElement.dataset.ready = Math.round(performance.now());
}

begin();
