// One case: answers are queued, sent in order and repeated until the server has them; keys; time in view.
import { body, randomName, send } from "./common.js";
import { Player } from "./player.js";

const path = `/case/${body.dataset.case}`;
const opening = randomName();
const locked = "locked" in body.dataset;
const saved = document.getElementById("saved");
const fieldsets = [...document.querySelectorAll("fieldset[data-question]")];
const comment = document.getElementById("comment");
const players = [...document.querySelectorAll(".player")].map((root) => new Player(root, missing));
const queue = [];
let working = null;

// --- a case that cannot be seen whole takes no answer ------------------------------------------------------------
function missing() {
  document.getElementById("missing").textContent =
    "A picture of this case could not be loaded. Reload the page before you answer; where that does not help, tell whoever runs the study.";
  for (const set of fieldsets) set.disabled = true;
}
for (const image of document.querySelectorAll(".panels img")) {
  if (image.complete && !image.naturalWidth) missing();
  else image.addEventListener("error", missing);
}

// --- saving ---------------------------------------------------------------------------------------------------
function say(text, kind = "") {
  saved.textContent = text;
  saved.dataset.kind = kind;
}

function enqueue(part, content) {
  queue.push({ part, content: { ...content, request: randomName() } });
  say("Saving …");
  working ??= drain().finally(() => { working = null; });
}

async function drain() {
  for (let wait = 500; queue.length;) {
    let answer = { status: 0 };
    try { answer = await send(`${path}/${queue[0].part}`, queue[0].content); } catch { /* offline: tried again below */ }
    if (answer.ok) {
      queue.shift();
      wait = 500;
    } else if (answer.status === 0 || answer.status === 503 || answer.status >= 500) {
      say("Not saved yet – trying again", "bad");
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(8000, wait * 2);
    } else {
      queue.length = 0;
      say(refusal(answer.status), "bad");
      return;
    }
  }
  say("Saved", "good");
}

function refusal(status) {
  if (status === 409) return "Locked – this answer was not changed";
  if (status === 401 || status === 403) return "Not saved – enter again with your link";
  return "Not saved – reload the page";
}

window.addEventListener("beforeunload", (event) => { if (queue.length) event.preventDefault(); });

// --- questions ------------------------------------------------------------------------------------------------
const value = (set) => set.querySelector("input:checked")?.value;
const complete = () => fieldsets.every(value);

function mark(set) {
  for (const other of fieldsets) other.toggleAttribute("data-active", other === set);
}

function markNext(after) {
  mark(fieldsets.find((set) => !value(set)) ?? fieldsets[fieldsets.indexOf(after) + 1] ?? fieldsets.at(-1));
}

for (const set of fieldsets) {
  set.addEventListener("focusin", () => mark(set));
  set.addEventListener("change", () => {
    enqueue("answer", { question: set.dataset.question, value: Number(value(set)), opening });
  });
}
if (!locked) markNext(null);

function answerActive(number) {
  const set = fieldsets.find((s) => s.hasAttribute("data-active"));
  const input = set?.querySelector(`input[value="${number}"]`);
  if (!input || set.disabled) return;
  if (!input.checked) {
    input.checked = true;
    set.dispatchEvent(new Event("change"));
  }
  markNext(set);
}

// --- comment --------------------------------------------------------------------------------------------------
let typing = null;
let sentComment = comment.value;
function saveComment() {
  clearTimeout(typing);
  if (comment.value !== sentComment) {
    sentComment = comment.value;
    enqueue("comment", { text: comment.value });
  }
}
comment.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(saveComment, 1000); });
comment.addEventListener("blur", saveComment);

// --- going on -------------------------------------------------------------------------------------------------
async function go(key) {
  saveComment();
  if (!locked && complete()) enqueue("done", {});
  while (working) await working;
  if (queue.length === 0 && saved.dataset.kind !== "bad") location.assign(key ? `/case/${key}` : "/");
}
document.getElementById("next").addEventListener("click", () => go(body.dataset.next));
document.getElementById("previous")?.addEventListener("click", () => go(body.dataset.previous));

// --- keys -----------------------------------------------------------------------------------------------------
document.addEventListener("keydown", (event) => {
  const writing = event.target === comment;
  if (writing && event.key === "Escape") { comment.blur(); return; }
  if (writing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (localStorage.getItem("keys") === "off") return;
  const onControl = event.target.closest?.("button, a, summary, input[type=range]");
  const key = event.key.toLowerCase();
  if (/^[1-9]$/.test(key) && Number(key) <= Number(body.dataset.points)) answerActive(Number(key));
  else if (key === "enter" && !onControl && complete()) go(body.dataset.next);
  else if (key === "n") go(body.dataset.next);
  else if (key === "p" && body.dataset.previous) go(body.dataset.previous);
  else if (key === " " && !onControl) players.forEach((p) => p.toggle());
  else if (key === ",") players.forEach((p) => p.step(-1));
  else if (key === ".") players.forEach((p) => p.step(1));
  else if (key === "c") { document.querySelector("details.comment").open = true; comment.focus(); }
  else return;
  event.preventDefault();
});

// --- enlarged pictures ----------------------------------------------------------------------------------------
const large = document.getElementById("large");
for (const button of document.querySelectorAll("[data-enlarge]")) {
  button.addEventListener("click", () => {
    const [from, to] = [button.querySelector("img"), large.querySelector("img")];
    to.src = from.src;
    to.alt = from.alt;
    large.showModal();
  });
}
large.addEventListener("click", () => large.close());

// --- time in view: the server stamps, the page only says what happens --------------------------------------------
function report(kind) {
  send(`${path}/view`, { kind, opening }, { keepalive: true }).catch(() => { /* a lost sign of life costs seconds only */ });
}
if (!locked) {
  if (document.visibilityState === "visible") report("visible");
  document.addEventListener("visibilitychange", () => report(document.visibilityState === "visible" ? "visible" : "hidden"));
  window.addEventListener("pagehide", () => { if (document.visibilityState === "visible") report("hidden"); });
  setInterval(() => { if (document.visibilityState === "visible") report("beat"); }, 15000);
}
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
