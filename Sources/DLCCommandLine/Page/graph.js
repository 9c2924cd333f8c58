// The graph: operations in layers, scopes as boxes that open and close.

/** Children of a scope that are shown at a time: more become parts in the order of the graph. */
const CROWD = 48;
const WIDTH = 190, HEIGHT = 40, GAP_X = 16, GAP_Y = 36;

/** The scopes as a tree. An entry is a node of the graph or a group of entries. */
function scopeTree(nodes) {
  const root = { name: "", path: "", entries: [], parent: null, size: 0, first: 0 };
  const groups = new Map();
  nodes.forEach((node, index) => {
    if (node.hidden) return;
    let group = root;
    root.size++;
    let path = "";
    for (const part of node.scope) {
      path += "/" + part;
      let next = groups.get(path);
      if (!next) {
        next = { name: part, path, entries: [], parent: group, size: 0, first: index };
        groups.set(path, next);
        group.entries.push(next);
      }
      group = next;
      group.size++;
    }
    const entry = { node: index, parent: group, first: index };
    node.entry = entry;
    group.entries.push(entry);
  });
  shorten(root);
  for (const group of [root, ...groups.values()]) crowdIntoParts(group);
  return root;
}

/** A scope with nothing but a scope in it is one with both names; one with a single operation is that operation. */
function shorten(group) {
  group.entries = group.entries.map((entry) => {
    if (!entry.entries) return entry;
    shorten(entry);
    if (entry.entries.length > 1) return entry;
    const only = entry.entries[0];
    only.parent = group;
    if (only.entries) only.name = `${entry.name}/${only.name}`;
    return only;
  });
}

/** Puts neighbours into parts of about equal size, until the group is no crowd. */
function crowdIntoParts(group) {
  const sizeOf = (entry) => (entry.entries ? entry.size : 1);
  for (let round = 0; group.entries.length > CROWD; round++) {
    const target = group.entries.reduce((sum, entry) => sum + sizeOf(entry), 0) / 12;
    const parts = [];
    let run = [];
    const close = () => {
      if (run.length === 1) parts.push(run[0]);
      if (run.length > 1) {
        const part = {
          name: `part ${parts.length + 1}`, isPart: true, path: `${group.path}/\u0000${round}.${parts.length}`,
          entries: run, parent: group, size: run.reduce((sum, entry) => sum + sizeOf(entry), 0), first: run[0].first,
        };
        run.forEach((entry) => (entry.parent = part));
        parts.push(part);
      }
      run = [];
    };
    for (const entry of group.entries) {
      if (entry.entries && sizeOf(entry) >= target) {
        close();
        parts.push(entry);
        continue;
      }
      run.push(entry);
      if (run.length >= 32 || run.reduce((sum, e) => sum + sizeOf(e), 0) >= target) close();
    }
    close();
    if (parts.length === group.entries.length) return;
    group.entries = parts;
  }
}

/** Least squares under x[i + 1] - x[i] >= distance[i]: pools neighbours that are too close. */
function spread(wanted, distance) {
  const blocks = [];
  let offset = 0;
  const offsets = wanted.map((_, i) => (i === 0 ? 0 : (offset += distance[i - 1])));
  wanted.forEach((x, i) => {
    blocks.push({ sum: x - offsets[i], count: 1 });
    for (;;) {
      const [a, b] = [blocks.at(-2), blocks.at(-1)];
      if (!a || a.sum / a.count <= b.sum / b.count) break;
      blocks.splice(-2, 2, { sum: a.sum + b.sum, count: a.count + b.count });
    }
  });
  return blocks.flatMap((block) => Array(block.count).fill(block.sum / block.count)).map((y, i) => y + offsets[i]);
}

/** Items (with `first`, their place in the graph's order) and edges between them, in layers. */
function layered(items, edges) {
  const points = items.map((item) => ({ item, layer: 0, up: [], down: [], width: WIDTH }));
  const index = new Map(items.map((item, i) => [item, i]));
  const lines = edges.map(({ from, to }) => {
    const [a, b] = [index.get(from), index.get(to)];
    return { from, to, isBack: from.first >= to.first, a, b, path: [] };
  });
  const sources = items.map(() => []), users = items.map(() => []);
  for (const line of lines) {
    if (line.isBack) continue;
    sources[line.b].push(line.a);
    users[line.a].push(line.b);
  }
  const order = items.map((_, i) => i).sort((a, b) => items[a].first - items[b].first);
  for (const i of order) points[i].layer = Math.max(0, ...sources[i].map((s) => points[s].layer + 1));
  // What only begins stands next to what it goes into.
  for (const i of order) {
    if (sources[i].length === 0 && users[i].length > 0) {
      points[i].layer = Math.max(0, Math.min(...users[i].map((u) => points[u].layer)) - 1);
    }
  }
  const all = [...points];
  const link = (a, b) => { a.down.push(b); b.up.push(a); };
  for (const line of lines) {
    if (line.isBack) continue;
    let last = points[line.a];
    const length = points[line.b].layer - last.layer;
    line.path.push(last);
    if (all.length < 8000) {
      for (let step = 1; step < length; step++) {
        const bend = { layer: last.layer + 1, up: [], down: [], width: 4 };
        all.push(bend);
        link(last, bend);
        line.path.push(bend);
        last = bend;
      }
    }
    link(last, points[line.b]);
    line.path.push(points[line.b]);
  }
  place(all);
  return { points, lines, all };
}

