// What is chosen on the page is asked of the service, one question at a time; of those that come meanwhile only the last.
window.wordmask = (() => {
  const SETTLE = 30;  // milliseconds: an example changes the picture and the names, one after the other
  const view = window.wordmaskViewer;
  let wanted = null, last = null, isAsking = false, timer = null, current = "";

  const post = (address, body) => fetch(address, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

  const answerTo = async (question) => {
    let response;
    try {
      response = await post("page/ask", question);
    } catch {
      return { error: "The service does not answer. Is it running?", again };
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const error = answer.error?.reason ?? `The service answers with status ${response.status}.`;
    return response.status === 503 ? { error, again } : { error };
  };

  const send = async () => {
    if (isAsking) return;
    isAsking = true;
    while (wanted) {
      const question = wanted;
      [wanted, last] = [null, question];
      view.looking();
      question.is_new = !view.isShown(question.picture);
      const answer = await answerTo(question);
      if (wanted || question.picture !== current) continue;
      try {
        await view.show(answer, answer.again ? "" : question.picture);
      } catch {
        await view.show({ error: "The answer cannot be shown.", again }, "");
      }
    }
    isAsking = false;
  };
  const again = () => { wanted = last; send(); };

  const forget = (token) => { if (token) navigator.sendBeacon(`page/${token}/forget`); };

  // Students of a few names race against nothing that anybody types.
  const hideIdle = ({ method, beside }) => {
    const closed = JSON.parse(document.getElementById("wm-viewer")?.dataset.closed ?? "[]");
    const isIdle = [method, beside ?? method].every((own) => closed.includes(own));
    document.getElementById("wm-against")?.classList.toggle("idle", isIdle);
  };

  const ask = (file, chosen) => {
    hideIdle(chosen);
    const picture = file ? file.path.split("/")[0] : "";
    if (picture !== current) {
      forget(current);
      current = picture;
      if (picture) view.begin(file.url);
    }
    clearTimeout(timer);
    if (!picture) {
      wanted = null;
      view.clear();
      return;
    }
    view.looking();
    timer = setTimeout(() => { wanted = { picture, ...chosen }; send(); }, SETTLE);
  };

  const example = (number) => {
    const names = document.querySelectorAll("#wm-examples .names")[number].textContent.split(", ");
    const random = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0"));
    const url = new URL(`page/examples/${number}.jpg`, document.baseURI).href;
    const path = `example-${number}-${random.join("")}`;
    return [{ path, url, orig_name: `example-${number}.jpg`, meta: { _type: "gradio.FileData" } }, names];
  };

  // Not when the browser keeps the page to come back to it.
  window.addEventListener("pagehide", (event) => { if (!event.persisted) forget(current); });

  // gradio leaves the list of names open over the page when one has been taken; it opens again to whoever types.
  const list = (isOpen) => document.getElementById("wm-names")?.classList.toggle("quiet", !isOpen);
  const inNames = (event) => event.target.closest?.("#wm-names");
  document.addEventListener("input", (event) => { if (inNames(event)) list(true); }, true);
  document.addEventListener("keydown", (event) => {
    if (inNames(event)) setTimeout(() => list(!["Enter", "Escape", "Tab"].includes(event.key)), 0);
  }, true);
  document.addEventListener("mousedown", (event) => {
    const isTaken = event.target.closest?.(".options") != null;
    if (inNames(event)) setTimeout(() => list(!isTaken), 0);
  }, true);

  return { ask, example };
})();
