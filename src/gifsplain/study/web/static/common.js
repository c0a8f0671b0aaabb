// Shared by all pages: safe writes, random names, theme, leaving.
export const body = document.body;

export function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export async function send(path, content, options = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": body.dataset.csrf ?? "" },
    body: JSON.stringify(content),
    credentials: "same-origin",
    redirect: "error",
    ...options,
  });
  const text = await response.text();
  let answer = {};
  try { answer = JSON.parse(text); } catch { answer = { error: text }; }
  return { status: response.status, ok: response.ok, ...answer };
}

document.getElementById("theme")?.addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
});

document.getElementById("leave")?.addEventListener("click", async () => {
  const answer = await send(body.dataset.role === "admin" ? "/admin/leave" : "/leave", {});
  location.assign(answer.next ?? "/enter");
});

for (const time of document.querySelectorAll("time")) {
  time.textContent = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });
}
