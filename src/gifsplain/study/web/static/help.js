import "./common.js";

const box = document.getElementById("keys");
box.checked = localStorage.getItem("keys") !== "off";
box.addEventListener("change", () => localStorage.setItem("keys", box.checked ? "on" : "off"));