/** Orders each layer by where its neighbours are, then gives every point its place. */
function place(all) {
  const layers = [];
  for (const point of all) (layers[point.layer] ??= []).push(point);
  for (let i = 0; i < layers.length; i++) layers[i] ??= [];
  layers.forEach((layer) => layer.forEach((point, i) => (point.rank = i)));
  const mean = (list, key) => list.reduce((sum, point) => sum + point[key], 0) / list.length;
  for (let round = 0; round < 8; round++) {
    const isDown = round % 2 === 0;
    for (const layer of isDown ? layers : [...layers].reverse()) {
      for (const point of layer) {
        const near = isDown ? point.up : point.down;
        point.key = near.length ? mean(near, "rank") : point.rank;
      }
      layer.sort((a, b) => a.key - b.key || a.rank - b.rank);
      layer.forEach((point, i) => (point.rank = i));
    }
  }
  for (const layer of layers) {
    let x = 0;
    for (const point of layer) { point.x = x + point.width / 2; x += point.width + GAP_X; }
    for (const point of layer) point.x -= x / 2;
  }
  for (let round = 0; round < 12; round++) {
    const isDown = round % 2 === 0;
    for (const layer of isDown ? layers : [...layers].reverse()) {
      const wanted = layer.map((point) => {
        const near = round < 10 ? (isDown ? point.up : point.down) : [...point.up, ...point.down];
        return near.length ? mean(near, "x") : point.x;
      });
      const distance = layer.slice(1).map((point, i) => (point.width + layer[i].width) / 2 + GAP_X);
      spread(wanted, distance).forEach((x, i) => (layer[i].x = x));
    }
  }
  for (const point of all) point.y = point.layer * (HEIGHT + GAP_Y);
}

function edgePath(line, points) {
  if (line.isBack) {
    const [a, b] = [points[line.a], points[line.b]];
    const right = Math.max(a.x, b.x) + WIDTH / 2 + 30;
    return `M${a.x + WIDTH / 2} ${a.y + HEIGHT / 2}C${right} ${a.y + HEIGHT / 2} ${right} ${b.y + HEIGHT / 2} ${b.x + WIDTH / 2} ${b.y + HEIGHT / 2}`;
  }
  let text = "";
  line.path.forEach((point, i) => {
    const isBend = !point.item;
    if (i === 0) { text = `M${point.x} ${point.y + HEIGHT}`; return; }
    const before = line.path[i - 1];
    const [y0, y1] = [before.y + HEIGHT, point.y - (isBend ? 0 : 5)];
    const middle = (y0 + y1) / 2;
    text += `C${before.x} ${middle} ${point.x} ${middle} ${point.x} ${y1}`;
    if (isBend) text += `V${point.y + HEIGHT}`;
  });
  return text;
}

