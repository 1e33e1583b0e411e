// The grid of the history. As tall as all pictures together, but only the tiles in sight are there, and only the
// entries of blocks that were in sight are fetched.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { answerTo, tag } = await from("dom.js");
const { Large } = await from("gallery_large.js");
const { language, say } = await from("say.js");

const BLOCK = 60; // entries of one answer
const BLOCKS = 40; // that are kept
const GAP = 8; // pixels
const TYPED = 250; // ms without a key after which a search begins
const LOOK = 5000; // ms between two looks for new pictures, while the tab is in sight
const HASTE = 800; // the same while the index is being built
const THUMBS = 24; // small pictures that are asked for at once
const UNDO = 12000; // ms that a deleted picture is offered back
const PICKS = ["model", "sampler", "tag"];

export function mount({ element, props, trigger, server }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const ask = (name, question = {}) => answerTo(server[name](question));
  let total = -1; // not known yet
  let blocks = new Map(); // number of the block -> its rows, or null while they are on their way
  let urls = new Map(); // id -> address of a small picture
  let wanted = []; // ids whose small picture is to be asked for
  let asking = false;
  let query = {};
  let token = 0; // of the search: answers to an older one are dropped
  let columns = 1;
  let side = 160;
  let timer = 0;
  let focus = 0; // which tile the keys are at
  let last = null; // what can be undone
  const tiles = new Map(); // which entry -> its tile

  const seen = () => element.isConnected && part.history.offsetParent !== null;
  const rowOf = (k) => blocks.get(Math.floor(k / BLOCK))?.[k % BLOCK];
  const large = new Large(part, { ask, total: () => total, entry, changed, open, remove, offset: () => focus,
    go: (k) => { focus = k; reveal(k); } });

  // -- what is looked for

  function read() {
    const pressed = (button) => button.getAttribute("aria-pressed") === "true";
    return { words: part.words.value.trim(), model: part.model.value, sampler: part.sampler.value, tag: part.tag.value,
      since: part.since.value, until: part.until.value, favourites: pressed(part.favourites), trash: pressed(part.trash) };
  }

  function search() {
    query = read();
    token += 1;
    total = -1;
    blocks = new Map();
    focus = 0;
    part.room.scrollTop = 0;
    part.empty.hidden = true;
    look(true);
  }

  // Asks for what is in sight; fresh: the server looks into the folder first.
  async function look(fresh = false) {
    clearTimeout(timer);
    const mine = token;
    const answer = await ask("look", { ...query, fresh, offset: 0, count: BLOCK });
    if (mine !== token) return;
    timer = setTimeout(() => (seen() && !document.hidden ? look(true) : null), answer.building ? HASTE : LOOK);
    if (answer.error) {
      line(answer.error, "error");
      return;
    }
    const first = blocks.get(0);
    const key = (rows) => JSON.stringify(rows.map((row) => [row.id, row.favourite, row.tags]));
    if (total !== answer.total || !first || key(first) !== key(answer.rows)) {
      if (total !== answer.total || first?.[0]?.id !== answer.rows[0]?.id) {
        blocks = new Map();
        choices();
      }
      blocks.set(0, answer.rows);
      total = answer.total;
      learn(answer.rows);
    }
    part.note.textContent = answer.note;
    const any = Object.values(query).some(Boolean);
    const pictures = say(query.trash ? "history.in-trash" : any ? "history.found" : "history.count",
      { n: total, count: total.toLocaleString(language()) });
    line(answer.building ? say("history.building", { pictures }) : pictures);
    part.clear.hidden = !any;
    part.empty.hidden = !(query.trash && total > 0);
    part.none.hidden = total !== 0 || answer.building;
    part.none.textContent = say(query.trash ? "history.trash-empty" : any ? "history.none-found" : "history.none");
    part.history.dataset.ready = "yes";
    paint();
  }

  function line(words, kind = "") {
    part.line.textContent = words;
    part.line.dataset.kind = kind;
  }

  async function choices() {
    const found = await ask("choices");
    if (found.error) return;
    for (const name of PICKS) {
      const chosen = part[name].value;
      part[name].replaceChildren(anyOf(name), ...found[`${name}s`].map((value) => new Option(value, value)));
      part[name].value = chosen;
      part[name].hidden = found[`${name}s`].length === 0;
    }
  }

  function anyOf(name) {
    return new Option(say(`history.any.${name}`), "");
  }

  // -- blocks of entries, small pictures

  async function fetchBlock(number) {
    if (blocks.has(number)) return;
    const [mine, map] = [token, blocks];
    map.set(number, null);
    const answer = await ask("look", { ...query, offset: number * BLOCK, count: BLOCK });
    if (mine !== token || map !== blocks) return;
    if (answer.error) {
      map.delete(number);
      line(answer.error, "error");
      return;
    }
    map.set(number, answer.rows);
    for (const old of [...map.keys()].slice(0, Math.max(0, map.size - BLOCKS))) map.delete(old);
    learn(answer.rows);
    paint();
  }

  function learn(rows) {
    for (const row of rows) if (row.thumb) urls.set(row.id, row.thumb);
  }

  async function fetchThumbs() {
    if (asking) return;
    asking = true;
    while (wanted.length) {
      const ids = wanted.splice(0, THUMBS);
      const answer = await ask("thumbs", { ids });
      for (const id of ids) urls.set(id, answer.urls?.[id] ?? "");
      paint();
    }
    asking = false;
  }

  // The row at a place, fetched if need be.
  async function entry(k) {
    await fetchBlock(Math.floor(k / BLOCK));
    for (let wait = 0; !rowOf(k) && wait < 100; wait += 1) await new Promise((go) => setTimeout(go, 50));
    return rowOf(k);
  }

  // -- the grid

  function measure() {
    const width = part.grid.clientWidth;
    if (!width) return;
    const least = width < 500 ? 98 : 168;
    columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    side = (width + GAP) / columns - GAP;
    for (const tile of tiles.values()) tile.remove();
    tiles.clear();
    paint();
  }

  function paint() {
    const rows = Math.ceil(Math.max(total, 0) / columns);
    part.grid.style.height = `${Math.max(0, rows * (side + GAP) - GAP)}px`;
    const top = part.room.scrollTop;
    const height = part.room.clientHeight;
    const first = Math.max(0, Math.floor((top - height / 2) / (side + GAP))) * columns;
    const end = Math.min(Math.max(total, 0), Math.ceil((top + height * 1.5) / (side + GAP)) * columns);
    for (const [k, tile] of tiles) {
      if (k < first || k >= end) {
        tile.remove();
        tiles.delete(k);
      }
    }
    wanted = [];
    for (let k = first; k < end; k += 1) {
      const row = rowOf(k);
      if (row === undefined) fetchBlock(Math.floor(k / BLOCK));
      let tile = tiles.get(k);
      const key = row ? `${row.id}|${row.favourite}|${urls.get(row.id) || ""}` : "";
      if (tile?.dataset.key !== key) {
        const made = build(k, row, key);
        if (tile) tile.replaceWith(made);
        else part.grid.append(made);
        if (document.activeElement === tile) made.focus();
        tiles.set(k, tile = made);
      }
      if (row && !urls.has(row.id)) wanted.push(row.id);
      tile.tabIndex = k === focus ? 0 : -1;
    }
    if (wanted.length) fetchThumbs();
  }

  function build(k, row, key) {
    const tile = tag("button", "", "gallery-tile");
    tile.type = "button";
    tile.dataset.key = key;
    tile.dataset.at = k;
    tile.setAttribute("role", "listitem");
    tile.style.cssText = `left:${(k % columns) * (side + GAP)}px;top:${Math.floor(k / columns) * (side + GAP)}px;` +
      `width:${side}px;height:${side}px`;
    if (!row) return tile;
    tile.setAttribute("aria-label", say(row.favourite ? "history.tile-favourite" : "history.tile",
      { prompt: row.prompt || say("history.no-prompt"), when: row.when }));
    const url = urls.get(row.id);
    if (url) {
      const image = document.createElement("img");
      image.alt = "";
      image.decoding = "async";
      image.src = new URL(url, document.baseURI).href;
      tile.append(image);
    } else if (urls.has(row.id)) tile.append(tag("span", say("history.broken"), "gallery-broken"));
    if (row.favourite) tile.append(tag("span", "♥", "gallery-heart"));
    tile.append(tag("span", row.prompt || say("common.no-prompt"), "gallery-words"));
    return tile;
  }

  function reveal(k) {
    const top = Math.floor(k / columns) * (side + GAP);
    const { room } = part;
    if (top < room.scrollTop) room.scrollTop = top;
    else if (top + side > room.scrollTop + room.clientHeight) room.scrollTop = top + side - room.clientHeight;
    paint();
  }

  // -- what people do

  function changed(k, row) {
    const rows = blocks.get(Math.floor(k / BLOCK));
    const before = rows?.[k % BLOCK];
    if (before?.id === row.id) rows[k % BLOCK] = { ...before, ...row };
    if (String(before?.tags) !== String(row.tags)) choices();
    paint();
  }

  async function favour(k) {
    const row = rowOf(k);
    if (!row) return;
    const answer = await ask("change", { id: row.id, favourite: !row.favourite });
    if (answer.error) line(answer.error, "error");
    else changed(k, answer);
  }

  // Deletes a picture, or brings it back; whether that was done.
  async function remove(k, deleted = true) {
    const row = rowOf(k);
    if (!row) return "";
    const answer = await ask("change", { id: row.id, deleted });
    if (answer.error) {
      line(answer.error, "error");
      return answer.error;
    }
    last = { id: row.id, deleted };
    part["undo-words"].textContent = say(deleted ? "history.deleted" : "history.restored");
    part.undo.hidden = false;
    clearTimeout(last.timer);
    last.timer = setTimeout(forgetUndo, UNDO, last);
    await look();
    return "";
  }

  function forgetUndo(which) {
    if (which !== last) return;
    last = null;
    part.undo.hidden = true;
  }

  async function undo() {
    if (!last) return;
    const { id, deleted } = last;
    forgetUndo(last);
    const answer = await ask("change", { id, deleted: !deleted });
    if (answer.error) line(answer.error, "error");
    else await look();
  }

  function open(where, detail) {
    if (where === "text" || where === "regions") {
      window.dispatchEvent(new CustomEvent("latent-loom:opened"));
      trigger(where, { id: detail.id, name: detail.name });
    }
  }

  part.words.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, TYPED);
  });
  for (const name of ["model", "sampler", "tag", "since", "until"]) part[name].addEventListener("change", search);
  for (const name of ["favourites", "trash"]) {
    part[name].addEventListener("click", () => {
      part[name].setAttribute("aria-pressed", String(part[name].getAttribute("aria-pressed") !== "true"));
      search();
    });
  }
  part.clear.addEventListener("click", () => {
    for (const name of ["words", "model", "sampler", "tag", "since", "until"]) part[name].value = "";
    for (const name of ["favourites", "trash"]) part[name].setAttribute("aria-pressed", "false");
    search();
  });
  let sure = 0;
  part.empty.addEventListener("click", async () => {
    if (!sure) { // a second click within some seconds, since this cannot be undone
      part.empty.textContent = say("history.for-good");
      sure = setTimeout(() => { sure = 0; part.empty.textContent = say("history.empty-trash"); }, 5000);
      return;
    }
    clearTimeout(sure);
    sure = 0;
    part.empty.textContent = say("history.empty-trash");
    if (last) forgetUndo(last);
    const answer = await ask("empty_trash");
    if (answer.error) line(answer.error, "error");
    else search();
  });
  part["undo-button"].addEventListener("click", undo);
  part.grid.addEventListener("click", (event) => {
    const tile = event.target.closest(".gallery-tile");
    if (!tile) return;
    focus = Number(tile.dataset.at);
    paint();
    large.show(focus);
  });
  part.room.addEventListener("scroll", () => requestAnimationFrame(paint), { passive: true });
  part.history.addEventListener("keydown", (event) => {
    if (part.large.open || event.target.matches("input, select") || event.altKey || event.metaKey) return;
    if (event.ctrlKey) {
      if (event.key.toLowerCase() !== "z" || !last) return;
      event.preventDefault();
      undo();
      return;
    }
    const at = event.target.closest(".gallery-tile") ? Number(event.target.dataset.at) : focus;
    const page = columns * Math.max(1, Math.floor(part.room.clientHeight / (side + GAP)));
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns,
      PageUp: at - page, PageDown: at + page, Home: 0, End: total - 1 }[event.key];
    if (to !== undefined) {
      focus = Math.min(Math.max(to, 0), total - 1);
      reveal(focus);
      tiles.get(focus)?.focus();
    } else if (event.key.toLowerCase() === "f" && event.target.closest(".gallery-tile")) favour(at);
    else if (event.key === "Delete" && event.target.closest(".gallery-tile")) remove(at, !query.trash);
    else return;
    event.preventDefault();
  });

  new ResizeObserver(measure).observe(part.grid);
  new IntersectionObserver(([{ isIntersecting }]) => {
    if (!isIntersecting || !seen()) return;
    if (total < 0) search();
    else look(true);
  }).observe(part.history);
  document.addEventListener("visibilitychange", () => !document.hidden && seen() && look(true));
  for (const name of PICKS) part[name].replaceChildren(anyOf(name));
}
