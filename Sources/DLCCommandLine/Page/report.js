// The kernels and the memory plan.

/** A name that may go on in the next line behind each underscore. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part) => [part, html("wbr")]);

function kernelSection() {
  const { rows, timed, peak, total } = data.kernels;
  const origins = (row) => {
    const [first, rest] = [row.of.slice(0, 2), row.of.slice(2)];
    const lines = (list) => list.map((origin) => html("div", {}, origin));
    return [...lines(first), rest.length ? html("details", {}, html("summary", {}, `${rest.length} more`), lines(rest)) : null];
  };
  const most = Math.max(...rows.map((row) => row.seconds), 1e-300);
  const rate = (work, seconds) => (seconds > 0 ? (work / seconds / 1e9).toFixed(1) : "–");
  const columns = [{ name: "Kernel", left: true, class: "name mono", value: (r) => r.name, show: (r) => breakable(r.name) }];
  if (timed) {
    columns.push(
      { name: "ms", value: (r) => r.seconds, show: (r) => metered(r.seconds / most, (1e3 * r.seconds).toFixed(3)) },
      { name: "Share", value: (r) => r.seconds, show: (r) => `${(100 * r.seconds / total.seconds).toFixed(1)} %` },
      { name: "Steps", value: (r) => r.steps },
      { name: "GFLOP/s", value: (r) => r.flops / r.seconds, show: (r) => rate(r.flops, r.seconds) },
      { name: "GB/s", value: (r) => r.bytes / r.seconds, show: (r) => rate(r.bytes, r.seconds) },
      { name: "Of the peak", value: (r) => r.peak, show: (r) => metered(r.peak, `${(100 * r.peak).toFixed(0)} %`) });
  } else {
    columns.push(
      { name: "Steps", value: (r) => r.steps },
      { name: "FLOP", value: (r) => r.flops, show: (r) => quantity(r.flops) },
      { name: "Bytes moved", value: (r) => r.bytes, show: (r) => bytes(r.bytes) });
  }
  columns.push({ name: "Computes", left: true, class: "wide", value: (r) => r.of[0] ?? "", show: origins });
  const cell = (text, isLeft) => html("td", { class: isLeft ? "left" : null }, text);
  const foot = timed
    ? [cell(`Total of ${counted(rows.length, "kernel")}`, true), cell((1e3 * total.seconds).toFixed(3)), cell("100.0 %"), cell(`${total.steps}`),
      cell(rate(total.flops, total.seconds)), cell(rate(total.bytes, total.seconds)), cell(`${(100 * total.peak).toFixed(0)} %`), cell("", true)]
    : [cell(`Total of ${counted(rows.length, "kernel")}`, true), cell(`${total.steps}`), cell(quantity(total.flops)), cell(bytes(total.bytes)), cell("", true)];
  section("kernels", "Kernels",
    html("p", { class: "quiet" }, timed
      ? `A run takes ${(1e3 * data.kernels.run).toFixed(3)} ms as a whole. Below are medians of its steps, timed one by one. The peak, measured on this machine with ${counted(peak.threads, "thread")}, is ${(peak.flops / 1e9).toFixed(1)} GFLOP/s and ${(peak.bytes / 1e9).toFixed(1)} GB/s; the share is of whichever is nearer.`
      : "What each kernel does in a run. dlc profile --html measures their times."),
    rows.length ? sortable("Kernels", columns, rows, timed ? 1 : 2, foot) : html("p", {}, "The function runs no kernels."));
}

function memorySection() {
  const { arena, bound, events, steps, live, buffers } = data.memory;
  if (!buffers.length) {
    section("memory", "Memory", html("p", {}, "The function needs no memory of its own between its steps."));
    return;
  }
  const LEFT = 74, TOP = 22, MAP = 380, CURVE = 90, BETWEEN = 44;
  const holder = html("div", { class: "plan", tabindex: 0, role: "group",
    "aria-label": "Buffers of the arena over the steps; arrow keys go from buffer to buffer" });
  const said = html("p", { class: "plan-said", role: "status" }, html("span", { class: "quiet" }, "Nothing is selected."));
  const peakEvent = live.indexOf(Math.max(...live));
  let zoom = 1, chosen = -1, marks = [];
  const stepName = (event) => {
    for (let e = Math.min(event, events - 1); e >= 0; e--) if (steps[e] >= 0) return steps[e];
    return 0;
  };

  function draw() {
    const width = Math.max(320, (holder.clientWidth || 1200) - 2 - LEFT - 24) * zoom;
    const x = (event) => LEFT + (event / events) * width;
    const y = (offset) => TOP + MAP - (offset / arena) * MAP;
    const bottom = TOP + MAP + BETWEEN;
    const z = (count) => bottom + CURVE - (count / arena) * CURVE;
    const picture = svg("svg", { width: LEFT + width + 24, height: bottom + CURVE + 34, "aria-hidden": "true" });
    for (let part = 0; part <= 4; part++) {
      const at = (arena * part) / 4;
      picture.append(svg("line", { class: "axis", x1: LEFT, x2: LEFT + width, y1: y(at), y2: y(at) }),
        svg("text", { class: "sub", x: LEFT - 8, y: y(at) + 3, "text-anchor": "end" }, bytes(at)));
    }
    marks = buffers.map((buffer, index) => {
      const mark = svg("rect", {
        class: "buffer", x: x(buffer.from), width: Math.max(0.8, x(buffer.to) - x(buffer.from)),
        y: y(buffer.offset + buffer.bytes), height: Math.max(0.8, (buffer.bytes / arena) * MAP), fill: colour(buffer.scope || buffer.name),
        onclick: () => choose(index),
      }, svg("title", {}, `${buffer.name}, ${bytes(buffer.bytes)}`));
      picture.append(mark);
      return mark;
    });
    const limit = (at, name, below) => picture.append(svg("line", { class: "limit", x1: LEFT, x2: LEFT + width, y1: at, y2: at }),
      svg("text", { class: "sub limit-name", x: LEFT + width, y: at + (below ? 12 : -5), "text-anchor": "end" }, name));
    limit(y(arena), `arena ${bytes(arena)}`);
    let path = `M${x(0)} ${z(0)}`;
    live.forEach((count, event) => { path += `V${z(count).toFixed(1)}H${x(event + 1).toFixed(1)}`; });
    picture.append(svg("path", { class: "live", d: `${path}V${z(0)}Z` }),
      svg("text", { class: "sub", x: LEFT - 8, y: bottom + 10, "text-anchor": "end" }, "live"));
    limit(z(bound), `most live together ${bytes(bound)}, at step ${stepName(peakEvent)}`);
    const middle = x(peakEvent + 0.5);
    picture.append(svg("line", { class: "limit", x1: middle, x2: middle, y1: TOP, y2: bottom + CURVE }));
    const count = Math.max(1, Math.min(Math.floor(width / 70), events));
    for (let tick = 0; tick <= count; tick++) {
      const event = Math.round((tick * (events - 1)) / Math.max(count, 1));
      if (tick > 0 && event === Math.round(((tick - 1) * (events - 1)) / Math.max(count, 1))) continue;
      picture.append(svg("text", { class: "sub", x: x(event + 0.5), y: bottom + CURVE + 16, "text-anchor": "middle" }, `${stepName(event)}`));
    }
    picture.append(svg("text", { class: "sub", x: LEFT - 8, y: bottom + CURVE + 16, "text-anchor": "end" }, "step"));
    holder.replaceChildren(picture);
    if (chosen >= 0) marks[chosen].classList.add("selected");
  }

  function choose(index) {
    marks[chosen]?.classList.remove("selected");
    chosen = index;
    const buffer = buffers[index], mark = marks[index];
    mark.classList.add("selected");
    mark.parentNode.append(mark);
    const box = mark.getBoundingClientRect(), view = holder.getBoundingClientRect();
    if (box.right < view.left || box.left > view.right) holder.scrollLeft += box.left - view.left - view.width / 2;
    said.replaceChildren(html("strong", {}, buffer.name), ` ${buffer.type}: ${bytes(buffer.bytes)} at ${bytes(buffer.offset)}, in use in steps ${buffer.first} to ${buffer.last}`,
      buffer.maker ? html("div", { class: "quiet" }, `made by ${buffer.maker}`) : "");
  }
  holder.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -buffers.length, End: buffers.length }[event.key];
    if (!move) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(buffers.length - 1, chosen + move)));
  });
  const slider = html("input", { type: "range", min: 1, max: 20, value: 1, "aria-label": "Width of a step", oninput: () => { zoom = +slider.value; draw(); } });
  const largest = [...buffers].sort((a, b) => b.bytes - a.bytes).slice(0, 200);
  section("memory", "Memory",
    html("p", { class: "quiet" }, `The buffers that lie in the arena of a run: across, the steps; upwards, where their bytes lie. The arena takes ${bytes(arena)}; `
      + `at step ${stepName(peakEvent)}, ${bytes(bound)} are live together, which no placement can go below (ratio ${(arena / Math.max(bound, 1)).toFixed(3)}).`),
    html("div", { class: "bar" }, html("label", {}, "Stretch", slider)), holder, said,
    html("details", {}, html("summary", {}, buffers.length > largest.length ? `The ${largest.length} largest of ${buffers.length} buffers` : "All buffers"),
      sortable("Buffers", [
        { name: "Buffer", left: true, class: "name", value: (b) => b.name },
        { name: "Type", left: true, class: "mono", value: (b) => b.type },
        { name: "Bytes", value: (b) => b.bytes, show: (b) => bytes(b.bytes) },
        { name: "Offset", value: (b) => b.offset, show: (b) => bytes(b.offset) },
        { name: "Steps", value: (b) => b.first, show: (b) => `${b.first} – ${b.last}` },
        { name: "Made by", left: true, class: "wide", value: (b) => b.maker },
      ], largest, 2)));
  draw();
  addEventListener("resize", draw);
}

graphSection();
kernelSection();
memorySection();
document.body.dataset.ready = "true";
