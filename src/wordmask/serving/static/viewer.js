// The picture under the colours of its names. Everything after an answer happens here: names under the pointer, names
// switched on and off, opacity. asking.js says what there is to show.
window.wordmaskViewer = (() => {
  const off = new Set(["background"]);
  const EMPTY = "Drop or paste a picture", OR_EXAMPLE = ", or take one of the examples below";
  let picture = null, token = "", panels = [], opacity = 0.55, lit = null, told = {}, latest = 0, clock = null;

  const element = (kind, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(kind), properties);
    made.append(...children);
    return made;
  };

  const load = (source) => new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = source;
  });

  // A palette PNG as the number of a name for every pixel: no two names have one colour.
  const labelsOf = async (panel) => {
    const image = await load(panel.png);
    const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    const numbers = new Map(panel.names.map(({ colour: [r, g, b] }, i) => [(r << 16) | (g << 8) | b, i]));
    const labels = new Uint16Array(canvas.width * canvas.height);
    for (let i = 0; i < labels.length; i++)
      labels[i] = numbers.get((pixels[4 * i] << 16) | (pixels[4 * i + 1] << 8) | pixels[4 * i + 2]) ?? 0;
    return { ...panel, labels, width: canvas.width, height: canvas.height };
  };

  const draw = (panel) => {
    const { canvas, labels, width, height, names } = panel;
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0, width, height);
    const cover = new ImageData(width, height), data = cover.data;
    const colours = names.map(({ name }) => colourOf(name));
    const alphas = names.map(({ name }) => off.has(name) ? 0 : lit === null || lit === name ? 255 * opacity : 30 * opacity);
    for (let i = 0, y = 0; y < height; y++) for (let x = 0; x < width; x++, i++) {
      const label = labels[i];
      if (!alphas[label]) continue;
      const edge = (x + 1 < width && labels[i + 1] !== label) || (y + 1 < height && labels[i + width] !== label)
        || (x && labels[i - 1] !== label) || (y && labels[i - width] !== label);
      const [r, g, b] = colours[label];
      data[4 * i] = r; data[4 * i + 1] = g; data[4 * i + 2] = b;
      data[4 * i + 3] = edge && opacity ? Math.max(alphas[label], 210) : alphas[label];
    }
    const layer = element("canvas", { width, height });
    layer.getContext("2d").putImageData(cover, 0, 0);
    pen.drawImage(layer, 0, 0);
  };
  const drawAll = () => panels.forEach(draw);

  const nameAt = (panel, x, y) => {
    if (x < 0 || y < 0 || x >= panel.width || y >= panel.height) return null;
    return panel.names[panel.labels[Math.floor(y) * panel.width + Math.floor(x)]].name;
  };

  // So that all of it is seen.
  const broadest = (width, height) => `calc(72vh * ${width / height})`;

  // Pointing: the mouse, a finger, or the arrow keys with a cross.
  const stageOf = (panel, status) => {
    const canvas = panel.canvas = element("canvas", { width: panel.width, height: panel.height, tabIndex: 0 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Picture with its names, ${panel.method}; arrow keys point`);
    const tip = element("span", { className: "tip", hidden: true });
    const cross = element("span", { className: "cross", hidden: true });
    let at = [panel.width / 2, panel.height / 2];
    const point = (x, y, spoken) => {
      const name = nameAt(panel, x, y), scale = canvas.clientWidth / panel.width;
      tip.hidden = name === null;
      if (name === null) return;
      tip.textContent = name;
      const room = tip.offsetWidth / 2;
      tip.style.left = `${Math.min(Math.max(x * scale, room), Math.max(canvas.clientWidth - room, room))}px`;
      tip.style.top = `${Math.max(y * scale, 38)}px`;
      if (spoken) status.textContent = name;
    };
    const leave = () => { tip.hidden = cross.hidden = true; };
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      cross.hidden = true;
      point((event.clientX - box.left) / box.width * panel.width, (event.clientY - box.top) / box.height * panel.height);
    });
    canvas.addEventListener("pointerdown", (event) => canvas.dispatchEvent(new PointerEvent("pointermove", event)));
    canvas.addEventListener("pointerleave", leave);
    canvas.addEventListener("blur", leave);
    canvas.addEventListener("keydown", (event) => {
      const step = (event.shiftKey ? 0.1 : 0.02) * Math.max(panel.width, panel.height);
      const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (!move) return;
      event.preventDefault();
      at = [Math.min(Math.max(at[0] + move[0], 0), panel.width - 1), Math.min(Math.max(at[1] + move[1], 0), panel.height - 1)];
      const scale = canvas.clientWidth / panel.width;
      cross.hidden = false;
      cross.style.left = `${at[0] * scale}px`;
      cross.style.top = `${at[1] * scale}px`;
      point(...at, true);
    });
    const stage = element("div", { className: "stage" }, canvas, tip, cross);
    stage.style.maxWidth = broadest(panel.width, panel.height);
    return stage;
  };

  // Methods may know other names, but a name has one colour on the page.
  const colourOf = (name) => panels.flatMap((panel) => panel.names).find((own) => own.name === name).colour;
  const percent = (share) => share >= 0.01 ? `${Math.round(100 * share)}%` : share ? "<1%" : "none";

  const legend = () => {
    const group = element("div", { className: "legend" });
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Names: press to switch one on or off");
    for (const name of new Set(panels.flatMap((panel) => panel.names.map((own) => own.name)))) {
      const swatch = element("i");
      swatch.style.background = `rgb(${colourOf(name)})`;
      const shares = panels.map((panel) => panel.names.find((own) => own.name === name)?.share);
      const textContent = shares.map((share) => share === undefined ? "\u2013" : percent(share)).join(" \u00b7 ");
      const button = element("button", { type: "button" }, swatch, name, element("small", { textContent }));
      button.dataset.name = name;
      button.setAttribute("aria-pressed", !off.has(name));
      button.addEventListener("click", () => {
        if (!off.delete(name)) off.add(name);
        button.setAttribute("aria-pressed", !off.has(name));
        drawAll();
      });
      const light = (which) => () => { if (!off.has(name) || which === null) { lit = which; drawAll(); } };
      button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") light(name)(); });
      button.addEventListener("pointerleave", light(null));
      group.append(button);
    }
    return group;
  };

  const tools = (status) => {
    const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: opacity });
    slider.addEventListener("input", () => { opacity = Number(slider.value); drawAll(); });
    const row = element("div", { className: "tools" }, element("label", {}, "Opacity", slider));
    panels.forEach((panel, i) => {
      const of = panels.length > 1 ? ` (${panel.method})` : "";
      row.append(
        element("a", { href: panel.png, download: "wordmask.png", textContent: `PNG${of}`, title: "Label map with the names inside" }),
        element("a", { href: `page/${token}/coco.json?panel=${i}`, download: "wordmask.json", textContent: `COCO${of}` }),
      );
    });
    row.append(status);
    return row;
  };

  const notes = () => [told.note, ...panels.map((panel) => panel.note)].filter(Boolean)
    .map((note) => element("p", { className: "note", textContent: note }));

  const alarm = () => {
    const box = element("div", { className: "error" }, element("span", { textContent: told.error[0].toUpperCase() + told.error.slice(1) }));
    box.setAttribute("role", "alert");
    if (told.again) {
      const button = element("button", { type: "button", textContent: "Try again" });
      button.addEventListener("click", told.again);
      box.append(button);
    }
    return box;
  };

  const bare = () => {
    const image = element("img", { src: picture.src, alt: "The picture" });
    image.style.maxWidth = broadest(picture.naturalWidth, picture.naturalHeight);
    return element("div", { className: "panels" }, element("figure", { className: "bare" }, image));
  };

  const render = () => {
    const root = document.getElementById("wm-viewer");
    if (!root) return;
    const text = told.hint ?? (told.milliseconds === undefined ? "" : `${told.milliseconds} ms`);
    const status = element("span", { className: "status", textContent: text });
    status.setAttribute("role", "status");
    const open = document.activeElement?.dataset?.name;
    const parts = told.error ? [alarm()] : [];
    const empty = `${EMPTY}${root.dataset.examples === "0" ? "" : OR_EXAMPLE}.`;
    if (!picture && !told.error) parts.push(element("div", { className: "empty", role: "status", textContent: empty }));
    else if (picture && !panels.length) parts.push(bare(), status);
    else if (picture) {
      const figures = panels.map((panel) =>
        element("figure", {}, element("figcaption", { textContent: panel.method }), stageOf(panel, status)));
      parts.push(element("div", { className: "panels" }, ...figures), ...notes(), legend(), tools(status));
    }
    root.replaceChildren(...parts);
    if (open) [...root.querySelectorAll("button")].find((button) => button.dataset.name === open)?.focus();
    drawAll();
  };

  // A sign of work, over whatever is there; seconds are counted when there are some.
  const looking = () => {
    const root = document.getElementById("wm-viewer");
    if (!root || root.querySelector(".looking")) return;
    const text = element("span", { textContent: "Looking\u2026" });
    const sign = element("div", { className: "looking" }, element("i"), text);
    sign.setAttribute("role", "status");
    root.append(sign);
    root.setAttribute("aria-busy", "true");
    const start = Date.now();
    clock = setInterval(() => {
      const seconds = Math.floor((Date.now() - start) / 1000);
      if (seconds > 1) text.textContent = `Looking\u2026 ${seconds} s`;
    }, 500);
  };
  const done = () => {
    clearInterval(clock);
    const root = document.getElementById("wm-viewer");
    root?.querySelector(".looking")?.remove();
    root?.removeAttribute("aria-busy");
  };

  // Another picture has been chosen: what was found in the one before goes at once.
  const begin = async (source) => {
    const turn = ++latest;
    const root = document.getElementById("wm-viewer");
    [picture, panels, told, lit] = [null, [], {}, null];
    done();
    root.replaceChildren();
    const chosen = await load(source).catch(() => null);
    if (turn !== latest || !chosen) return;
    picture = chosen;
    const sign = root.querySelector(".looking");
    render();
    if (sign) root.append(sign);
    root.scrollIntoView({ block: "nearest" });  // on a phone it is above the examples
  };

  const show = async (answer, of) => {
    const turn = ++latest;
    const [shown, labelled] = await Promise.all([
      answer.picture ? load(answer.picture) : picture, Promise.all((answer.panels ?? []).map(labelsOf))]);
    if (turn !== latest) return;
    [picture, panels, told, token, lit] = [shown, labelled, answer, of, null];
    done();
    render();
  };

  const clear = () => {
    latest++;
    [picture, panels, told, token, lit] = [null, [], {}, "", null];
    done();
    render();
  };

  const start = setInterval(() => {
    if (document.getElementById("wm-viewer")) { clearInterval(start); render(); }
  }, 50);
  return { begin, looking, show, clear, isShown: (of) => token === of && picture !== null };
})();