function graphSection() {
  const nodes = data.graph.nodes;
  nodes.forEach((node) => (node.users = []));
  nodes.forEach((node, index) => node.from.forEach((source) => nodes[source].users.push(index)));
  const states = nodes.filter((node) => node.kind === "state" || node.kind === "update").length;
  let showsStates = states > 0 && states <= 12 && nodes.length <= 80;
  let root, items = [], selected = null, scale = 1, drawing = null, open = new Set();

  const stage = html("div", { class: "stage" });
  const details = html("aside", { class: "details", "aria-live": "polite", "aria-label": "What is selected" });
  const said = html("span", { class: "quiet", role: "status" });

  const heat = (entry) => {
    const path = entry.path?.slice(1);
    return entry.entries && !entry.isPart && Object.hasOwn(data.heat, path) ? data.heat[path] : 0;
  };

  /** Opens the outermost groups, level by level, as long as no more than so many items are shown. */
  function openSome(limit) {
    open = new Set();
    let [level, shown] = [root.entries.filter((entry) => entry.entries), root.entries.length];
    while (level.length) {
      const more = level.reduce((sum, group) => sum + group.entries.length - 1, 0);
      if (shown + more > limit) break;
      shown += more;
      level.forEach((group) => open.add(group));
      level = level.flatMap((group) => group.entries.filter((entry) => entry.entries));
    }
    return shown;
  }

  function openMore() {
    let limit = items.length;
    const [before, old] = [items.length, open];
    do limit *= 2; while (limit < 2000 && openSome(limit) <= before);
    if (openSome(Math.min(limit, 2000)) <= before) {
      open = old;
      said.textContent = "There would be too many at a time: open scopes one by one.";
      return;
    }
    draw();
    fit();
  }

  function rebuild() {
    nodes.forEach((node) => {
      node.entry = undefined;
      node.hidden = node.kind === "constant" || (!showsStates && (node.kind === "state" || node.kind === "update"));
    });
    root = scopeTree(nodes);
    openSome(64);
  }

  const shownAs = (entry) => {
    let shown = entry;
    for (let group = entry.parent; group; group = group.parent) if (group !== root && !open.has(group)) shown = group;
    return shown;
  };

  function draw(focus) {
    items = [];
    const visit = (group) => group.entries.forEach((entry) => (entry.entries && open.has(entry) ? visit(entry) : items.push(entry)));
    visit(root);
    const edges = new Map();
    nodes.forEach((node) => {
      if (!node.entry) return;
      const to = shownAs(node.entry);
      for (const source of node.from) {
        if (!nodes[source].entry) continue;
        const from = shownAs(nodes[source].entry);
        if (from === to) continue;
        const uses = edges.get(from) ?? edges.set(from, new Set()).get(from);
        uses.add(to);
      }
    });
    const list = [...edges].flatMap(([from, uses]) => [...uses].map((to) => ({ from, to })));
    drawing = layered(items, list);
    render();
    if (selected) select(items.includes(selected) ? selected : shownAs(selected), focus);
    said.textContent = `${items.length} of ${nodes.length} shown`;
  }

  function render() {
    const { points, lines, all } = drawing;
    const left = Math.min(0, ...all.map((p) => p.x - p.width / 2)) - 40;
    const right = Math.max(0, ...all.map((p) => p.x + p.width / 2)) + 60;
    const height = Math.max(0, ...all.map((p) => p.y)) + HEIGHT + 40;
    const picture = svg("svg", {
      viewBox: `${left} -20 ${right - left} ${height}`, role: "group",
      "aria-label": "The graph; arrow keys follow edges, Enter opens a scope, Backspace closes the one around",
    });
    picture.append(svg("defs", {}, svg("marker", { id: "tip", viewBox: "0 0 6 6", refX: 1, refY: 3, markerWidth: 6, markerHeight: 6, orient: "auto" },
      svg("path", { class: "tip", d: "M0 0L6 3L0 6z" }))));
    for (const line of lines) {
      line.mark = svg("path", { class: line.isBack ? "edge back" : "edge", d: edgePath(line, points), "marker-end": "url(#tip)" });
      picture.append(line.mark);
    }
    for (const point of points) picture.append(itemMark(point));
    picture.addEventListener("keydown", onKey);
    stage.replaceChildren(picture);
    drawing.size = [right - left, height];
    drawing.picture = picture;
    zoom(scale);
    const first = points.length ? points.reduce((a, b) => (b.item.first < a.item.first ? b : a)) : null;
    if (first) first.mark.setAttribute("tabindex", 0);
  }

  function itemMark(point) {
    const { item } = point;
    const isGroup = !!item.entries;
    const node = isGroup ? null : nodes[item.node];
    const isPort = node && node.kind !== "operation";
    const name = isGroup ? groupName(item) : node.name;
    const sub = isGroup ? counted(item.size, "operation") : node.type;
    const owner = isGroup ? item.path.split("/")[1] ?? "" : node.scope[0] ?? "";
    const [x, y] = [point.x - WIDTH / 2, point.y];
    const share = heat(item);
    const mark = svg("g", {
      class: `item ${isGroup ? "group" : isPort ? "port" : "operation"}`, tabindex: -1, role: "button",
      "aria-expanded": isGroup ? "false" : null, "aria-label": `${name}, ${sub}`,
      onclick: () => (isGroup && selected === item ? toggle(item) : select(item, true)),
      ondblclick: () => isGroup && open.has(item) === false && toggle(item),
    },
      isGroup && svg("rect", { class: "box", x: x + 4, y: y - 4, width: WIDTH, height: HEIGHT, rx: 6 }),
      svg("rect", { class: "box", x, y, width: WIDTH, height: HEIGHT, rx: isPort ? HEIGHT / 2 : 6 }),
      !isPort && svg("rect", { x, y: y + 6, width: 4, height: HEIGHT - 12, rx: 2, fill: colour(owner.replace(/\u0000.*/, "")) }),
      svg("text", { class: "name", x: x + (isPort ? 18 : 12), y: y + 17 }, clip(name, isGroup ? 23 : 26)),
      svg("text", { class: "sub", x: x + (isPort ? 18 : 12), y: y + 31 }, clip(share ? `${sub} · ${(100 * share).toFixed(1)} %` : sub, 34)),
      svg("title", {}, isGroup ? `${name}: Enter or a second click opens it` : node.text || name));
    if (share) mark.append(svg("rect", { x: x + 6, y: y + HEIGHT - 3.5, width: (WIDTH - 12) * Math.min(1, share), height: 2.5, fill: "var(--mark)" }));
    for (const extra of [...mark.childNodes]) if (extra.nodeType === 3) extra.remove();
    point.mark = mark;
    return mark;
  }

  function groupName(group) {
    if (!group.isPart) return group.name;
    const [first, last] = [firstNode(group), lastNode(group)];
    return `${group.name}: ${first.name} … ${last.name}`;
  }
  const firstNode = (entry) => (entry.entries ? firstNode(entry.entries[0]) : nodes[entry.node]);
  const lastNode = (entry) => (entry.entries ? lastNode(entry.entries.at(-1)) : nodes[entry.node]);

  function toggle(group) {
    if (open.has(group)) {
      const inside = (entry) => { for (let g = entry; g; g = g.parent) if (g === group) return true; return false; };
      for (const other of [...open]) if (inside(other)) open.delete(other);
      selected = group;
    } else {
      open.add(group);
      selected = group.entries[0];
    }
    draw(true);
  }

  function select(item, focus) {
    selected = item;
    for (const point of drawing.points) {
      point.mark.classList.remove("selected", "near");
      point.mark.setAttribute("tabindex", -1);
    }
    for (const line of drawing.lines) {
      const isNear = line.from === item || line.to === item;
      line.mark.classList.toggle("near", isNear);
      if (isNear) drawing.points[line.from === item ? line.b : line.a].mark.classList.add("near");
    }
    const point = drawing.points.find((p) => p.item === item);
    if (!point) return;
    point.mark.classList.add("selected");
    point.mark.setAttribute("tabindex", 0);
    if (focus) {
      point.mark.focus({ preventScroll: true });
      reveal(point);
    }
    describe(item);
  }

  function reveal(point) {
    const box = point.mark.querySelector(".box").getBoundingClientRect();
    const view = stage.getBoundingClientRect();
    if (box.left < view.left || box.right > view.right) stage.scrollLeft += box.left - view.left - view.width / 2 + box.width / 2;
    if (box.top < view.top || box.bottom > view.bottom) stage.scrollTop += box.top - view.top - view.height / 2 + box.height / 2;
  }

  function jump(index) {
    if (!nodes[index].entry) {
      if (nodes[index].kind === "constant") return;
      showsStates = statesBox.checked = true;
      const old = new Set([...open].map((group) => group.path));
      rebuild();
      const reopen = (group) => group.entries.forEach((e) => { if (e.entries) { if (old.has(e.path)) open.add(e); reopen(e); } });
      reopen(root);
    }
    for (let group = nodes[index].entry.parent; group && group !== root; group = group.parent) open.add(group);
    selected = nodes[index].entry;
    draw(true);
  }

  const toNode = (index) => {
    const node = nodes[index];
    const label = `${node.name} : ${clip(node.type, 60)}`;
    return html("li", {}, node.kind === "constant" ? label : html("button", { type: "button", class: "link", onclick: () => jump(index) }, label));
  };

  function describe(item) {
    const parts = [];
    if (item.entries) {
      const counts = new Map();
      const visit = (entry) => {
        if (entry.entries) entry.entries.forEach(visit);
        else counts.set(nodes[entry.node].name, (counts.get(nodes[entry.node].name) ?? 0) + 1);
      };
      visit(item);
      parts.push(html("h3", {}, groupName(item)), html("p", { class: "quiet" }, counted(item.size, "operation")),
        html("button", { type: "button", onclick: () => toggle(item) }, "Open"),
        html("h4", {}, "Operations"),
        html("ul", {}, [...counts].sort((a, b) => b[1] - a[1]).slice(0, 24).map(([name, count]) => html("li", {}, `${count} × ${name}`))));
    } else {
      const node = nodes[item.node];
      parts.push(html("h3", {}, node.name), html("pre", {}, node.text || node.type));
      if (node.place) parts.push(html("h4", {}, "Built at"), html("code", {}, node.place));
      const lists = [["Reads", node.from], ["Read by", node.users]];
      for (const [title, list] of lists) {
        if (list.length) parts.push(html("h4", {}, title), html("ul", {}, list.slice(0, 40).map(toNode), list.length > 40 ? html("li", { class: "quiet" }, `and ${list.length - 40} more`) : null));
      }
    }
    const around = [];
    for (let group = item.parent; group && group !== root; group = group.parent) around.unshift(group);
    if (around.length) {
      parts.push(html("h4", {}, "Inside of"), html("ul", {}, around.map((group) =>
        html("li", {}, html("button", { type: "button", class: "link", onclick: () => toggle(group) }, `close ${groupName(group)}`)))));
    }
    details.replaceChildren(...parts);
  }

  function onKey(event) {
    if (!selected) selected = drawing.points.find((p) => p.mark === event.target)?.item;
    const point = drawing.points.find((p) => p.item === selected);
    if (!point) return;
    const next = (list) => list.filter((p) => p).sort((a, b) => Math.abs(a.x - point.x) - Math.abs(b.x - point.x))[0];
    const through = (key) => {
      const reached = [];
      const follow = (p) => p[key].forEach((q) => (q.item ? reached.push(q) : follow(q)));
      follow(point);
      return next(reached);
    };
    const beside = (sign) => drawing.points.filter((p) => p.layer === point.layer && sign * (p.x - point.x) > 0)
      .sort((a, b) => sign * (a.x - b.x))[0];
    let target;
    switch (event.key) {
      case "ArrowUp": target = through("up"); break;
      case "ArrowDown": target = through("down"); break;
      case "ArrowLeft": target = beside(-1); break;
      case "ArrowRight": target = beside(1); break;
      case "Enter": case " ": if (point.item.entries) toggle(point.item); else select(point.item, true); break;
      case "Backspace": case "Escape": if (point.item.parent !== root) toggle(point.item.parent); break;
      default: return;
    }
    event.preventDefault();
    if (target) select(target.item, true);
  }

  function zoom(to) {
    scale = Math.max(0.05, Math.min(2.5, to));
    drawing.picture.setAttribute("width", drawing.size[0] * scale);
    drawing.picture.setAttribute("height", drawing.size[1] * scale);
  }
  const fit = () => zoom(Math.min(1, Math.max(0.35, (stage.offsetWidth - 24) / drawing.size[0])));

  let found = [], place = -1;
  const search = html("input", { type: "search", placeholder: "Find an operation, scope or line", "aria-label": "Find in the graph",
    oninput: () => { place = -1; found = []; },
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      const wanted = search.value.trim().toLowerCase();
      if (!wanted) return;
      if (place < 0) {
        found = nodes.map((_, i) => i).filter((i) => nodes[i].kind !== "constant"
          && [nodes[i].name, nodes[i].type, nodes[i].scope.join("/"), nodes[i].place, nodes[i].text].some((t) => t.toLowerCase().includes(wanted)));
      }
      if (!found.length) { said.textContent = "nothing found"; return; }
      place = (place + (event.shiftKey ? found.length - 1 : 1)) % found.length;
      jump(found[place]);
      search.focus();
      said.textContent = `${place + 1} of ${found.length} found`;
    } });
  const statesBox = html("input", { type: "checkbox", onchange: () => { showsStates = statesBox.checked; rebuild(); selected = null; draw(); fit(); } });
  statesBox.checked = showsStates;
  const button = (name, action) => html("button", { type: "button", onclick: action }, name);
  section("graph", "Graph",
    html("p", { class: "quiet" }, "Operations in the order in which values flow, downwards; scopes are boxes that open. "
      + "A click selects, a second click opens a scope; with the keyboard arrows follow edges, Enter opens and Backspace closes."),
    html("div", { class: "bar" }, search,
      button("Open more", openMore),
      button("Close all", () => { open = new Set(); selected = null; draw(); fit(); }),
      button("−", () => zoom(scale / 1.25)), button("+", () => zoom(scale * 1.25)), button("Fit", fit),
      states ? html("label", {}, statesBox, counted(states, "parameter and state port")) : null, said),
    html("div", { class: "graph" }, stage, details));
  rebuild();
  draw();
  fit();
  details.append(html("p", { class: "quiet" }, "Nothing is selected."));
}
