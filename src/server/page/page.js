"use strict";
// Asks for the page again every few seconds while somebody sees it, and takes over what has changed.
const INTERVAL = 3000;
const told = document.getElementById("told");
let waiting;

// Puts times into the clock of whoever reads them.
function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    const text = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    if (time.classList.contains("ago")) time.title = text;
    else time.textContent = text;
  }
}

// Changes nothing but what differs, so that the focus, a selection and a reader's place stay.
function adopt(old, fresh) {
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
    // What the reader has opened stays open.
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((child, index) => {
    if (index < before.length) adopt(before[index], child);
    else old.append(document.importNode(child, true));
  });
  before.slice(after.length).forEach((child) => child.remove());
}

function say(text) {
  if (told.textContent !== text) told.textContent = text;
}

async function refresh() {
  const answer = await fetch("/", { headers: { accept: "text/html" }, cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  localise(fresh);
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const found = fresh.getElementById(part.id);
    if (found) adopt(part, found);
  }
}

async function turn() {
  clearTimeout(waiting);
  if (document.hidden) return;
  try {
    await refresh();
    say("");
  } catch {
    say("The proxy does not answer. What is shown may be old.");
  }
  clearTimeout(waiting);
  waiting = setTimeout(turn, INTERVAL);
}

function offerCopies() {
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

localise(document);
offerCopies();
document.addEventListener("visibilitychange", turn);
waiting = setTimeout(turn, INTERVAL);
