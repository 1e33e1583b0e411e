// The list of models: a dialog over the page. Names, notes and licences come out of files that others made: all of it
// is written as text, never as markup. It asks the server for what has changed since it last asked.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { button, tag } = await from("dom.js");
const { say } = await from("say.js");

const [SOON, LATER] = [600, 4000]; // ms between two questions, while something is on its way and else
const AT_ONCE = 60; // rows that are drawn; more come while somebody scrolls
const FAMILIES = { sd: "Stable Diffusion", sdxl: "Stable Diffusion XL" };

export function mount({ element, props, trigger, watch, server }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const rows = new Map(); // name -> what the server says of it
  const made = new Map(); // name -> its element, and the serial it was drawn from
  const pictures = new Map(); // name -> address, "" without one
  let told = 0; // when the choice was made that the page has been told of
  let state = { epoch: -1, serial: -1, names: [], vaes: [] };
  let shown = []; // names, in order
  let most = AT_ONCE;
  let timer = 0;
  let asking = false;

  const current = () => document.querySelector('[data-part="bar"]')?.dataset.model || "";
  const split = (name) => {
    if (rows.has(name) || !name.includes("+")) return [name, ""];
    return [name.slice(0, name.lastIndexOf("+")), name.slice(name.lastIndexOf("+") + 1)];
  };

  // -- asking

  async function look(again = false) {
    if (asking) return;
    asking = true;
    clearTimeout(timer);
    try {
      const news = await server.look({ epoch: state.epoch, serial: state.serial, again });
      const fresh = news.names !== null;
      const first = state.epoch === -1;
      if (fresh) for (const name of [...rows.keys()]) if (!news.names.includes(name)) rows.delete(name);
      for (const row of news.rows) rows.set(row.name, row);
      state = { ...news, names: news.names ?? state.names };
      if (fresh && !first) trigger("found");
      if (fresh || news.rows.length) arrange();
      paint();
    } catch {
      part.now.textContent = say("models.silent");
      part.now.dataset.kind = "error";
    } finally {
      asking = false;
    }
    if (!part.dialog.open) return;
    const busy = state.waiting || (state.download && !state.download.over) || [...rows.values()].some((r) => "hashing" in r);
    timer = setTimeout(look, busy ? SOON : LATER);
  }

  async function fetchPictures(names) {
    const wanted = names.filter((name) => !pictures.has(name));
    if (!wanted.length) return;
    for (const name of wanted) pictures.set(name, "");
    for (const [name, url] of Object.entries(await server.pictures(wanted))) {
      if (!url) continue;
      pictures.set(name, url);
      const frame = made.get(name)?.row.querySelector(".model-picture");
      if (frame) picture(frame, url);
    }
  }

  // -- what stands there

  function words(row) {
    const facts = [row.kind || FAMILIES[row.family] || row.family];
    if (row.prediction && row.prediction !== "epsilon") facts.push(row.prediction.replace("_", " "));
    if (row.recommended) facts.push(row.recommended.words);
    if (row.width) facts.push(`${row.width} × ${row.height} px`);
    if (row.precision) facts.push(row.precision);
    if (row.bytes) facts.push(size(row.bytes));
    return facts.filter(Boolean);
  }

  function arrange() {
    const wanted = part.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const by = part.sort.value;
    const fits = (name) => {
      const row = rows.get(name) || { name };
      const text = [name, row.home, ...words(row), row.hash, row.licence, row.error ? say("models.refused") : ""]
        .join(" ").toLowerCase();
      return wanted.every((word) => text.includes(word));
    };
    shown = state.names.filter(fits);
    const value = (name) => rows.get(name)?.[by];
    if (by === "name") shown.sort((a, b) => label(a).localeCompare(label(b)));
    else if (by === "kind") shown.sort((a, b) => String(value(a) || "~").localeCompare(String(value(b) || "~")));
    else shown.sort((a, b) => (value(b) || 0) - (value(a) || 0));
    const bad = (name) => Boolean(rows.get(name)?.error);
    shown = [...shown.filter((name) => !bad(name)), ...shown.filter(bad)]; // what cannot be used comes last
  }

  function paint() {
    const [used] = split(current());
    const drawn = shown.slice(0, most).map((name) => element_of(name, name === used));
    const stands = [...part.list.children];
    if (drawn.length !== stands.length || drawn.some((row, k) => row !== stands[k])) {
      const focused = part.list.contains(document.activeElement) ? document.activeElement : null;
      part.list.replaceChildren(...drawn);
      if (focused?.isConnected) focused.focus({ preventScroll: true });
    }
    if (part.dialog.open) fetchPictures(shown.slice(0, most));
    for (const name of [...made.keys()]) if (!rows.has(name)) made.delete(name);
    const refused = [...rows.values()].filter((row) => row.error).length;
    const total = state.names.length;
    const some = shown.length < total ? say("models.shown", { n: shown.length, total })
      : say("models.count", { n: total - refused });
    part.status.textContent = [some, refused ? say("models.unloadable", { n: refused }) : "",
      state.waiting ? say("models.unread", { n: state.waiting }) : ""].filter(Boolean).join(" · ");
    part.none.hidden = Boolean(shown.length || state.waiting) || state.epoch === -1;
    part.none.textContent = say(part.search.value ? "models.no-match" : "models.none");
    paintVae();
    paintHub();
  }

  function element_of(name, used) {
    const row = rows.get(name);
    const known = made.get(name);
    if (known && known.serial === row.serial && known.used === used) return known.row;
    const built = build(row, used);
    if (known?.row.isConnected) {
      const focus = known.row.contains(document.activeElement) && document.activeElement.dataset.act;
      known.row.replaceWith(built);
      if (focus) built.querySelector(`[data-act="${focus}"]`)?.focus({ preventScroll: true });
    }
    made.set(name, { row: built, serial: row.serial, used });
    return built;
  }

  function build(row, used) {
    const made = tag("li", "", "model-row");
    made.classList.toggle("used", used);
    made.classList.toggle("refused", Boolean(row.error));
    const frame = tag("span", "", "model-picture");
    picture(frame, pictures.get(row.name), label(row.name));
    const what = tag("div", "", "model-what");
    const title = tag("p", "", "model-name");
    title.append(tag("strong", label(row.name)));
    const where = [row.home, row.name.includes("/") ? row.name.slice(0, row.name.lastIndexOf("/")) : ""];
    if (where.some(Boolean)) title.append(tag("span", [...new Set(where.filter(Boolean))].join(" · "), "model-where"));
    what.append(title);
    if (row.error) what.append(reason(row.error));
    else what.append(tag("p", row.reading ? say("models.reading") : words(row).join(" · "), "model-facts"));
    if (!row.error && !row.reading) what.append(more(row));
    const acts = tag("div", "", "model-acts");
    if (used) acts.append(tag("span", say("models.used"), "model-used"));
    else if (!row.error && !row.reading) {
      const name = say("models.use-of", { name: label(row.name) });
      acts.append(act("use", say("models.use"), name, () => choose(row.name)));
    }
    made.append(frame, what, acts);
    return made;
  }

  function more(row) {
    const line = tag("p", "", "model-more");
    const name = label(row.name);
    if (row.hash) line.append(tag("span", say("models.hash", { hash: row.hash }), "model-hash"));
    else if ("hashing" in row) line.append(tag("span", say("models.hash", { hash: `${row.hashing} %` }), "model-hash"));
    else if (row.hashable) {
      line.append(act("hash", say("models.take-hash"), say("models.take-hash-of", { name }),
        () => server.take_hash(row.name).then(() => look())));
    }
    if (row.licence) {
      line.append(act("licence", row.licence, say("models.licence-of", { name, licence: row.licence }),
        () => licence(row.name, line)));
    }
    return line;
  }

  async function licence(name, line) {
    const open = line.parentElement.querySelector(".model-licence");
    if (open) {
      open.remove();
      return;
    }
    line.parentElement.append(tag("pre", await server.licence(name), "model-licence"));
  }

  // The reason why a model is refused; commands in it, between backticks, can be copied.
  function reason(text) {
    const line = tag("p", "", "model-reason");
    text.split("`").forEach((piece, k) => {
      if (!piece) return;
      line.append(k % 2 ? tag("code", piece) : document.createTextNode(piece));
      if (k % 2) line.append(" ", act("copy", say("models.copy"), say("models.copy-of", { text: piece }),
        () => navigator.clipboard?.writeText(piece)));
    });
    return line;
  }

  function paintVae() {
    const [model, vae] = split(current());
    part.decode.hidden = !state.vaes.length || !rows.has(model) || model === "storybook";
    part["vae-of"].textContent = say("models.vae-of", { name: label(model) });
    const key = JSON.stringify([model, vae, state.vaes]);
    if (part.vae.dataset.key === key) return;
    part.vae.dataset.key = key;
    part.vae.replaceChildren(...["", ...state.vaes].map((name) => {
      const option = tag("option", name || say("models.own-vae"));
      option.value = name;
      return option;
    }));
    part.vae.value = vae;
  }

  function paintHub() {
    const { download, offered = [], folder = "" } = state;
    part.hand.textContent = say("models.by-hand", { folder });
    const running = Boolean(download && !download.over);
    const key = JSON.stringify(offered);
    if (part.id.dataset.key !== key) {
      part.id.dataset.key = key;
      part.id.replaceChildren(...offered.map((name) => tag("option", name)));
    }
    part.id.disabled = part.download.disabled = running || !offered.length;
    part.stop.hidden = part.progress.hidden = !running;
    if (!download) return;
    if (download.total) part.progress.value = (100 * download.taken) / download.total;
    else part.progress.removeAttribute("value");
    part.fetched.dataset.kind = download.error ? "error" : "";
    const { name, taken, total } = download;
    part.fetched.textContent = download.error || (!running ? say("models.arrived", { name })
      : total ? say("models.downloaded", { name, taken: size(taken), total: size(total) })
        : say("models.asking-hub", { name }));
  }

  // -- what people do

  function choose(name) {
    busy(true);
    tellLine("", say("models.loading", { name: label(name) }));
    trigger("switch", { name });
  }

  function receive() {
    const { state: now, name = "", seconds = 0, megabytes = 0, error = "", at = 0 } = props.value || {};
    if (now === "loading") {
      busy(true);
      tellLine("", say("models.loading-since", { name: label(name), size: size(megabytes * 2 ** 20),
        time: say("time.seconds", { seconds: Math.floor(seconds) }) }));
    } else if (now === "failed") {
      busy(false);
      tellLine("error", error);
      part.vae.dataset.key = "";
      paint();
    } else if (now === "chosen" && at !== told) {
      told = at;
      busy(false);
      tellLine("", "");
      trigger("chosen");
      part.dialog.close();
    }
  }

  function tellLine(kind, text) {
    part.now.dataset.kind = kind;
    part.now.textContent = text;
  }

  function busy(yes) {
    part.dialog.classList.toggle("busy", yes);
    part.vae.disabled = yes;
    for (const use of part.list.querySelectorAll('[data-act="use"]')) use.disabled = yes;
  }

  function open() {
    tellLine("", "");
    most = AT_ONCE;
    part.dialog.showModal();
    part.list.scrollTop = 0;
    part.search.select();
    arrange();
    paint();
    look();
  }

  part.open.addEventListener("click", open);
  part.close.addEventListener("click", () => part.dialog.close());
  part.dialog.addEventListener("close", () => clearTimeout(timer));
  part.dialog.addEventListener("click", (event) => event.target === part.dialog && part.dialog.close());
  part.again.addEventListener("click", () => look(true));
  for (const [control, kind] of [[part.search, "input"], [part.sort, "change"]]) {
    control.addEventListener(kind, () => {
      most = AT_ONCE;
      arrange();
      paint();
    });
  }
  part.vae.addEventListener("change", () => {
    const [model] = split(current());
    choose(part.vae.value ? `${model}+${part.vae.value}` : model);
  });
  part.list.addEventListener("scroll", () => {
    if (most < shown.length && part.list.scrollTop + part.list.clientHeight > part.list.scrollHeight - 400) {
      most += AT_ONCE;
      paint();
    }
  });
  part.download.addEventListener("click", async () => {
    const error = await server.download(part.id.value);
    part.fetched.dataset.kind = error ? "error" : "";
    part.fetched.textContent = error;
    if (!error) look();
  });
  part.stop.addEventListener("click", () => server.stop_download({}));
  part.dialog.addEventListener("keydown", (event) => { // up and down go from model to model
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.target.tagName === "SELECT") return;
    const uses = [...part.list.querySelectorAll('[data-act="use"]')];
    const next = uses.indexOf(document.activeElement) + step;
    event.preventDefault();
    if (next < 0) part.search.focus();
    else uses[next]?.focus();
  });
  watch("value", receive);
  part.dialog.dataset.ready = "yes";
}

function act(kind, text, label, does) {
  const made = button(text, "quiet slim", does);
  made.dataset.act = kind;
  made.setAttribute("aria-label", label);
  return made;
}

function picture(frame, url, name = "") {
  if (!url) {
    frame.textContent = name ? name.slice(0, 1).toUpperCase() : frame.textContent;
    return;
  }
  const image = document.createElement("img");
  image.alt = "";
  image.loading = "lazy";
  image.src = new URL(url, document.baseURI).href;
  frame.replaceChildren(image);
}

function label(name) {
  return name === "storybook" ? "Storybook" : name.slice(name.lastIndexOf("/") + 1);
}

function size(bytes) {
  return bytes < 2 ** 30 ? `${Math.max(bytes / 2 ** 20, 0.1).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MB` : `${(bytes / 2 ** 30).toFixed(1)} GB`;
}
