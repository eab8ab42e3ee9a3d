// The form on /docs: what curl sends, sent from here. `tried` says what to begin with.
const form = document.getElementById("try");
const field = (name) => form.elements.namedItem(name);
field("names").value = tried.names;
field("method").append(...tried.methods.map((method) => new Option(method)));
form.querySelector(".key").hidden = !tried.hasKey;
form.querySelector(".hint").hidden = !tried.picture;
field("image").required = !tried.picture;

// Run lengths are long; their beginning will do here.
const shortened = (key, value) => key === "counts" && value.length > 40 ? `${value.slice(0, 40)}...` : value;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = form.querySelector(".told"), shown = form.querySelector(".shown"), button = form.querySelector("button");
  button.disabled = true;
  told.textContent = "Asking\u2026";
  shown.replaceChildren();
  try {
    const picture = field("image").files[0] ?? await (await fetch(tried.picture)).blob();
    const sent = new FormData();
    sent.append("image", picture, "photo");
    if (field("names").value.trim()) sent.append("names", field("names").value);
    for (const name of ["method", "format"]) sent.append(name, field(name).value);
    const headers = field("key").value ? { Authorization: `Bearer ${field("key").value}` } : {};
    const start = performance.now();
    const response = await fetch("v1/segment", { method: "POST", body: sent, headers });
    const milliseconds = Math.round(performance.now() - start);
    const isPicture = response.headers.get("content-type") === "image/png";
    const content = isPicture ? await response.blob() : await response.json();
    told.textContent = `Status ${response.status}, ${milliseconds} ms`;
    const result = document.createElement(isPicture ? "img" : "pre");
    if (isPicture) Object.assign(result, { src: URL.createObjectURL(content), alt: "Masks" });
    else result.textContent = JSON.stringify(content, shortened, 2).replace(/\[\s+(\d+),\s+(\d+)\s+\]/g, "[$1, $2]");
    shown.append(result);
  } catch (error) {
    told.textContent = `No answer: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});
