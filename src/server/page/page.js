"use strict";
// Fetches the page every few seconds while it is visible, and updates what has changed.
const INTERVAL = 3000;
const statusLine = document.getElementById("status");
let timer;

// Shows times in the reader's time zone.
function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    const text = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    if (time.classList.contains("ago")) time.title = text;
    else time.textContent = text;
  }
}

// Changes only what differs, so that focus, selection and scroll position stay.
function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName || old.nodeType !== fresh.nodeType) {
    old.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Keeps opened details open.
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((child, index) => {
    if (index < before.length) patch(before[index], child);
    else old.append(document.importNode(child, true));
  });
  before.slice(after.length).forEach((child) => child.remove());
}

function showStatus(text) {
  if (statusLine.textContent !== text) statusLine.textContent = text;
}

async function refresh() {
  const response = await fetch("/", { headers: { accept: "text/html" }, cache: "no-store" });
  if (!response.ok) throw new Error(String(response.status));
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  localize(fresh);
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const found = fresh.getElementById(part.id);
    if (found) patch(part, found);
  }
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    await refresh();
    showStatus("");
  } catch {
    showStatus("The proxy does not answer. This page may be out of date.");
  }
  clearTimeout(timer);
  timer = setTimeout(poll, INTERVAL);
}

function addCopyButtons() {
  if (!navigator.clipboard) return;
  for (const recipe of document.querySelectorAll("#clients pre")) {
    const button = document.createElement("button");
    const title = recipe.parentElement.querySelector("h3").textContent;
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${title}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(recipe.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    recipe.before(button);
  }
}

localize(document);
addCopyButtons();
document.addEventListener("visibilitychange", poll);
timer = setTimeout(poll, INTERVAL);
