// Draws a job's loss, and on request its learning rate and speed; keeps table and summary in step.
//
// Points are kept by step, so that one which arrives twice counts once. Colours come from the
// style sheet, so that light and dark are decided in one place.

/* global uPlot -- from vendor/uplot, loaded before this module */

const SMOOTHING = 0.9;
const SPOKEN_EVERY_SECONDS = 15;
const NUM_TABLE_ROWS = 60;
const NAMES = ["loss", "validation_loss", "learning_rate", "tokens_per_second"];

for (const card of document.querySelectorAll("[data-loss-chart]")) show(card);

function show(card) {
  const page = card.closest("[data-job-stream]");
  const given = JSON.parse(card.querySelector("[data-points]").textContent);
  const points = new Map();
  given.step.forEach((step, row) => {
    points.set(step, Object.fromEntries(NAMES.map((name) => [name, given[name][row]])));
  });
  let totalSteps = given.total_steps;
  let isOver = page.dataset.isFinal !== undefined;
  let isSmooth = true;
  let waiting = false;
  let spokenAt = 0;
  const beside = besideOf(card);
  let columns = toColumns(points, beside);

  const loss = lossPlot(card.querySelector("[data-plot=loss]"), () => ({ totalSteps, isOver, columns }));
  const extras = [];
  const details = card.querySelector("[data-extras]");
  details.addEventListener("toggle", () => {
    if (!details.open || extras.length) return;
    for (const name of ["learning_rate", "tokens_per_second"]) {
      extras.push([name, smallPlot(details.querySelector(`[data-plot=${name}]`), name, () => ({ totalSteps, isOver }))]);
    }
    draw();
  });

  function changed() {
    if (waiting) return;
    waiting = true;
    // One drawing a frame, however many points came.
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  function draw() {
    columns = toColumns(points, beside);
    loss.setData([
      columns.step,
      columns.loss,
      isSmooth ? smooth(columns.loss) : columns.step.map(() => null),
      columns.validation_loss,
      smooth(columns.beside_loss),
      columns.beside_validation_loss,
    ]);
    for (const [name, plot] of extras) plot.setData([columns.step, columns[name]]);
    // Axes without points would show a scale from 0 to 1 that means nothing.
    const isEmpty = columns.step.length === 0;
    if (isEmpty !== card.classList.contains("is-empty")) {
      card.classList.toggle("is-empty", isEmpty);
      if (!isEmpty) fit(loss);
    }
    card.dataset.numPoints = String(points.size);
    card.dataset.lastStep = String(columns.lastStep ?? "");
    if (card.classList.contains("shows-table")) fillTable(card.querySelector("tbody"), columns);
    speak();
    card.dispatchEvent(new CustomEvent("chart:drawn", { detail: { step: columns.lastStep } }));
  }

  function speak() {
    const now = performance.now() / 1000;
    if (!isOver && spokenAt && now - spokenAt < SPOKEN_EVERY_SECONDS) return;
    const text = describe(columns, totalSteps, card.dataset.asked);
    const summary = card.querySelector("[data-summary]");
    if (summary.textContent !== text) summary.textContent = text;
    spokenAt = now;
  }

  function recolour() {
    for (const plot of [loss, ...extras.map(([, extra]) => extra)]) plot.redraw(false, true);
  }

  page.addEventListener("job:metric", ({ detail }) => {
    const point = points.get(detail.step) ?? {};
    for (const name of NAMES) if (name in detail.values) point[name] = detail.values[name];
    points.set(detail.step, point);
    changed();
  });
  page.addEventListener("job:rewind", ({ detail }) => {
    for (const step of [...points.keys()]) if (step > detail.step) points.delete(step);
    changed();
  });
  page.addEventListener("job:job", ({ detail }) => {
    if (detail.total_steps === totalSteps) return;
    totalSteps = detail.total_steps;
    changed();
  });
  page.addEventListener("job:end", () => {
    isOver = true;
    changed();
  });

  press(card.querySelector("[data-smoothing]"), true, (isOn) => {
    isSmooth = isOn;
    card.classList.toggle("is-plain", !isOn);
    draw();
  });
  press(card.querySelector("[data-table-view]"), false, (isOn) => {
    card.classList.toggle("shows-table", isOn);
    draw();
  });

  new ResizeObserver(() => {
    for (const plot of [loss, ...extras.map(([, extra]) => extra)]) fit(plot);
  }).observe(card);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  new MutationObserver(recolour).observe(document.documentElement, {
    attributeFilter: ["data-theme", "data-bs-theme"],
  });
  card.classList.add("is-drawn");
  fit(loss);
  draw();
}

function press(button, isOn, changed) {
  button.hidden = false;
  button.setAttribute("aria-pressed", String(isOn));
  button.addEventListener("click", () => {
    const next = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(next));
    changed(next);
  });
}

