// Keeps the page up to date: asks for what it shows now and changes only what differs, so that
// focus, selection, scroll and what is unfolded stay. Every text is set as text, never as markup.

const PERIOD_MS = 2000;
const LONGEST_MS = 15000; // between two tries while the daemon is not reachable
const TIMEOUT_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";
const OWN_ATTRIBUTES = new Set(["open"]); // the reader's, not the daemon's

const found = (id) => document.getElementById(id);
const page = found("page");
const said = found("said");

// ---- a tree of [tag, attributes, children] -> the document

const keyOf = (attributes) => attributes.id ?? attributes["data-key"];
const keyOfNode = (node) => node.id || node.dataset?.key;

function make(tree, namespace) {
  if (typeof tree === "string") return document.createTextNode(tree);
  const [tag, attributes, children] = tree;
  const space = tag === "svg" ? SVG : namespace;
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const child of children) node.append(make(child, space));
  return node;
}

function isLike(node, tree) {
  if (typeof tree === "string") return node.nodeType === Node.TEXT_NODE;
  const [tag, attributes] = tree;
  const isTag = node.nodeType === Node.ELEMENT_NODE && node.localName === tag;
  return isTag && (keyOfNode(node) ?? "") === (keyOf(attributes) ?? "");
}

function patch(node, tree) {
  if (typeof tree === "string") {
    if (node.data !== tree) node.data = tree;
    return;
  }
  const [tag, attributes, children] = tree;
  for (const { name } of [...node.attributes]) {
    if (!(name in attributes) && !OWN_ATTRIBUTES.has(name)) node.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (!OWN_ATTRIBUTES.has(name) && node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  if (tag !== "time") patchChildren(node, children); // what a time reads is `tellTimes`'s
}

function patchChildren(node, children) {
  const wanted = new Set(children.map((tree) => keyOf(tree[1] ?? {})).filter(Boolean));
  for (const child of [...node.childNodes]) {
    if (keyOfNode(child) && !wanted.has(keyOfNode(child))) child.remove();
  }
  const keyed = new Map([...node.children].map((child) => [keyOfNode(child), child]));
  const space = node.namespaceURI === SVG ? SVG : undefined;
  let place = node.firstChild;
  for (const tree of children) {
    const key = typeof tree === "string" ? undefined : keyOf(tree[1]);
    const known = key === undefined ? place : keyed.get(key);
    if (known && isLike(known, tree)) {
      if (known === place) place = place.nextSibling;
      else node.insertBefore(known, place);
      patch(known, tree);
    } else {
      node.insertBefore(make(tree, space), place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

// ---- times, in words

let ahead_s = 0; // the daemon's clock before this one's
const clock = () => new Date().toLocaleTimeString([], { hourCycle: "h23" });

function age(seconds) {
  if (seconds < 10) return "just now";
  if (seconds < 60) return "< 1 min ago";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

function tellTimes() {
  const now = Date.now() / 1000 + ahead_s;
  for (const node of document.querySelectorAll("time[data-at]")) {
    const at = Number(node.dataset.at);
    node.title = new Date(at * 1000).toLocaleString();
    const text = age(now - at);
    if (node.textContent !== text) node.textContent = text;
  }
}

// ---- what changed

let states = null;

function tellStates(now) {
  const changes = Object.entries(now)
    .filter(([name, state]) => states !== null && states[name] !== state)
    .map(([name, state]) => `${name}: ${state}`);
  states = now;
  if (changes.length) said.textContent = changes.join(". ");
}

function show(update) {
  if (update.release !== document.body.dataset.release) {
    location.reload(); // another edgeq answers now; its document fits its updates
    return;
  }
  ahead_s = update.now - Date.now() / 1000;
  const focused = document.activeElement;
  patch(page, update.body);
  if (focused?.isConnected && focused !== document.activeElement) {
    focused.focus({ preventScroll: true }); // it was moved
  }
  document.title = update.title;
  tellStates(update.states);
}

// ---- asking

let seen = "";
let failures = 0;
let failing = null; // since when
let reachedAt = "";
let timer = 0;
let isAsking = false;

async function ask() {
  const response = await fetch(`/edgeq/page?seen=${encodeURIComponent(seen)}`, {
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (response.status === 204) return; // as it was
  if (!response.ok) throw new Error(`it answers ${response.status} ${response.statusText}`);
  const update = await response.json();
  show(update);
  seen = update.tag;
}

function reached() {
  failures = 0;
  failing = null;
  found("unreachable").hidden = true;
  document.documentElement.classList.remove("stale");
  reachedAt = clock();
  found("as-of").textContent = `live, as of ${reachedAt}`;
}

function missed(error) {
  failures += 1;
  if (failing !== null) return; // said once
  failing = clock();
  const why = error.message.startsWith("it answers") ? `: ${error.message}` : "";
  found("unreachable-text").textContent =
    `The daemon is not reachable since ${failing}${why}. ` +
    "What stands below is from before; it is asked again every few seconds.";
  found("unreachable").hidden = false;
  if (reachedAt) found("as-of").textContent = `as of ${reachedAt}`;
  document.documentElement.classList.add("stale");
}

async function poll() {
  clearTimeout(timer);
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    await ask();
    reached();
  } catch (error) {
    missed(error);
  } finally {
    isAsking = false;
  }
  tellTimes();
  timer = setTimeout(poll, Math.min(PERIOD_MS * 2 ** failures, LONGEST_MS));
}

// ---- what the reader does

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    said.textContent = "Copied";
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling); // Ctrl-C does the rest
    said.textContent = "Selected";
  }
}

document.documentElement.classList.add("live");
document.addEventListener("visibilitychange", poll);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy) copy(button);
  if (button?.id === "try-now") poll();
});
tellTimes();
poll();
