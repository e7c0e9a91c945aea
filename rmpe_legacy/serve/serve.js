"use strict";

const form = document.querySelector("form");
const drop = document.getElementById("drop");
const input = document.getElementById("image");
const button = form.querySelector("button");
const status = document.getElementById("status");
const published = form.elements.published;
let image = null; // the photo to send
let poses = ""; // address of the JSON of the last result

function choose(file) {
  image = file;
  document.getElementById("file-name").textContent = file.name;
  button.disabled = false;
  run();
}

function tell(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

async function run() {
  if (!image || button.disabled) return;
  if (image.size > Number(form.dataset.maxUpload)) {
    tell(`${image.name} has more than ${form.dataset.maxUpload / 1e6} MB, which is the limit of this page.`, true);
    return;
  }
  button.disabled = true;
  tell("Looking for people …");
  try {
    const query = new URLSearchParams(new FormData(form));
    query.set("name", image.name);
    const response = await fetch(`view?${query}`, { method: "POST", body: image });
    if (response.ok) {
      show(await response.json());
      tell("");
    } else {
      tell(await response.text(), true);
    }
  } catch (error) {
    tell(`The server does not answer: ${error.message}. Is rmpe serve still running?`, true);
  }
  button.disabled = false;
}

function show(found) {
  const facts = document.getElementById("facts");
  facts.replaceChildren(...Object.entries(found.facts).flatMap(([name, value]) => {
    const term = document.createElement("dt"), definition = document.createElement("dd");
    term.textContent = name;
    definition.textContent = value;
    return [term, definition];
  }));
  document.getElementById("steps").innerHTML = found.section; // names are escaped, and no script in it would run
  URL.revokeObjectURL(poses);
  poses = URL.createObjectURL(new Blob([found.poses], { type: "application/json" }));
  document.getElementById("json").href = poses;
  document.getElementById("result").hidden = false;
  document.getElementById("note")?.remove(); // the result has its own
}

function showThreshold() {
  form.elements.threshold.placeholder = published.selectedOptions[0].dataset.threshold;
}

function showPublished() {
  published.value = form.elements.pose.selectedOptions[0].dataset.published;
  showThreshold();
}

form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
published.addEventListener("change", showThreshold);
form.elements.pose.addEventListener("change", showPublished);
input.addEventListener("change", () => { if (input.files.length) choose(input.files[0]); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
}
showPublished();
