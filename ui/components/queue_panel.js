// The queue's panel. It asks for news only while there is something to tell, or while it is open.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { button, tag } = await from("dom.js");
const { say } = await from("say.js");

const OPEN = 1000; // ms between two looks while the panel is open
const CLOSED = 3000;
const ICONS = {
  top: "M6 5h12M12 19V9m0 0-4 4m4-4 4 4", up: "M12 18V7m0 0-5 5m5-5 5 5", down: "M12 6v11m0 0-5-5m5 5 5-5",
  pause: "M9 6v12M15 6v12", resume: "M9 6l9 6-9 6z", stop: "M7 7h10v10H7z",
  discard: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
};
const nameOf = (act) => say(`queue.acts.${act}`);

export function mount({ element, props, trigger, watch }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const rows = new Map(); // job -> its parts
  let count = 0; // as the model bar tells it, which hears of every run of this page at once

  const state = () => ({ count: 0, rows: [], others: "", forever: false, ...props.value });
  const isOpen = () => !part.panel.hidden;
  const busy = () => count || state().count || state().rows.length || state().forever;

  function look() {
    if (!document.hidden && (isOpen() || busy())) trigger("refresh");
  }

  let timer = 0;
  function again() {
    clearTimeout(timer);
    timer = setTimeout(() => { look(); again(); }, isOpen() ? OPEN : CLOSED);
  }

  function show(open) {
    part.panel.hidden = !open;
    part.open.setAttribute("aria-expanded", String(open));
    if (open) trigger("refresh");
    again();
  }

  function paintButton() {
    const paused = state().rows.filter((row) => row.state === "paused").length;
    part.open.textContent = count ? say("queue.count", { n: count })
      : paused ? say("queue.paused", { n: paused }) : say("queue.button");
    part.open.classList.toggle("busy", Boolean(count));
  }

  function paint() {
    const now = state();
    count = now.count;
    paintButton();
    part.empty.textContent = now.rows.length || now.others ? "" : say("queue.nothing");
    part.others.textContent = now.others;
    part.forever.hidden = !now.forever;
    for (const [job, row] of rows) {
      if (now.rows.some((one) => one.job === job)) continue;
      row.item.remove();
      rows.delete(job);
    }
    now.rows.forEach((one, k) => {
      if (!rows.has(one.job)) rows.set(one.job, make(one.job));
      const row = rows.get(one.job);
      fill(row, one);
      if (part.rows.children[k] !== row.item) {
        const held = row.item.contains(document.activeElement) ? document.activeElement : null;
        part.rows.insertBefore(row.item, part.rows.children[k] || null);
        held?.focus();
      }
    });
  }

  function make(job) {
    const row = { item: tag("li", "", "queue-row"), thumb: tag("div", "", "queue-thumb"), prompt: tag("p", "", "queue-prompt"),
      words: tag("p", "", "queue-words"), bar: tag("div", "", "queue-bar"), acts: {} };
    const text = tag("div", "", "queue-text");
    const acts = tag("div", "", "queue-acts");
    text.append(row.prompt, row.words, row.bar);
    for (const act of Object.keys(ICONS)) {
      row.acts[act] = button("", "queue-icon", () => trigger("act", { job, act }));
      row.acts[act].append(icon(ICONS[act]));
      row.acts[act].title = nameOf(act);
      acts.append(row.acts[act]);
    }
    row.item.append(row.thumb, text, acts);
    return row;
  }

  function fill(row, one) {
    const name = one.prompt || say("queue.no-prompt");
    row.item.dataset.state = one.state;
    row.item.setAttribute("aria-label", name);
    row.prompt.textContent = name;
    row.prompt.title = `${name}\n${one.line}`;
    row.words.textContent = one.words;
    row.bar.style.setProperty("--part", `${100 * one.part}%`);
    if (row.address !== one.thumb) {
      row.address = one.thumb;
      const image = document.createElement("img");
      image.alt = "";
      image.src = one.thumb;
      image.decode().then(() => row.address === one.thumb && row.thumb.replaceChildren(image)).catch(() => {});
    }
    const shown = { top: one.up, up: one.up, down: one.down, pause: one.state !== "paused", resume: one.state === "paused",
      stop: true, discard: true };
    for (const [act, own] of Object.entries(row.acts)) {
      own.hidden = !shown[act];
      own.disabled = one.ending;
      own.setAttribute("aria-label", say("queue.act", { act: nameOf(act), prompt: name }));
    }
  }

  part.open.addEventListener("click", () => show(!isOpen()));
  part.end.addEventListener("click", () => trigger("end_forever"));
  document.addEventListener("click", (event) => {
    if (isOpen() && event.isTrusted && !part.queue.contains(event.target) && event.target.isConnected) show(false);
  });
  part.queue.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isOpen()) return;
    show(false);
    part.open.focus();
  });
  document.addEventListener("latent-loom:queue", (event) => {
    const changed = count !== event.detail;
    count = event.detail;
    paintButton();
    if (changed) trigger("refresh");
  });
  document.addEventListener("visibilitychange", look);
  watch("value", paint);
  paint();
  again();
  trigger("refresh");
}

function icon(path) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  made.append(line);
  return made;
}
