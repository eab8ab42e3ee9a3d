// A person's verdicts on labelled pictures. Data come by scripts beside the page, as a page from a file can fetch none.
"use strict";

const ROW = 72, SPARE_ROWS = 4, CHUNKS_KEPT = 24, MOST_CANVAS = 2400, HIGH = 0.5, MOST_ENLARGED = 4;
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

const counted = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

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
  return `wordmask-review:${location.pathname}:${picture.fingerprint}`; // pages from files share what the browser keeps
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
  if (older) notice(`Look again at ${counted(older, "picture")} with other masks than you judged.`);
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
  if (counts.length < told.m.length) throw new Error("the labels have been made anew; load this page again");
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
  try {
    for (const picture of judged) entries.push(await entryOf(picture));
  } catch (error) {
    return notice(`Not saved: ${error.message}.`);
  }
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
  notice(`${counted(judged.length, "picture")} saved. Lay corrections.json beside review.html, and run the same \`wordmask label\` again.`);
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
  notice(`${taken} of ${counted(told.pictures.length, "picture")} taken from ${file.name}` +
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
