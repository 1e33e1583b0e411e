// The board of a comparison. A state of ui/contest.py comes in, whole each time; pictures are fetched once and kept.

const own = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [{ seconds, tag }, { Tiles }, { Duel }, { Table }, { curves }] = await Promise.all(
  ["dom.js", "compare_tiles.js", "compare_duel.js", "compare_table.js", "compare_curves.js"].map(own));

const STORE = "latent-loom.comparison"; // this tab's comparison: where a reload comes back to
const SILENCE = 20000; // ms without news of one that runs, after which the board asks again
const PHASES = { reference: "Measuring against the reference", figures: "Computing the figures" };
const NOTHING = { id: "", state: "empty", cells: [], grid: [], rows: [], columns: [], files: [] };

export function mount({ element, props, trigger, watch }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  let state = NOTHING;
  let at = 0; // where the scrubber stands, counted from 1; 0: at the newest step of every cell
  let silence = 0;
  const tiles = new Tiles(part.tiles, (k, left) => duel.choose(k, left));
  const duel = new Duel(part, (canvas, k) => tiles.draw(canvas, k));
  const table = new Table(part.table);

  function receive(next) {
    if (!next || !next.state) return;
    if (next.state !== "empty" && next.id === state.id && next.version < state.version) return;
    const fresh = next.id !== state.id;
    state = { ...NOTHING, ...next };
    clearTimeout(silence);
    if (state.state === "empty") {
      if (next.error) forget();
    } else {
      remember(state.id);
      if (state.state === "running") silence = setTimeout(attach, SILENCE);
    }
    if (fresh) begin();
    paint();
  }

  function begin() {
    at = 0;
    tiles.build(state);
    duel.build(state);
    table.forget();
    for (const [control, word] of [[part.stop, "Stop"], [part.resume, "Resume"]]) ready(control, word);
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
    part.error.hidden = !state.error || state.state === "empty";
    part.error.textContent = state.error || "";
    part.stop.hidden = !running;
    part.resume.hidden = running || !state.missing;
    if (running) ready(part.resume, "Resume");
    else ready(part.stop, "Stop");
    part.line.textContent = state.line || "";
    part.files.replaceChildren(...state.files.map(([name, address]) => link(name, address)));
    const most = Math.max(2, ...cells.map((cell) => cell.total));
    part.step.disabled = !cells.some((cell) => cell.taken);
    part.step.max = String(most);
    part.step.value = String(at || most);
    part.step.style.setProperty("--part", `${100 * ((Number(part.step.value) - 1) / (most - 1))}%`);
    const where = at ? `step ${at} of ${most}` : running ? "newest steps" : "results";
    part["step-words"].textContent = where;
    part.step.setAttribute("aria-valuetext", at ? `${where}, shorter runs in proportion` : where);
    tiles.paint(state, at, most);
    duel.paint(state);
    table.paint(state);
    curves(part.curves, state);
  }

  function status() {
    const { cells } = state;
    const count = (kind) => cells.filter((cell) => cell.state === kind).length;
    const [done, failed] = [count("done"), count("failed") + count("impossible")];
    const bad = failed ? ` · ${failed} failed` : "";
    if (state.state === "empty") return "";
    if (state.state === "running") {
      const left = state.left === null || state.left === undefined ? "" : ` · ${seconds(state.left)} left`;
      const phase = state.reference ? ` (${state.reference})` : "";
      if (PHASES[state.phase]) return `${PHASES[state.phase]}${phase}${bad}${left}`;
      return `${done} of ${cells.length} cells${bad}${left}`;
    }
    if (state.state === "stopped") return `Stopped: ${done} of ${cells.length} cells are kept${bad}`;
    const missing = state.missing ? ` · ${state.missing} missing` : "";
    return `${done} of ${cells.length} cells done${bad}${failed ? "" : missing}`;
  }

  function attach() {
    const id = recall();
    if (id) trigger("attach", { id });
  }

  part.step.addEventListener("input", () => {
    const value = Number(part.step.value);
    at = value >= Number(part.step.max) ? 0 : value;
    paint();
  });
  part.stop.addEventListener("click", () => {
    busy(part.stop, "Stopping");
    trigger("stop", { id: state.id });
  });
  part.resume.addEventListener("click", () => {
    busy(part.resume, "Resuming");
    trigger("resume", { id: state.id });
  });
  part.example.addEventListener("click", () => trigger("example", {}));

  watch("value", () => receive(props.value));
  receive(props.value);
  if (!state.id) attach();
  part.board.dataset.ready = "yes";
}

function link(name, address) {
  const words = { "grid.png": "Grid", "results.csv": "CSV", "results.json": "JSON" };
  const made = tag("a", words[name] || name, "quiet slim");
  made.href = new URL(address, document.baseURI).href;
  made.download = name;
  made.setAttribute("aria-label", `Download ${name}`);
  return made;
}

function busy(control, words) {
  control.disabled = true;
  control.lastElementChild.textContent = words;
}

function ready(control, words) {
  control.disabled = false;
  control.lastElementChild.textContent = words;
}

function remember(id) {
  try {
    sessionStorage.setItem(STORE, id);
  } catch { /* private windows may refuse: then a reload starts anew */ }
}

function recall() {
  try {
    return sessionStorage.getItem(STORE) || "";
  } catch {
    return "";
  }
}

function forget() {
  try {
    sessionStorage.removeItem(STORE);
  } catch { /* nothing was kept */ }
}
