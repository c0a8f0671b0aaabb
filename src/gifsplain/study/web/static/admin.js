import { send } from "./common.js";

const message = document.getElementById("message");

async function act(path, content, done) {
  try {
    const answer = await send(path, content);
    if (answer.ok) done(answer);
    else message.textContent = answer.error ?? "That did not work. Reload the page.";
  } catch {
    message.textContent = "The server cannot be reached. Try again.";
  }
}

document.getElementById("lock").addEventListener("click", (event) => {
  act("/admin/lock", { locked: event.currentTarget.dataset.locked === "no" }, () => location.reload());
});
for (const button of document.querySelectorAll("[data-revoke]")) {
  button.addEventListener("click", () => act("/admin/revoke", { reader: Number(button.dataset.revoke) }, () => location.reload()));
}
for (const button of document.querySelectorAll("[data-renew]")) {
  button.addEventListener("click", () =>
    act("/admin/renew", { reader: Number(button.dataset.renew) }, (answer) => {
      message.textContent = `New link, shown once: ${location.origin}${answer.link}`;
    }));
}
