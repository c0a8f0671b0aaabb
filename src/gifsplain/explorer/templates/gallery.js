"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const cards = [...get("grid").children];
  const kinds = ["target", "method", "worst"];

  function filter() {
    const words = get("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of cards) {
      const text = card.dataset.text.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && kinds.every((kind) => !get(kind).value || card.dataset[kind] === get(kind).value);
      card.hidden = !fits;
      shown += fits;
    }
    get("count").textContent = `${shown} of ${cards.length}`;
    get("none").hidden = shown > 0;
  }

  get("filters").addEventListener("input", filter);
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
