// One row as an element. Text is only ever set as text; colours are classes, or a variable for those that have no name.

import { lasting } from "./log-stages.js";

function made(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// `look`: { marked, current, query, section, words, ending }
export function rowElement(row, number, look) {
  const element = made("div", "log-row");
  if (row === null) {
    element.classList.add("log-coming");
    element.append(made("span", "log-number"), made("span", "log-text", "…"));
    return element;
  }
  if (look.marked) element.classList.add("log-marked");
  if (look.current) element.classList.add("log-current");
  element.append(numberOf(row));
  if (look.section) {
    element.classList.add("log-stage");
    element.append(fold(look.section, number, look.words));
  } else if (look.ending) {
    element.classList.add("log-stage-end");
    element.append(made("span", "log-text", `╰ ${look.ending.detail || "done"}`));
  } else element.append(text(row, look.query));
  return element;
}

function numberOf(row) {
  if (row.continued) return made("span", "log-number", "⋯");
  const link = made("a", "log-number", String(row.line + 1));
  link.href = `#L${row.line + 1}`;
  link.setAttribute("aria-label", `Line ${row.line + 1}`);
  link.tabIndex = -1;
  return link;
}

function fold(section, number, words) {
  const button = made("button", "log-fold");
  button.type = "button";
  button.dataset.foldAt = String(number);
  button.setAttribute("aria-expanded", String(!section.folded));
  button.append(made("span", "log-fold-sign"), made("span", "log-fold-words", words));
  const took = section.endedAt ? lasting(section.at, section.endedAt) : "running";
  button.append(made("span", "log-fold-took", took));
  if (section.detail && section.folded) button.append(made("span", "log-fold-took", section.detail));
  return button;
}

function text(row, query) {
  const place = made("span", "log-text");
  const hits = query ? found(row.pieces.map((piece) => piece.text).join(""), query) : [];
  let at = 0;
  for (const piece of row.pieces) {
    for (const part of split(piece.text, at, hits)) place.append(span(part.text, piece, part.hit));
    at += piece.text.length;
  }
  return place;
}

function span(words, piece, hit) {
  const classes = classesOf(piece);
  if (!classes.length && !hit) return document.createTextNode(words);
  const element = made(hit ? "mark" : "span", classes.join(" "), words);
  for (const [side, colour] of [["fg", piece.style.fg], ["bg", piece.style.bg]]) {
    if (colour.startsWith("#") && !piece.control) element.style.setProperty(`--${side}`, colour);
  }
  return element;
}

// The classes that a piece is shown with.
export function classesOf({ style, control }) {
  if (control) return ["log-control"];
  const names = ["bold", "dim", "italic", "underline", "strike", "inverse"].filter((name) => style[name]).map((name) => `ansi-${name}`);
  if (style.fg) names.push(style.fg.startsWith("#") ? "ansi-fg" : `ansi-fg-${style.fg}`);
  if (style.bg) names.push(style.bg.startsWith("#") ? "ansi-bg" : `ansi-bg-${style.bg}`);
  return names;
}

// Where the query is in the text; ASCII letters count as equal in both cases, as they do for the server.
export function found(text, query) {
  const hits = [];
  const [where, what] = [lower(text), lower(query)];
  for (let at = where.indexOf(what); at >= 0 && what; at = where.indexOf(what, at + what.length)) hits.push([at, at + what.length]);
  return hits;
}

const lower = (text) => text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());

// A text that begins at `at` of a row, cut at the edges of hits.
export function split(text, at, hits) {
  const parts = [];
  let done = 0;
  for (const [from, to] of hits) {
    const [begin, end] = [Math.max(from - at, done), Math.min(to - at, text.length)];
    if (begin >= end) continue;
    if (begin > done) parts.push({ text: text.slice(done, begin), hit: false });
    parts.push({ text: text.slice(begin, end), hit: true });
    done = end;
  }
  if (done < text.length) parts.push({ text: text.slice(done), hit: false });
  return parts;
}
