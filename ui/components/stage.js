// The stage. A state of ui/stream.py comes in, whole each time; pictures are fetched once and scrubbed from memory.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { Frames } = await from("frames.js");
const { Film, copyOf } = await from("film.js");
const { button, seconds, span, tag } = await from("dom.js");
const { say } = await from("say.js");
const store = await from("store.js");

const RUNS = "latent-loom.runs"; // this tab's runs (sessionStorage): where a reload comes back to
const NEWEST = "latent-loom.last"; // this browser's last run (localStorage): what a new tab may fetch
const DWELL = 45; // ms that each frame stays at least, so that none is skipped
const HURRY = 18; // ms when more than HURRY_ABOVE frames are waiting
const HURRY_ABOVE = 8;
const SILENCE = 20000; // ms without news of a run that is not over, after which the stage asks again
const ACTIVE = ["waiting", "running", "paused"];
const PAUSE = "M9 6v12M15 6v12";
const GO_ON = "M9 6l9 6-9 6z";

const sleep = (ms) => new Promise((go) => setTimeout(go, ms));

export function mount({ element, props, trigger, watch }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const [OWN, LAST] = [RUNS, NEWEST].map((key) => key + (props.scope ? `.${props.scope}` : "")); // each stage its own
  let state = { job: "", state: "empty", steps: [], examples: [], results: [] };
  let frames = new Frames("");
  let shown = 0; // step on the stage, counted from 1; 0: none
  let picture = 0; // of the batch
  let following = true; // the newest frame, until the person scrubs back
  let advancing = false;
  let playing = 0; // a token: every start and stop of the film makes a new one
  let silence = 0;

  const film = new Film(part.strip, scrub);

  const taken = () => state.steps.length;
  const over = () => !ACTIVE.includes(state.state) && state.state !== "empty";
  const reach = () => frames.before(taken()); // the newest step that can be shown
  const seedOf = (k) => (state.seed + k) % 2 ** 32; // as core.jobs counts
  const finalAt = () => (over() && state.results.length ? Math.max(taken(), 1) : 0); // where the result stands

  // -- what comes in

  function receive(next) {
    if (!next || !next.state) return;
    if (next.state === "empty") {
      if (state.job) forget(state.job);
      state = { steps: [], results: [], examples: [], ...next };
      paint();
      return;
    }
    const fresh = next.job !== state.job;
    if (!fresh && next.version < state.version) return;
    if (next.turn < state.turn) return; // an older follower's last word
    state = next.state === "discarded" ? { ...next, steps: [], results: [] } : next;
    part.stage.dataset.job = state.job;
    part.stage.dataset.found = JSON.stringify(state.found || []); // for the list of regions
    if (fresh) begin();
    if (state.state === "discarded") clear();
    frames.without = new Set((state.without || []).map((index) => index + 1));
    if (state.state === "discarded") forget(state.job);
    else remember();
    clearTimeout(silence);
    if (!over() && state.state !== "paused") silence = setTimeout(attach, SILENCE);
    for (let step = 1; step <= reach(); step += 1) frames.step(step, picture);
    if (over()) state.results.forEach((address) => frames.load(address));
    paint();
    advance();
  }

  function begin() {
    frames = new Frames(state.frames);
    shown = 0;
    picture = Math.min(picture, state.batch - 1);
    following = true;
    pause();
    const old = part.picture.querySelector("img");
    if (old) { // stays as a shadow until the first frame comes
      old.className = "ghost";
      old.alt = "";
      old.setAttribute("aria-hidden", "true");
    }
    film.build(state.total || 20);
    buildThumbs();
    // on a phone Generate is in reach where the stage is not: bring it into sight when less than half of it is
    const { top, bottom, height } = part.mat.getBoundingClientRect();
    const seen = Math.min(bottom, window.innerHeight - 80) - Math.max(top, 0);
    if (ACTIVE.includes(state.state) && seen < height / 2) {
      const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      part.stage.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
    }
  }

  function clear() {
    frames = new Frames("");
    shown = 0;
    pause();
    part.picture.replaceChildren();
    film.build(state.total || 20);
  }

  async function advance() {
    if (advancing) return;
    advancing = true;
    const job = state.job;
    while (state.job === job && following && shown < reach()) {
      let next = shown + 1;
      while (!frames.has(next)) next += 1; // it may come later; the newest goes first
      await frames.step(next, picture);
      if (state.job !== job || !following) break;
      await show(next);
      await sleep(reach() - shown > HURRY_ABOVE ? HURRY : DWELL);
    }
    advancing = false;
    if (state.job !== job) advance();
    else if (following && finalAt()) show(finalAt());
  }

  // -- the picture

  async function show(step) {
    const job = state.job;
    shown = step;
    const last = finalAt() && step >= finalAt();
    const done = last && state.state === "done";
    const seen = frames.before(step);
    const image = last ? await frames.load(state.results[picture]) : await frames.step(seen, picture);
    if (job !== state.job || shown !== step) return; // somebody scrubbed on meanwhile
    if (image) {
      const name = done ? say("stage.finished-picture")
        : say("stage.step-picture", { step: last ? step : seen, total: state.total });
      image.className = "";
      image.removeAttribute("aria-hidden");
      image.alt = state.batch > 1 ? say("stage.of-batch", { name, picture: picture + 1, batch: state.batch }) : name;
      if (part.picture.firstElementChild !== image) part.picture.replaceChildren(image);
    }
    paint();
  }

  function scrub(step) {
    const end = Math.max(reach(), finalAt());
    if (!end) return;
    const to = Math.min(Math.max(step, 1), end);
    following = to === end;
    part.step.value = String(to);
    show(to);
  }

  async function play() {
    const token = ++playing;
    part.play.setAttribute("aria-label", say("common.pause"));
    part.play.classList.add("on");
    const end = () => Math.max(reach(), finalAt());
    if (shown >= end()) await show(1);
    following = false;
    const pace = Math.min(Math.max(3000 / end(), 50), 250);
    while (playing === token && shown < end()) {
      await sleep(pace);
      if (playing === token) await show(shown + 1);
    }
    if (playing === token) {
      following = shown >= end();
      pause();
    }
  }

  function pause() {
    playing += 1;
    part.play.setAttribute("aria-label", say("common.play"));
    part.play.classList.remove("on");
  }

  // -- painting what stands around it

  function paint() {
    const { state: kind } = state;
    part.stage.dataset.state = kind;
    paintWords();
    part.status.textContent = status();
    const active = ACTIVE.includes(kind);
    part.stop.hidden = part.discard.hidden = part.pause.hidden = !active;
    part.stop.disabled = part.discard.disabled = part.pause.disabled = state.ending;
    part.stop.lastElementChild.textContent = say(state.ending ? "common.stopping" : "common.stop");
    const held = kind === "paused" || state.resting;
    part.pause.setAttribute("aria-label", say(held ? "stage.resume-run" : "stage.pause-run"));
    part.pause.title = say(held ? "common.resume" : "stage.pause-title");
    part.pause.querySelector("path").setAttribute("d", held ? GO_ON : PAUSE);
    part.forever.setAttribute("aria-pressed", String(Boolean(state.forever)));
    part.save.hidden = !(over() && state.results.length);
    if (!part.save.hidden) {
      part.save.href = new URL(state.results[picture], document.baseURI).href;
      part.save.download = state.names[picture];
    }
    part.copy.hidden = part.reuse.hidden = !state.job;
    const stopped = kind === "stopped" && taken() ? say("stage.stopped-after", { step: taken() }) : "";
    const spent = over() && state.seconds
      ? say("stage.spent", { time: seconds(state.seconds), n: state.evaluations }) : "";
    part.meta.textContent = state.job ? joined(state.line, stopped, spent, state.previews, state.note) : say("stage.meta");
    const end = Math.max(reach(), finalAt());
    part.step.disabled = part.play.disabled = end < 2;
    if (state.job) part.step.max = String(Math.max(state.total, 2));
    part.step.value = String(shown || 1);
    const way = (Number(part.step.value) - 1) / (Number(part.step.max) - 1);
    part.step.style.setProperty("--part", `${100 * way}%`);
    part.step.setAttribute("aria-valuetext", shown ? caption(shown) : say("common.no-step"));
    paintFilm();
    paintThumbs();
  }

  function status() {
    if (state.state === "empty") return say("stage.empty-status");
    const told = state.left !== null && state.left !== undefined;
    const time = !told ? "" : state.exact ? span(state.left) : say("time.about", { time: span(state.left) });
    const at = { step: taken(), total: state.total };
    if (state.state === "waiting") {
      const ahead = state.ahead ? say("stage.ahead", { n: state.ahead }) : say("stage.starting");
      return time && state.ahead ? say("progress.done-in", { place: ahead, time }) : ahead;
    }
    if (state.state === "paused") return taken() ? say("stage.paused-after", at) : say("stage.paused");
    if (state.state === "discarded") return say("stage.discarded");
    if (!taken()) return over() ? "" : say("common.getting-ready");
    const more = state.behind.length ? say("stage.behind", { n: state.behind.length }) : "";
    if (!over()) {
      const left = state.resting ? say("stage.pauses") : time ? say("stage.left", { time }) : "";
      if (following) return joined(caption(shown || taken()), left, more);
      return say("stage.scrubbed", { caption: caption(shown), running: joined(say("stage.running", at), left) });
    }
    if (state.state === "done" && shown >= finalAt()) return joined(say("stage.finished", { time: seconds(state.seconds) }), more);
    if (state.state === "stopped" && shown >= finalAt()) return joined(say("stage.stopped", at), more);
    return shown ? caption(shown) : "";
  }

  function caption(step) {
    const [sigma] = state.steps[Math.min(step, taken()) - 1] || [0];
    return say("stage.caption", { step, total: state.total, sigma: sigma < 10 ? sigma.toFixed(2) : sigma.toFixed(1) });
  }

  function paintWords() {
    const lines = [];
    const nothing = !shown && !reach();
    if (state.state === "empty") {
      lines.push(tag("h2", say(state.title || "stage.title")));
      if (state.error) lines.push(tag("p", state.error));
      lines.push(tag("p", say("stage.examples"), "hint"), examples());
      if (!state.error && kept("local", LAST)) lines.push(button(say("stage.show-last"), "linkish", fetchLast));
    } else if (state.state === "failed") lines.push(tag("p", state.error, "failure"));
    else if (state.state === "discarded") lines.push(tag("p", say("stage.nothing-kept")));
    else if (nothing && state.state === "paused") lines.push(tag("p", status(), "wait"));
    else if (nothing && state.state === "stopped") lines.push(tag("p", say("stage.stopped-early")));
    else if (nothing && over() && !state.results.length) lines.push(tag("p", say("stage.no-picture")));
    else if (!frames.address && !over()) lines.push(tag("p", say("stage.no-previews"), "wait"));
    else if (nothing && !over()) lines.push(tag("p", `${status()} …`, "wait"));
    const key = lines.map((line) => line.textContent).join("\n");
    if (part.words.dataset.key === key) return;
    part.words.dataset.key = key;
    part.words.classList.toggle("low", !nothing);
    part.words.replaceChildren(...lines);
  }

  function examples() {
    const list = tag("div", "", "examples");
    for (const prompt of state.examples || []) list.append(button(prompt, "example", () => trigger("example", { prompt })));
    return list;
  }

  function paintFilm() {
    film.paint(shown, reach(), `${state.job}/${picture}`, (step) => frames.step(step, picture));
  }

  function buildThumbs() {
    part.thumbs.replaceChildren();
    if (!(state.batch > 1)) return;
    for (let k = 0; k < state.batch; k += 1) {
      const thumb = button("", "thumb", () => {
        picture = k;
        for (let step = 1; step <= reach(); step += 1) frames.step(step, k);
        show(shown || reach());
      });
      thumb.setAttribute("aria-label", say("stage.show-picture", { picture: k + 1, batch: state.batch, seed: seedOf(k) }));
      part.thumbs.append(thumb);
    }
  }

  function paintThumbs() {
    [...part.thumbs.children].forEach(async (thumb, k) => {
      thumb.setAttribute("aria-pressed", String(k === picture));
      const last = finalAt() && shown >= finalAt();
      const key = last ? state.results[k] : String(shown);
      if (!shown || thumb.dataset.key === key) return;
      thumb.dataset.key = key;
      const image = last ? await frames.load(key) : await frames.step(shown, k);
      if (image && thumb.dataset.key === key) thumb.replaceChildren(copyOf(image));
    });
  }

  // -- a reload, another tab

  function remember() {
    store.write("session", OWN, [state.job, ...state.behind]);
    store.write("local", LAST, [state.job]);
  }

  function forget(job) {
    for (const [where, key] of [["session", OWN], ["local", LAST]]) {
      if (kept(where, key)?.includes(job)) store.forget(where, key);
    }
  }

  function attach() {
    const jobs = kept("session", OWN);
    if (jobs) trigger("attach", { jobs });
  }

  function fetchLast() {
    trigger("attach", { jobs: kept("local", LAST) });
  }

  // -- what people do

  part.stop.addEventListener("click", () => {
    state = { ...state, ending: true };
    paint();
    trigger("act", { job: state.job, act: "stop" });
  });
  part.discard.addEventListener("click", () => trigger("act", { job: state.job, act: "discard" }));
  part.pause.addEventListener("click", () => {
    const held = state.state === "paused" || state.resting;
    trigger("act", { job: state.job, act: held ? "resume" : "pause" });
  });
  part.forever.addEventListener("click", () => {
    const on = !state.forever;
    state = { ...state, forever: on };
    paint();
    trigger("forever", { on });
    if (on && !ACTIVE.includes(state.state)) visibleGenerate()?.click();
  });
  part.reuse.addEventListener("click", () => trigger("reuse", { seed: seedOf(picture) }));
  part.copy.addEventListener("click", async () => {
    await copyText(state.text);
    part.copy.lastElementChild.textContent = say("stage.copied");
    setTimeout(() => { part.copy.lastElementChild.textContent = say("stage.copy"); }, 1500);
  });
  part.step.addEventListener("input", () => { pause(); scrub(Number(part.step.value)); });
  part.play.addEventListener("click", () => (part.play.classList.contains("on") ? pause() : play()));
  part.stage.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined || event.target === part.step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    pause();
    scrub((shown || 1) + by);
  });
  new ResizeObserver(() => { film.build(state.total || 20); paintFilm(); }).observe(part.strip);

  watch("value", () => receive(props.value));
  receive(props.value);
  film.build(20);
  const own = kept("session", OWN);
  if (own) trigger("restore", { jobs: own });
  part.stage.dataset.ready = "yes";
}

function visibleGenerate() {
  return [...document.querySelectorAll("button.generate")].find((one) => one.offsetParent !== null);
}

function joined(...parts) {
  return parts.filter(Boolean).join(" · ");
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard on a page without https
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// The names of runs that are kept there; null when there are none.
function kept(where, key) {
  const value = store.read(where, key);
  return Array.isArray(value) && value.length && value.every((v) => typeof v === "string" && v) ? value : null;
}
