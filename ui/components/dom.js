// Small makers that the page's scripts share. Text goes in as text, never as HTML.

const { say } = await import(new URL(`say.js${new URL(import.meta.url).search}`, import.meta.url));

export function tag(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

export function button(text, kind, act) {
  const made = tag("button", text, kind);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export function seconds(value) {
  return say("time.seconds", { seconds: value < 10 ? value.toFixed(1) : Math.round(value) });
}

// A time that is left: "8 s", "3 min 20 s", "1 h 5 min"; as ui/line.py says it.
export function span(value) {
  const whole = Math.round(value);
  if (whole < 100) return seconds(value < 10 ? value : whole);
  if (whole < 3600) {
    return say("time.minutes", { minutes: Math.floor(whole / 60), seconds: Math.floor((whole % 60) / 10) * 10 });
  }
  return say("time.hours", { hours: Math.floor(whole / 3600), minutes: Math.floor((whole % 3600) / 60) });
}

// Gives the browser a file of this server.
export function download(address, name) {
  const link = document.createElement("a");
  link.href = new URL(address, document.baseURI).href;
  link.download = name;
  link.click();
}

// What the server answered to a component's question. Gradio gives nothing at all where the question failed.
export function answerTo(asked) {
  const silent = () => ({ error: say("answers.silent") });
  return asked.then((answer) => answer ?? silent(), silent);
}

// Brings a tab into sight, by its name in the page's address.
export function openTab(name) {
  document.getElementById(`tab-${name}-button`)?.click();
}

const readers = new Map(); // name -> [element, act] of the part that reads these words
const letters = new Map(); // name -> what no part has read yet

// Tells a part of the page that may be on its way still (a tab builds itself when it is first opened).
export function tell(name, detail) {
  const [element, act] = readers.get(name) || [];
  if (element?.isConnected) act(detail);
  else letters.set(name, detail);
}

// act(detail): what the part in element does with such words; at once with those that came before it. Gives whether
// there were any.
export function hear(name, element, act) {
  readers.set(name, [element, act]);
  if (!letters.has(name)) return false;
  const detail = letters.get(name);
  letters.delete(name);
  act(detail);
  return true;
}
