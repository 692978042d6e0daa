// Charts of the traffic, pause, and keys. Everything else is HTML that the server renders.
"use strict";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en-US"));
let paused = false;

// Times of the axis in UTC, as all times of the console: with their date where the ticks are hours apart.
function times(_, seconds, __, ___, distance) {
  const texts = seconds.map((second) => new Date(second * 1e3).toISOString());
  if (distance >= 86_400) return texts.map((text) => text.slice(0, 10));
  return texts.map((text) => (distance >= 3_600 ? text.slice(5, 16).replace("T", " ") : text.slice(11, 19)));
}

function chart(element, series, label) {
  const grid = { stroke: color("--pico-muted-border-color"), width: 1 };
  const axis = { stroke: color("--pico-muted-color"), grid, ticks: grid };
  const options = {
    width: element.clientWidth,
    height: 180,
    series: [{ value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" }, ...series],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
    axes: [{ ...axis, values: times, space: 90 }, { ...axis, size: 60 }],
    scales: { y: { range: (_, __, max) => [0, Math.max(max || 0, 1) * 1.1] } },
  };
  const plot = new uPlot(options, [[], ...series.map(() => [])], element);
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 180 })).observe(element);
  return plot;
}

// The last value that there is.
function milliseconds(values) {
  const last = values.findLast((value) => value !== null);
  return last === undefined ? "–" : `${number(last)} ms`;
}

function showTraffic(section) {
  let rates = null;
  let lags = null;
  const show = (traffic) => {
    if (!rates) {
      const line = (label, index) => ({ label, stroke: color(`--series-${index % 4}`), width: 2 });
      rates = chart(section.querySelector("#rates"), traffic.series.map((one, index) => line(one.name, index)),
        "Events per second by type");
      lags = chart(section.querySelector("#lags"), [line("p50", 0), line("p99", 1)].map((one) => ({ ...one, spanGaps: true })),
        "Lag in milliseconds");
    }
    rates.setData([traffic.starts, ...traffic.series.map((one) => one.events.map((count) => count / traffic.step))]);
    lags.setData([traffic.starts, traffic.p50, traffic.p99]);
    const events = traffic.accepted + traffic.rejected;
    const numbers = {
      accepted: number(traffic.accepted),
      rejected: number(traffic.rejected),
      p50: milliseconds(traffic.p50),
      p99: milliseconds(traffic.p99),
      flushes: number(traffic.flushes),
      per_flush: traffic.flushes ? (events / traffic.flushes).toFixed(1) : "–",
    };
    for (const [name, text] of Object.entries(numbers)) {
      document.querySelector(`[data-number="${name}"]`).textContent = text;
    }
  };
  show(JSON.parse(section.querySelector("script").textContent));
  const problem = document.querySelector("#stream-problem");
  const source = new EventSource(section.dataset.traffic);
  let last = "";
  source.addEventListener("traffic", (message) => {
    problem.hidden = true;
    if (paused) return;
    const traffic = JSON.parse(message.data);
    show(traffic);
    const counts = `${traffic.accepted} ${traffic.rejected} ${traffic.starts[0]}`;
    if (last && last !== counts) htmx.trigger(document.body, "traffic");
    last = counts;
  });
  source.addEventListener("problem", (message) => {
    problem.hidden = false;
    problem.textContent = JSON.parse(message.data).error;
  });
  source.onerror = () => {
    problem.hidden = false;
    problem.textContent = "The console does not answer. It is tried again every few seconds: does the stack run?";
  };
}

document.addEventListener("DOMContentLoaded", () => {
  const section = document.querySelector("[data-traffic]");
  if (section) showTraffic(section);
  const button = document.querySelector("#pause");
  if (button) {
    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? "Go on" : "Pause";
    });
  }
});

// htmx ignores an answer with an error, except where the page has a place for it.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.hasAttribute("data-shows-errors")) event.detail.shouldSwap = true;
});

// A form that changes something is answered when it is done.
document.addEventListener("submit", (event) => {
  if (event.submitter && event.submitter.formMethod === "post") event.submitter.setAttribute("aria-busy", "true");
});

// The buttons of chosen causes say how many events these have.
function showChosen() {
  const form = document.querySelector("#chosen");
  if (!form) return;
  const boxes = [...form.elements].filter((box) => box.type === "checkbox");
  const chosen = boxes.filter((box) => box.checked);
  const events = chosen.reduce((sum, box) => sum + Number(box.dataset.events), 0);
  form.querySelector("[data-chosen]").textContent = `${number(chosen.length)} chosen, ${number(events)} open events`;
  for (const button of form.querySelectorAll("button")) button.disabled = !chosen.length;
  const all = document.querySelector("#choose-all");
  all.checked = chosen.length > 0 && chosen.length === boxes.length;
  all.indeterminate = chosen.length > 0 && chosen.length < boxes.length;
}
document.addEventListener("change", (event) => {
  if (event.target.id === "choose-all") {
    for (const box of document.querySelectorAll("[form=chosen]")) box.checked = event.target.checked;
  }
  showChosen();
});
window.addEventListener("pageshow", showChosen);
document.addEventListener("htmx:afterSettle", showChosen);

function showProblem(hidden) {
  document.querySelector("#request-problem").hidden = hidden;
}
document.addEventListener("htmx:sendError", () => showProblem(false));
document.addEventListener("htmx:responseError", () => showProblem(false));
document.addEventListener("htmx:afterOnLoad", (event) => event.detail.successful && showProblem(true));

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent).then(() => {
    button.textContent = "Copied";
  });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "/" && document.querySelector("#search")) {
    event.preventDefault();
    document.querySelector("#search").focus();
  } else if (event.key === "p" && document.querySelector("#pause")) {
    document.querySelector("#pause").click();
  }
});
