// Runs before the page is drawn, so that a light page never flashes in a dark room.
const chosen = localStorage.getItem("theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
