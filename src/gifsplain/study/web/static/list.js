import { send } from "./common.js";

const dialog = document.getElementById("confirm");
const message = document.getElementById("message");
let read = 0;

for (const button of document.querySelectorAll("[data-finish]")) {
  button.addEventListener("click", () => {
    read = Number(button.dataset.finish);
    dialog.returnValue = "no";
    dialog.showModal();
  });
}

dialog.addEventListener("close", async () => {
  if (dialog.returnValue !== "yes") return;
  try {
    const answer = await send("/read/finish", { read });
    if (answer.ok) location.reload();
    else message.textContent = "The read could not be finished. Reload the page and try again.";
  } catch {
    message.textContent = "The server cannot be reached. Try again.";
  }
});

window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
