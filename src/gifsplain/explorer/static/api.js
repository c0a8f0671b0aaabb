// Requests to the explorer's own server; every failure becomes one Error whose message can be shown.
export class Problem extends Error {
  constructor(kind, message) { super(message); this.kind = kind; }
}

async function answer(request) {
  let reply;
  try { reply = await request; } catch { throw new Problem("Network", "The explorer does not answer; is it still running?"); }
  if (reply.ok) return reply;
  const body = await reply.json().catch(() => null);
  throw new Problem(body?.error?.kind ?? "Fault", body?.error?.message ?? `The explorer answered ${reply.status}.`);
}

const json = async (request) => (await answer(request)).json();
const post = (path, body) => fetch(path, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}),
});

export const options = () => json(fetch("/api/options"));
export const example = () => json(post("/api/pictures/example"));
export const upload = (file, colour) => json(fetch(`/api/pictures?colour=${colour}`, {
  method: "POST", body: file,
  headers: { "content-type": "application/octet-stream", "x-name": encodeURIComponent(file.name) },
}));
export const scores = (picture, classifier, autoencoder) =>
  json(fetch(`/api/pictures/${picture}/scores?${new URLSearchParams({ classifier, autoencoder })}`));
export const explain = (wish) => json(post("/api/explanations", wish));

export async function image(path) {
  const blob = await (await answer(fetch(path))).blob();
  return createImageBitmap(blob);
}