// Another job's curve that is laid over this one: its points by step, or none.
function besideOf(card) {
  const holder = card.querySelector("[data-beside-points]");
  const points = new Map();
  if (!holder) return points;
  const given = JSON.parse(holder.textContent);
  given.step.forEach((step, row) => {
    points.set(step, { loss: given.loss[row], validation_loss: given.validation_loss[row] });
  });
  return points;
}

function toColumns(points, beside) {
  const step = [...new Set([...points.keys(), ...beside.keys()])].sort((a, b) => a - b);
  // Of this job: another one's may go on for longer.
  const columns = { step, isOwn: step.map((at) => points.has(at)), lastStep: step.findLast((at) => points.has(at)) };
  for (const name of NAMES) columns[name] = step.map((at) => points.get(at)?.[name] ?? null);
  columns.beside_loss = step.map((at) => beside.get(at)?.loss ?? null);
  columns.beside_validation_loss = step.map((at) => beside.get(at)?.validation_loss ?? null);
  return columns;
}

// An exponential mean that weighs the first points rightly instead of starting at zero.
function smooth(values) {
  let mean = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = SMOOTHING * mean + (1 - SMOOTHING) * value;
    weight = SMOOTHING * weight + (1 - SMOOTHING);
    return mean / weight;
  });
}

function colour(element, name) {
  return getComputedStyle(element).getPropertyValue(name).trim();
}

function axes(holder, format) {
  const font = `13px ${getComputedStyle(holder).fontFamily}`;
  const soft = () => colour(holder, "--soft");
  return [
    { stroke: soft, font, grid: { show: false }, ticks: { show: false }, space: 60, size: 34 },
    {
      stroke: soft,
      font,
      size: 48,
      ticks: { show: false },
      grid: { stroke: () => colour(holder, "--rule"), width: 1 },
      values: (_plot, ticks) => ticks.map(format),
    },
  ];
}

function stepRange(state) {
  return (_plot, _low, high) => {
    const { totalSteps, isOver } = state();
    return [0, Math.max(1, isOver ? (high ?? 1) : (totalSteps ?? high ?? 1))];
  };
}

function lossPlot(holder, state) {
  const card = holder.closest("[data-loss-chart]");
  const spread = { spanGaps: true, points: { show: false } };
  const options = {
    ...size(holder),
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 } },
    scales: {
      x: { time: false, range: stepRange(state) },
      y: {
        range: (_plot, low, high) => {
          if (low === null || high === null) return [0, 1];
          const room = Math.max((high - low) * 0.08, 0.02);
          return [Math.max(0, low - room), high + room];
        },
      },
    },
    axes: axes(holder, (value) => number(value)),
    series: [
      {},
      { ...spread, stroke: () => colour(holder, "--chart-step"), width: 1 },
      { ...spread, stroke: () => colour(holder, "--chart-smooth"), width: 2.5 },
      {
        spanGaps: true,
        stroke: () => colour(holder, "--chart-test"),
        width: 2,
        dash: [7, 5],
        points: {
          show: true,
          size: 8,
          width: 2,
          stroke: () => colour(holder, "--chart-test"),
          fill: () => colour(holder, "--sheet"),
        },
      },
      { ...spread, stroke: () => colour(holder, "--soft"), width: 1.5 },
      { ...spread, stroke: () => colour(holder, "--soft"), width: 1.5, dash: [2, 4] },
    ],
    hooks: { setCursor: [(plot) => readOut(card, plot)] },
  };
  return new uPlot(options, [[], [], [], [], [], []], holder);
}

