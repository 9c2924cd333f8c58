"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

// What comes from a model file becomes text nodes and attribute values only, never markup.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}
const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const clip = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
  return `${unit === 0 ? count : count.toFixed(count < 10 ? 2 : 1)} ${units[unit]}`;
}
function quantity(count) {
  for (const [unit, size] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (count >= size) return `${(count / size).toFixed(count / size < 10 ? 2 : 1)} ${unit}`;
  }
  return `${count}`;
}
/** The same colour for the same scope in every drawing. */
function colour(name) {
  let hash = 2166136261;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 16777619) >>> 0;
  return name ? `hsl(${(hash * 137.508) % 360} var(--saturation) var(--lightness))` : "var(--edge)";
}

/** A table that is sorted by a click on a column's head. Columns: name, value, show, left, class. */
function sortable(caption, columns, rows, sorted, foot) {
  const body = html("tbody");
  const heads = columns.map((column, index) =>
    html("th", { scope: "col", class: column.left && "left" },
      html("button", { type: "button", onclick: () => sort(index, column.left ? "ascending" : "descending") }, column.name)));
  function sort(index, first) {
    const now = heads[index].getAttribute("aria-sort");
    const direction = now === null ? first : now === "ascending" ? "descending" : "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[index].setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const value = columns[index].value;
    const order = [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    });
    body.replaceChildren(...order.map((row) =>
      html("tr", {}, columns.map((column) =>
        html("td", { class: [column.left && "left", column.class].filter(Boolean).join(" ") || null },
          column.show ? column.show(row) : `${column.value(row)}`)))));
  }
  sort(sorted, columns[sorted].left ? "ascending" : "descending");
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    html("table", { "aria-label": caption }, html("thead", {}, html("tr", {}, heads)), body,
      foot && html("tfoot", {}, html("tr", {}, foot))));
}

/** A number behind a bar of its share. */
function metered(share, text) {
  const bar = html("i");
  bar.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`;
  return html("span", { class: "metered" }, html("span", { class: "meter", "aria-hidden": "true" }, bar), text);
}

function section(id, title, ...children) {
  document.querySelector("nav").append(html("a", { href: `#${id}` }, title));
  document.querySelector("main").append(
    html("section", { id, "aria-labelledby": `${id}-title` }, html("h2", { id: `${id}-title` }, title), children));
}
