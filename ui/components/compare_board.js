// The board of a comparison. A state of ui/contest.py comes in, whole each time; pictures are fetched once and kept.

const own = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [{ download, hear, seconds, tag }, { say }, store, { Tiles }, { Duel }, { Table }, { curves }, { Paths },
  { Light }] = await Promise.all(["dom.js", "say.js", "store.js", "compare_tiles.js", "compare_duel.js",
  "compare_table.js", "compare_curves.js", "compare_paths.js", "compare_light.js"].map(own));

const STORE = "latent-loom.comparison"; // this tab's comparison: where a reload comes back to
const SILENCE = 20000; // ms without news of one that runs, after which the board asks again
const PHASES = ["reference", "figures"];
const NOTHING = { id: "", state: "empty", cells: [], grid: [], rows: [], columns: [], files: [], planes: [],
  recent: [], film: {} };

export function mount({ element, props, trigger, watch }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  let state = NOTHING;
  let at = 0; // where the scrubber stands, counted from 1; 0: at the newest step of every cell
  let silence = 0;
  let arrived = false;
  let film = false; // this page asked for the animated grid, and gets it as soon as it is there
  const tiles = new Tiles(part.tiles, (k, left) => duel.choose(k, left));
  const duel = new Duel(part, (canvas, k) => tiles.draw(canvas, k));
  const table = new Table(part.table);
  const paths = new Paths(part.paths, (k) => tiles.showing(k).step, () => paint());
  const light = new Light(part.board, (k, left) => duel.choose(k, left));
  for (const kind of props.films) {
    const option = tag("option", say(`films.${kind}`));
    option.value = kind;
    part["film-kind"].append(option);
  }

  function receive(next) {
    if (!next || !next.state) return;
    if (next.state === "empty" && !next.error && state.id) return; // asked for before this one came
    if (next.state !== "empty" && next.id === state.id && next.version < state.version) return;
    if (next.turn < state.turn) return; // an older follower's last word
    const fresh = next.id !== state.id;
    if (fresh) film = false;
    state = { ...NOTHING, ...next };
    clearTimeout(silence);
    if (state.state === "empty") {
      if (next.error) store.forget("session", STORE);
      if (next.recent && !arrived) trigger("arrived", {});
      arrived ||= Boolean(next.recent);
    } else {
      store.write("session", STORE, state.id);
      if (state.state === "running") silence = setTimeout(attach, SILENCE);
    }
    if (fresh) begin();
    paint();
  }

  // Another comparison, with the form that asks for it.
  function bring(id) {
    for (const event of ["attach", "opened"]) trigger(event, { id });
  }

  function begin() {
    at = 0;
    tiles.build(state);
    duel.build(state);
    table.forget();
    paths.forget();
    for (const [control, key] of [[part.stop, "common.stop"], [part.resume, "common.resume"]]) ready(control, say(key));
    if (state.state === "running" && part.board.getBoundingClientRect().top > window.innerHeight * 0.6) {
      const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      part.board.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
    }
  }

  function paint() {
    const { cells } = state;
    const running = state.state === "running";
    part.board.dataset.state = state.state;
    part.board.dataset.comparison = state.id;
    if (state.state === "empty" && state.error) part["empty-why"].textContent = state.error;
    part.status.textContent = status();
    const wrong = [state.error, state.film.error].filter(Boolean).join(" ");
    part.error.hidden = !wrong || state.state === "empty";
    part.error.textContent = wrong;
    part.stop.hidden = !running;
    part.resume.hidden = !state.resumable;
    if (running) ready(part.resume, say("common.resume"));
    else ready(part.stop, say("common.stop"));
    part.line.textContent = state.line || "";
    part.files.replaceChildren(...state.files.map(([name, address]) => link(name, address)));
    filming();
    for (const choice of [part.recent, part["recent-empty"]]) offer(choice, state.recent, state.id);
    const most = Math.max(2, ...cells.map((cell) => cell.total));
    part.step.disabled = !cells.some((cell) => cell.taken);
    part.step.max = String(most);
    part.step.value = String(at || most);
    part.step.style.setProperty("--part", `${100 * ((Number(part.step.value) - 1) / (most - 1))}%`);
    const where = at ? say("progress.step", { step: at, total: most })
      : say(running ? "compare.newest" : "compare.results");
    part["step-words"].textContent = where;
    part.step.setAttribute("aria-valuetext", at ? say("compare.in-proportion", { where }) : where);
    tiles.paint(state, at, most);
    duel.paint(state);
    table.paint(state);
    curves(part.curves, part.legend, state);
    paths.paint(state, (at || most) / most);
    light.paint();
  }

  // The button of the animated grid, and the film itself once it is there.
  function filming() {
    const { total, over, file } = state.film;
    const busy = over === false;
    part.filming.hidden = state.state === "running" || !cellsDone();
    part["film-kind"].disabled = part.film.disabled = busy;
    part.film.lastElementChild.textContent = say(!busy ? "compare.animate" : total ? "compare.making" : "compare.reading");
    if (film && over) {
      film = false;
      if (file.length) download(file[1], file[0]);
    }
  }

  function cellsDone() {
    return state.cells.filter((cell) => cell.state === "done").length;
  }

  function status() {
    const { cells } = state;
    const count = (kind) => cells.filter((cell) => cell.state === kind).length;
    const [done, failed] = [count("done"), count("failed") + count("impossible")];
    const bad = failed ? ` · ${say("compare.failed", { count: failed })}` : "";
    const of = { done, count: cells.length };
    if (state.state === "empty") return "";
    if (state.state === "running") {
      let now = say("compare.cells", of);
      if (PHASES.includes(state.phase)) now = say(`compare.phases.${state.phase}`);
      if (PHASES.includes(state.phase) && state.reference) now = say("compare.phase-at", { phase: now, at: state.reference });
      const some = state.left !== null && state.left !== undefined;
      return some ? say("progress.left", { step: now + bad, time: seconds(state.left) }) : now + bad;
    }
    const { made, total, over } = state.film;
    const now = over === false ? ` · ${say(total ? "compare.film-frame" : "compare.film-reading", { made, total })}`
      : state.again ? ` · ${say("compare.reading-again")}` : "";
    if (state.state === "stopped") return `${say("compare.stopped", of)}${bad}${now}`;
    const missing = state.missing ? ` · ${say("compare.missing", { count: state.missing })}` : "";
    return `${say("compare.done", of)}${bad}${failed ? "" : missing}${now}`;
  }

  // Without anything to come back to, the answer is the list of earlier comparisons.
  function attach() {
    trigger("attach", { id: String(store.read("session", STORE) || "") });
  }

  part.step.addEventListener("input", () => {
    const value = Number(part.step.value);
    at = value >= Number(part.step.max) ? 0 : value;
    paint();
  });
  part.stop.addEventListener("click", () => {
    busy(part.stop, say("common.stopping"));
    trigger("stop", { id: state.id });
  });
  part.resume.addEventListener("click", () => {
    busy(part.resume, say("compare.resuming"));
    trigger("resume", { id: state.id });
  });
  part.film.addEventListener("click", () => {
    film = true;
    trigger("film", { id: state.id, kind: part["film-kind"].value });
  });
  for (const choice of [part.recent, part["recent-empty"]]) {
    choice.addEventListener("change", () => {
      if (choice.value) bring(choice.value);
    });
  }
  part.example.addEventListener("click", () => trigger("example", {}));
  watch("value", () => receive(props.value));
  receive(props.value);
  const heard = hear("comparison", element, ({ id }) => bring(id)); // out of the history
  if (!heard && !state.id) attach();
  part.board.dataset.ready = "yes";
}

function link(name, address) {
  const words = { "grid.png": say("compare.grid"), "results.csv": "CSV", "results.json": "JSON",
    "sets.csv": say("compare.sets"), "grid.webp": "WebP", "grid.gif": "GIF", "grid.mp4": "MP4" };
  const made = tag("a", words[name] || name, "quiet slim");
  made.href = new URL(address, document.baseURI).href;
  made.download = name;
  made.setAttribute("aria-label", say("compare.download", { file: name }));
  return made;
}

// The list of earlier comparisons; the one in sight is none of them.
function offer(choice, recent, id) {
  const others = recent.filter(([one]) => one !== id);
  const key = JSON.stringify(others);
  choice.hidden = !others.length;
  if (choice.dataset.key === key) return;
  choice.dataset.key = key;
  choice.replaceChildren(...[["", say("compare.earlier")], ...others].map(([value, text]) => {
    const option = tag("option", text);
    option.value = value;
    return option;
  }));
}

function busy(control, words) {
  control.disabled = true;
  control.lastElementChild.textContent = words;
}

function ready(control, words) {
  control.disabled = false;
  control.lastElementChild.textContent = words;
}
