// What a person does: every key has a button, and every button a key.
"use strict";

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
  $("over").onclick = () => document.body.classList.contains("enlarged") && press("e");
  over.onload = () => { $("lost").hidden = true; draw(); };
  over.onerror = () => ($("lost").hidden = false);
  $("folder").onchange = () => {
    for (const file of $("folder").files) files.set(file.webkitRelativePath.split("/").slice(1).join("/"), URL.createObjectURL(file));
    select();
  };
  addEventListener("beforeunload", (event) => {
    if (unsent.size || (storageFails && pictures.some((picture) => !picture.saved))) event.preventDefault();
  });
  if (api) $("save").hidden = true;
  if (matchMedia("(max-width: 760px)").matches) press("?");
  showProgress();
  select();
  $("list").focus({ preventScroll: true }); // on a phone it is below the picture
  document.documentElement.dataset.ready = Math.round(performance.now());
}

begin();
