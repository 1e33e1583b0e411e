// Looking inside a run: a state of ui/inspection.py comes in, whole each time; pictures are fetched once and scrubbed
// from memory. Two panes under one slider: x_t beside x0, or a parent beside its branch.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { Acts } = await from("inspector_acts.js");
const { copyOf, Film } = await from("film.js");
const { Plot } = await from("inspector_plot.js");
const { Reel } = await from("reel.js");
const { Runs } = await from("inspector_runs.js");
const { answerTo, hear, seconds, tag } = await from("dom.js");
const { say } = await from("say.js");
const store = await from("store.js");
const { Views } = await from("inspector_views.js");

const KEPT = "latent-loom.live"; // this tab's run (sessionStorage): where a reload comes back to
const FILM = 3000; // ms of a film at speed 1
const FRAME = [16, 400]; // ms of a step in it, at least and at most
const MANY = 12; // reels kept: one for each run, source, decoder and picture
const ACTIVE = ["waiting", "running", "paused"];
const NAMES = { x0: "x0", xt: "x_t" };

export function mount({ element, props, trigger, watch, server }) {
  const box = element.querySelector("[data-part=box]");
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const ask = Object.fromEntries(["runs", "frames", "look", "keep", "branch", "resume", "export", "stop", "state"].map(
    (name) => [name, (question) => answerTo(server[name](question || {}))]));
  const nothing = { run: "", state: "empty", steps: [], total: 20, batch: 1 };
  let state = nothing;
  let parent = null; // the parent's state, when both are shown
  let fetching = ""; // the run whose parent was asked for
  let chosen = "now"; // what the person follows: "now", or a run's name
  let alone = false; // a branch without its parent
  let source = "x0"; // what both panes show of parent and branch
  let step = 0; // in sight, counted from 1; 0: none
  let picture = 0;
  let following = true; // the newest step, until the person scrubs
  let holding = false; // the person scrubbed since the tab came in sight: the run stays
  let waiting = null; // a new run's state, while the person looks at another one
  let playing = 0; // a token: every start and stop of the film makes a new one
  let begun = false; // the server was asked for a run
  const reels = new Map();

  const film = new Film(part.strip, scrub);
  const plot = new Plot(part.plot, scrub);
  const views = new Views({ row: part.looks, box: part.looked, line: part["looked-line"] }, ask.look);
  const acts = new Acts({ box, part, ask, go: choose,
    at: () => ({ run: state.run, step, picture: shownPicture(), state }) });
  const runs = new Runs({ button: part.runs, list: part.list }, ask.runs, choose);

  const shownPicture = () => Math.min(picture, state.batch - 1);
  const taken = () => state.steps.length;
  const reach = () => Math.max(taken(), parent && !alone ? parent.steps.length : 0);
  const both = () => Boolean(parent) && !alone;
  const total = () => Math.max(state.total, both() ? parent.total : 0);
  const seen = () => box.offsetParent !== null;

  // -- what comes in

  function receive(next) {
    if (!next || !next.state || (next.of && next.of !== chosen)) return; // an older follower's last word
    const fresh = next.run !== state.run;
    if (!fresh && next.version < state.version) return;
    if (fresh && state.run && chosen === "now" && holding && seen() && next.run !== waiting?.run) {
      waiting = next; // somebody looks at a step of the last run: it stays in sight
      paint();
      return;
    }
    if (waiting && next.run === waiting.run && seen()) {
      waiting = next;
      return;
    }
    show(next);
  }

  function show(next) {
    const fresh = next.run !== state.run;
    const finer = !fresh && next.decoder !== state.decoder; // it is over: the same pictures come at full quality
    state = { ...nothing, ...next };
    if (fresh) begin();
    if (finer) fadeOld("coarse");
    if (state.parent?.run && (!parent || ACTIVE.includes(parent.state))) fetchParent();
    remember();
    fill();
    paint();
  }

  function begin() {
    pause();
    holding = false;
    waiting = null;
    parent = null;
    alone = false;
    following = true;
    step = 0;
    part.stop.disabled = false;
    part.picture.replaceChildren(...Array.from({ length: state.batch }, (_, k) => 
      new Option(say("inspector.picture-of", { number: k + 1, count: state.batch }), k)));
    part.picture.value = String(shownPicture());
    part.pick.hidden = state.batch < 2;
    film.build(total());
    fadeOld();
  }

  async function fetchParent() {
    if (fetching === state.run) return;
    const run = fetching = state.run;
    const answer = await ask.state({ run: state.parent.run });
    fetching = "";
    if (answer.error) setTimeout(() => { if (run === state.run && !parent) fetchParent(); }, 1000);
    if (answer.error || run !== state.run) return;
    parent = { ...nothing, ...answer };
    film.build(total());
    fill();
    paint();
  }

  // What stands there stays until its successor has come. ghost: another run's, faded; coarse: this run's.
  function fadeOld(mark = "ghost") {
    for (const name of ["left", "right"]) part[`${name}-mat`].querySelector("img")?.classList.add(mark);
  }

  // -- pictures

  function reel(of, kind) {
    const k = Math.min(picture, of.batch - 1);
    const key = [of.run, kind, of.decoder, k].join("|");
    const known = reels.get(key);
    reels.delete(key); // the last one used goes last
    if (known) reels.set(key, known);
    else {
      if (reels.size >= MANY) reels.delete(reels.keys().next().value);
      const own = kind === "x0" ? of.frames : "";
      reels.set(key, new Reel(async (steps) => {
        if (own) return steps.map((s) => `${own}/${String(s - 1).padStart(3, "0")}-${k}.jpg`);
        const answer = await ask.frames({ run: of.run, source: kind, picture: k, steps });
        if (answer.error) throw new Error(answer.error);
        return answer.urls;
      }, arrived, seen));
    }
    return reels.get(key);
  }

  function sides() {
    if (!both()) return [["left", state, "xt"], ["right", state, "x0"]];
    return [["left", parent, source], ["right", state, source]];
  }

  function fill() {
    if (!state.run || !seen()) return;
    for (const [, of, kind] of sides().reverse()) reel(of, kind).fill(of.steps.length, step || of.steps.length);
    if (both()) reel(state, "x0").fill(taken(), step || taken()); // the filmstrip
  }

  function arrived() {
    if (following && playing % 2 === 0) step = newest();
    paint();
  }

  // The newest step whose x0 can be shown.
  function newest() {
    return reel(state, both() ? source : "x0").before(taken())?.step || 0;
  }

  function place(name, of, kind) {
    const mat = part[`${name}-mat`];
    const role = of === parent ? "parent" : "branch";
    const who = both() ? say(`inspector.of.${role}`, { source: NAMES[kind] }) : NAMES[kind];
    const at = Math.min(step, of.steps.length);
    const found = at ? reel(of, kind).before(at) : null;
    const old = mat.firstElementChild;
    if (found) {
      found.image.className = "";
      found.image.alt = say("inspector.shown", { what: who, step: found.step, total: of.total });
      if (old !== found.image) mat.replaceChildren(found.image);
    } else if (old && !["ghost", "coarse"].includes(old.className)) mat.replaceChildren();
    part[`${name}-name`].textContent = both() ? say(`inspector.panes.${role}`, { source: NAMES[kind] }) : say(`inspector.panes.${kind}`);
    let note = reel(of, kind).error;
    if (!note && found && found.step !== step) {
      note = step > of.steps.length ? say("inspector.ends", { step: of.steps.length })
        : say("inspector.next-decoded", { step: found.step });
    } else if (!note && !found && at) note = say("inspector.decoded");
    if (both() && of === state && step && step <= state.parent.step) note = note || say("inspector.same");
    part[`${name}-note`].textContent = note;
    part[name].style.setProperty("--ratio", `${of.width || 1} / ${of.height || 1}`);
  }

  // -- scrubbing and playing

  function scrub(to) {
    if (!reach()) return;
    pause();
    holding = true;
    step = Math.min(Math.max(to, 1), reach());
    following = step === reach() && !both();
    fill();
    paint();
  }

  async function play() {
    const token = playing += 1; // odd while the film runs
    part.play.setAttribute("aria-label", say("common.pause"));
    part.play.classList.add("on");
    if (step >= reach()) step = 1;
    following = false;
    paint();
    while (playing === token && step < reach()) {
      const pace = FILM / Number(part.speed.value) / reach();
      await new Promise((go) => setTimeout(go, Math.min(Math.max(pace, FRAME[0]), FRAME[1] / Number(part.speed.value))));
      if (playing !== token) return;
      step += 1;
      paint();
    }
    if (playing === token) {
      pause();
      following = step >= reach() && !both();
    }
  }

  function pause() {
    if (playing % 2) playing += 1;
    part.play.setAttribute("aria-label", say("common.play"));
    part.play.classList.remove("on");
  }

  // -- painting

  function paint() {
    if (following && !playingNow() && state.run) step = newest();
    box.dataset.state = state.state;
    box.dataset.mode = both() ? "both" : "one";
    box.dataset.run = state.run;
    paintHead();
    paintWords();
    for (const [name, of, kind] of sides()) place(name, of, kind);
    part.sources.hidden = part.legend.hidden = !both();
    part.alone.hidden = !parent;
    part.alone.textContent = say(both() ? "inspector.alone" : "inspector.beside");
    const end = reach();
    part.step.disabled = part.play.disabled = end < 2;
    part.step.max = String(Math.max(total(), 2));
    part.step.value = String(step || 1);
    part.step.style.setProperty("--part", `${100 * (Number(part.step.value) - 1) / (Number(part.step.max) - 1)}%`);
    part.step.setAttribute("aria-valuetext", step ? status() : say("common.no-step"));
    part.status.textContent = status();
    part.sentence.textContent = state.steps[Math.min(step, taken()) - 1]?.[6] || "";
    const reels0 = state.run ? reel(state, "x0") : null;
    film.paint(step, taken(), `${state.run}/${state.decoder}/${shownPicture()}`, (s) => reels0?.at(s));
    plot.draw(`${state.run}/${state.version}/${taken()}/${both()}`, state.steps, total(), both() ? parent.steps : []);
    plot.cursor(step || 1);
    views.offer("regions", state.regions, say("inspector.no-regions"));
    views.at(step && state.kept ? { run: state.run, step: Math.min(step, taken()), total: state.total,
      picture: shownPicture() } : null);
    acts.paint();
    runs.mark(chosen);
    paintThumb();
  }

  const playingNow = () => playing % 2 === 1;

  function paintHead() {
    part.title.textContent = state.run ? (state.prompt || say("common.no-prompt")) : say("inspector.no-run");
    if (ACTIVE.includes(state.state)) part.title.prepend(tag("em", say("inspector.now")));
    const branch = state.parent ? `${say("inspector.branched", { step: state.parent.step })} · ` : "";
    part.line.textContent = state.run ? branch + state.line : say("inspector.runs-here");
    part.cost.textContent = state.previews || "";
    part.progress.textContent = progress();
    part.news.hidden = !waiting;
    part.stop.hidden = !ACTIVE.includes(state.state);
  }

  function progress() {
    const at = { step: taken(), total: state.total };
    if (state.state === "failed") return state.error;
    if (state.state === "running") {
      if (!taken()) return say("common.getting-ready");
      const running = say("inspector.progress.running", at);
      const some = state.left !== null && state.left !== undefined;
      return some ? say("progress.left", { step: running, time: seconds(state.left) }) : running;
    }
    if (state.state === "done") {
      const values = { n: taken(), time: seconds(state.seconds) };
      return say(state.seconds ? "inspector.steps-in" : "inspector.steps", values);
    }
    return state.run ? say(`inspector.progress.${state.state}`, at) : "";
  }

  function status() {
    const row = state.steps[Math.min(step, taken()) - 1];
    if (!row) return "";
    return say("inspector.status", { step, total: total(), sigma: row[0] < 10 ? row[0].toFixed(2) : row[0].toFixed(1),
      t: Math.round(row[1]), count: row[5] });
  }

  function paintWords() {
    const lines = [];
    if (state.state === "empty") {
      const words = state.error ? [state.error] : [say("inspector.keeps"), say("inspector.choose")];
      lines.push(tag("h2", say("inspector.title")), ...words.map((line) => tag("p", line)));
    } else if (!taken() && state.state === "failed") lines.push(tag("p", state.error, "failure"));
    else if (!state.kept && !ACTIVE.includes(state.state)) lines.push(tag("p", state.error || state.note || say("inspector.kept-none")));
    const key = lines.map((line) => line.textContent).join("\n");
    if (part.words.dataset.key === key) return;
    part.words.dataset.key = key;
    part.words.replaceChildren(...lines);
  }

  function paintThumb() {
    const found = state.run ? reel(state, "x0").before(taken()) : null;
    const key = found ? `${state.run}/${found.step}` : "";
    if (part.thumb.dataset.key === key) return;
    part.thumb.dataset.key = key;
    part.thumb.replaceChildren(...(found ? [copyOf(found.image)] : []));
  }

  // -- which run

  function choose(run) {
    chosen = run;
    following = true; // whatever comes next is what was asked for
    waiting = null;
    trigger("follow", { run, place: "" });
  }

  function remember() {
    if (state.run) store.write("session", KEPT, { chosen, place: state.place });
  }

  function come([{ isIntersecting }]) { // the tab is in sight, or out of it
    if (!isIntersecting || !seen()) {
      if (!seen()) holding = false;
      return;
    }
    if (!begun) {
      begun = true;
      const kept = store.read("session", KEPT) || {};
      chosen = typeof kept.chosen === "string" && kept.chosen ? kept.chosen : "now";
      trigger("follow", { run: chosen, place: String(kept.place || "") });
    }
    if (waiting) show(waiting);
    fill();
    paint();
  }

  // -- what people do

  part.step.addEventListener("input", () => scrub(Number(part.step.value)));
  part.play.addEventListener("click", () => (playingNow() ? pause() : play()));
  part.news.addEventListener("click", () => waiting && show(waiting));
  part.stop.addEventListener("click", () => {
    part.stop.disabled = true;
    ask.stop({ run: state.run });
  });
  part.alone.addEventListener("click", () => {
    alone = !alone;
    film.build(total());
    scrub(Math.min(step, reach()));
  });
  part.picture.addEventListener("change", () => {
    picture = Number(part.picture.value);
    fadeOld();
    fill();
    paint();
  });
  for (const button of part.sources.children) {
    button.addEventListener("click", () => {
      source = button.dataset.source;
      for (const other of part.sources.children) other.setAttribute("aria-pressed", String(other === button));
      fill();
      paint();
    });
  }
  function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { target, key } = event;
    const slider = target === part.step;
    if (!slider && target.matches("input, textarea, select")) return;
    if (key === " " && !target.matches("button, a")) {
      event.preventDefault();
      if (!part.play.disabled) part.play.click();
      return;
    }
    const to = { ArrowLeft: step - 1, ArrowRight: step + 1, Home: 1, End: reach() }[key];
    if (to === undefined) return;
    event.preventDefault();
    scrub(to);
  }
  box.addEventListener("keydown", press);
  document.addEventListener("keydown", (event) => {
    if (event.target === document.body && box.isConnected && seen()) press(event);
  });
  new ResizeObserver(() => { film.build(total()); paint(); }).observe(part.strip);
  new IntersectionObserver(come).observe(box);

  watch("value", () => receive(props.value));
  receive(props.value);
  film.build(total());
  paint();
  hear("run", element, (asked) => { // out of the history
    begun = true; // whatever is being made is not asked for
    picture = asked.picture;
    part.picture.value = String(shownPicture()); // where the run is on show already
    fill();
    choose(asked.run);
  });
  box.dataset.ready = "yes";
}
