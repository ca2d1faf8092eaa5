"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const make = (name, text, parent) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
at("title").textContent = data.title;
at("subtitle").textContent = data.subtitle;

function addFigures(group, parent) {
  if (group.title) make("h3", group.title, parent).className = group.kind;
  const grid = make("div", undefined, parent);
  grid.className = `figures ${group.kind}`;
  for (const each of group.figures) {
    const figure = make("figure", undefined, grid);
    const picture = make("img", undefined, figure);
    picture.alt = each.caption;
    picture.width = each.width;
    picture.height = each.height;
    picture.src = each.src;
    make("figcaption", each.caption, figure);
  }
}

function addTable(table, parent) {
  const scroll = make("div", undefined, parent);
  scroll.className = "scroll";
  scroll.tabIndex = 0;
  const node = make("table", undefined, scroll);
  const head = make("tr", undefined, make("thead", undefined, node));
  for (const name of table.head) make("th", name, head).scope = "col";
  const body = make("tbody", undefined, node);
  for (const row of table.rows) {
    const line = make("tr", undefined, body);
    for (const cell of row) make("td", cell, line);
  }
}

for (const section of data.sections) {
  const node = make("section", undefined, at("sections"));
  let inner = node;
  if (section.folds) {
    inner = make("details", undefined, node);
    inner.open = section.open;
    make("summary", section.title, inner);
  } else make("h2", section.title, node);
  if (section.text) make("p", section.text, inner);
  for (const group of section.groups) addFigures(group, inner);
  for (const table of section.tables) addTable(table, inner);
}
at("size").addEventListener("input", () => document.body.style.setProperty("--size", `${at("size").value}px`));
at("remarks").hidden = !data.notes.length;
for (const note of data.notes) make("li", note, at("notes"));
document.documentElement.dataset.ready = "true";
