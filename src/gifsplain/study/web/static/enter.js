import { body, send } from "./common.js";

const form = document.getElementById("enter");
const field = document.getElementById("token");
const message = document.getElementById("message");

async function enter(token) {
  message.textContent = "";
  let answer;
  try {
    answer = await send(body.dataset.enter, { token });
  } catch {
    answer = { error: "The server cannot be reached. Try again." };
  }
  if (answer.ok) location.replace(answer.next);
  else message.textContent = answer.error === "not understood" ? "That is no invitation code." : answer.error;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(field.value.trim().split("#").pop());
});

function enterByLink() {
  if (location.hash.length < 2) return;
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname); // the secret leaves the address bar and the history
  enter(token);
}
window.addEventListener("hashchange", enterByLink); // a link pasted into an open entry page does not load it again
enterByLink();