function smallPlot(holder, name, state) {
  const options = {
    ...size(holder),
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: stepRange(state) } },
    axes: axes(holder, (value) => (name === "learning_rate" ? value.toExponential(0) : whole(value))),
    series: [
      {},
      {
        spanGaps: true,
        points: { show: false },
        stroke: () => colour(holder, "--chart-smooth"),
        width: 1.5,
      },
    ],
  };
  return new uPlot(options, [[], []], holder);
}

function size(holder) {
  return { width: Math.max(holder.clientWidth, 120), height: Math.max(holder.clientHeight, 80) };
}

function fit(plot) {
  const holder = plot.root.parentElement;
  if (holder.clientWidth) plot.setSize(size(holder));
}

// What stands under the pointer, in words; empty when the pointer is elsewhere.
function readOut(card, plot) {
  const at = plot.cursor.idx;
  const parts = [];
  if (at !== null && at !== undefined) {
    const [step, each, mean, test, other] = plot.data.map((column) => column[at]);
    parts.push(`Step ${whole(step)}`);
    if (each !== null) parts.push(`training ${number(each)}`);
    if (mean !== null) parts.push(`smoothed ${number(mean)}`);
    if (test !== null) parts.push(`${card.dataset.asked} ${number(test)}`);
    if (other !== null && other !== undefined) parts.push(`the other job ${number(other)}`);
  }
  card.querySelector("[data-readout]").textContent = parts.join(" · ");
}

function describe(columns, totalSteps, asked) {
  const tests = columns.validation_loss.filter((value) => value !== null);
  const losses = columns.loss.filter((value) => value !== null);
  if (!losses.length && !tests.length) return "There are no points yet.";
  const of = totalSteps ? ` of ${whole(totalSteps)}` : "";
  const parts = [`Step ${whole(columns.lastStep)}${of}.`];
  if (losses.length) parts.push(`Training loss ${number(losses.at(-1))}.`);
  if (tests.length > 1) {
    const trend = tests.at(-1) < tests[0] ? "down from" : "started at";
    parts.push(`Loss on ${asked} ${number(tests.at(-1))}, ${trend} ${number(tests[0])}.`);
  } else if (tests.length) {
    parts.push(`Loss on ${asked} before training ${number(tests[0])}.`);
  }
  return parts.join(" ");
}

// Every test and evenly spaced steps: a table that can be read; all points are in the CSV file.
function fillTable(body, columns) {
  const every = Math.max(1, Math.ceil(columns.isOwn.filter(Boolean).length / NUM_TABLE_ROWS));
  const rows = [];
  columns.step.forEach((step, at) => {
    if (!columns.isOwn[at]) return;
    const isLast = step === columns.lastStep;
    if (at % every && columns.validation_loss[at] === null && !isLast) return;
    const row = document.createElement("tr");
    const cells = [
      whole(step),
      number(columns.loss[at]),
      number(columns.validation_loss[at]),
      columns.learning_rate[at] === null ? "" : columns.learning_rate[at].toExponential(1),
      columns.tokens_per_second[at] === null ? "" : whole(columns.tokens_per_second[at]),
    ];
    cells.forEach((text, column) => {
      const cell = document.createElement(column ? "td" : "th");
      if (!column) cell.scope = "row";
      cell.textContent = text;
      row.append(cell);
    });
    rows.push(row);
  });
  body.replaceChildren(...rows);
}

function number(value) {
  return value === null || value === undefined ? "" : value.toFixed(2);
}

function whole(value) {
  return Math.round(value).toLocaleString("en-US");
}
