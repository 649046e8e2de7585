#include "runtime/report/page.h"

namespace hearth {

// What the reader does: pointing, switching, zooming, sorting.
std::string_view PageScript() {
  return R"js(const tip = document.getElementById('tip');
const figures = [...document.querySelectorAll('figure[data-chart]')].map(figure => ({
  figure, index: Number(figure.dataset.chart), plot: figure.querySelector('.plot'), at: null
}));

function draw(item) {
  const at = item.at = layout(item.index, item.plot);
  const clip = 'clip' + item.index;
  item.plot.innerHTML = `<svg viewBox="0 0 ${at.width} ${at.height}" role="img">` +
      `<clipPath id="${clip}"><rect x="${at.left - 3}" y="${at.top - 4}" ` +
      `width="${at.width - at.left - at.right + 6}" height="${at.height - at.top - at.bottom + 8}"/></clipPath>` +
      axesSvg(at) + `<g clip-path="url(#${clip})">${curvesSvg(at)}</g>` +
      '<rect class="zoom" y="0" width="0" height="0"/><path class="cross" d=""/><g class="marks"></g></svg>';
  item.plot.firstChild.setAttribute('aria-label', at.chart.title);
}

function drawAll() { hideTip(); figures.forEach(draw); }

function hideTip() {
  tip.hidden = true;
  state.cross = null;
  for (const item of figures) {
    if (!item.at) continue;
    item.plot.querySelector('.cross').setAttribute('d', '');
    item.plot.querySelector('.marks').replaceChildren();
  }
}

function valueText(value) {
  if (value === null) return 'not finite';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return exponentText(value, 4);
  return Number(value.toPrecision(size >= 1e5 ? 7 : 5)).toLocaleString('en-US', {maximumFractionDigits: 9});
}

function nearest(values, value) {
  const i = lowerBound(values, value);
  if (i === 0) return 0;
  if (i === values.length) return i - 1;
  return value - values[i - 1] <= values[i] - value ? i - 1 : i;
}

function stepText(grid, i) {
  const first = grid.a[i].toLocaleString('en-US');
  return grid.a[i] === grid.b[i] ? 'step ' + first : 'steps ' + first + ' to ' + grid.b[i].toLocaleString('en-US');
}

function cell(row, text) {
  const element = row.insertCell();
  element.textContent = text;
  return element;
}

function swatch(color) {
  const element = document.createElement('i');
  element.className = 'swatch';
  element.style.background = `var(${color})`;
  return element;
}

// What lies nearest to the pointer on each curve; of many curves those close to it.
function near(at, value, y) {
  const found = [];
  for (const curve of at.curves) {
    const x = places(curve), i = nearest(x, value);
    if (Math.abs(at.x(x[i]) - at.x(value)) > Math.max(24, at.width / 12)) continue;
    found.push({curve, i, y: at.y((curve.y[i] === null ? at.values.low : curve.y[i] / at.chart.div))});
  }
  const most = 12;
  if (found.length > most) {
    found.sort((a, b) => Math.abs(a.y - y) - Math.abs(b.y - y));
    found.length = most;
  }
  return found.sort((a, b) => a.y - b.y);
}

function fillTip(item, value, found) {
  const at = item.at, head = document.createElement('div'), table = document.createElement('table');
  const first = found[0], grid = data.grids[first.curve.grid];
  head.textContent = stepText(grid, first.i) +
      (state.along === 'tokens' ? ', ' + countText(places(first.curve)[first.i]) + ' tokens' : '') +
      (state.along === 'time' ? ', ' + hoursText(places(first.curve)[first.i]) : '');
  const marks = item.plot.querySelector('.marks');
  marks.replaceChildren();
  for (const {curve, i} of found) {
    const row = table.insertRow(), shown = smoothed(at.chart, curve)[i];
    const name = cell(row, curve.label);
    name.prepend(swatch(curve.color));
    const raw = curve.y[i] === null ? null : curve.y[i] / at.chart.div;
    cell(row, valueText(raw)).style.fontWeight = 600;
    let more = '';
    if (curve.hi && raw !== null) {
      more = valueText(curve.lo[i] / at.chart.div) + ' to ' + valueText(curve.hi[i] / at.chart.div);
    }
    if (shown !== null && shown !== curve.y[i]) {
      more += (more ? ', ' : '') + 'smoothed ' + valueText(shown / at.chart.div);
    }
    cell(row, more);
    if (shown === null) continue;
    const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle');
    dot.setAttribute('r', 3.6);
    dot.setAttribute('cx', at.x(places(curve)[i]));
    dot.setAttribute('cy', at.y(shown / at.chart.div));
    dot.style.fill = `var(${curve.color})`;
    marks.append(dot);
  }
  tip.replaceChildren(head, table);
}

function placeTip(event) {
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), gap = 16;
  let left = event.clientX + gap, top = event.clientY + gap;
  if (left + box.width > innerWidth - 8) left = event.clientX - gap - box.width;
  if (top + box.height > innerHeight - 8) top = event.clientY - gap - box.height;
  tip.style.left = Math.max(6, left) + scrollX + 'px';
  tip.style.top = Math.max(6, top) + scrollY + 'px';
}

// A line through all charts at the place that is pointed at.
function drawCross(value) {
  for (const {at, plot} of figures) {
    const shown = value >= at.along.low && value <= at.along.high;
    plot.querySelector('.cross').setAttribute('d', shown ?
        `M${round(at.x(value))} ${at.top}V${at.height - at.bottom}` : '');
  }
}

function pointed(item, event) {
  const at = item.at, box = item.plot.firstChild.getBoundingClientRect();
  const scale = at.width / box.width, x = (event.clientX - box.left) * scale;
  const share = (x - at.left) / (at.width - at.left - at.right);
  return {x, y: (event.clientY - box.top) * scale,
    value: at.along.low + Math.min(1, Math.max(0, share)) * (at.along.high - at.along.low)};
}

function watch(item) {
  let from = null;
  item.plot.dataset.live = '';
  const zoom = () => item.plot.querySelector('.zoom');
  item.plot.addEventListener('pointermove', event => {
    const at = item.at, here = pointed(item, event);
    if (from !== null) {
      zoom().setAttribute('x', Math.min(at.x(from), at.x(here.value)));
      zoom().setAttribute('y', at.top);
      zoom().setAttribute('width', Math.abs(at.x(from) - at.x(here.value)));
      zoom().setAttribute('height', at.height - at.top - at.bottom);
    }
    const found = near(at, here.value, here.y);
    if (found.length === 0) return hideTip();
    drawCross(places(found[0].curve)[found[0].i]);
    fillTip(item, here.value, found);
    placeTip(event);
  });
  item.plot.addEventListener('pointerleave', () => { if (from === null) hideTip(); });
  item.plot.addEventListener('pointerdown', event => {
    if (event.pointerType !== 'mouse' || event.button !== 0) return;
    from = pointed(item, event).value;
    item.plot.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  item.plot.addEventListener('pointerup', event => {
    if (from === null) return;
    const to = pointed(item, event).value, start = from;
    from = null;
    if (Math.abs(item.at.x(to) - item.at.x(start)) > 6) zoomTo([Math.min(start, to), Math.max(start, to)]);
  });
  item.plot.addEventListener('pointercancel', () => { from = null; zoom().setAttribute('width', 0); });
  item.plot.addEventListener('dblclick', () => zoomTo(null));
}

function zoomTo(range) {
  state.zoom = range;
  document.getElementById('whole').hidden = range === null;
  drawAll();
}

function addLogButton(item) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'log';
  button.textContent = 'log';
  button.title = 'logarithmic axis';
  button.setAttribute('aria-pressed', state.log[item.index]);
  button.addEventListener('click', () => {
    state.log[item.index] = !state.log[item.index];
    button.setAttribute('aria-pressed', state.log[item.index]);
    draw(item);
  });
  item.figure.querySelector('figcaption').append(button);
}

function addCurveSwitches(item) {
  for (const key of item.figure.querySelectorAll('.key')) {
    key.addEventListener('click', () => {
      const off = state.off[item.index], curve = Number(key.dataset.curve);
      if (!off.delete(curve)) off.add(curve);
      key.setAttribute('aria-pressed', !off.has(curve));
      draw(item);
    });
  }
}

function showRuns() {
  for (const input of document.querySelectorAll('input[data-run]')) {
    input.checked = !state.hidden.has(Number(input.dataset.run));
  }
  for (const dot of document.querySelectorAll('circle[data-run]')) {
    dot.style.display = state.hidden.has(Number(dot.dataset.run)) ? 'none' : '';
  }
  drawAll();
}

function focusRun(run) {
  for (const part of document.querySelectorAll('svg [data-r],svg [data-run]')) {
    const of = part.dataset.r === undefined ? part.dataset.run : part.dataset.r;
    part.classList.toggle('dim', run !== null && of !== run);
  }
}

function watchRuns() {
  for (const input of document.querySelectorAll('input[data-run]')) {
    const run = Number(input.dataset.run), label = input.closest('label');
    label.title = 'double-click: this run alone, or all again';
    input.addEventListener('change', () => {
      if (input.checked) state.hidden.delete(run); else state.hidden.add(run);
      showRuns();
    });
    label.addEventListener('dblclick', event => {
      event.preventDefault();
      const alone = data.runs.length - state.hidden.size === 1 && !state.hidden.has(run);
      state.hidden = new Set(alone ? [] : data.runs.keys());
      state.hidden.delete(run);
      showRuns();
    });
  }
  for (const place of document.querySelectorAll('tr[data-run],.chip')) {
    const run = place.dataset.run || place.querySelector('input').dataset.run;
    place.addEventListener('pointerenter', () => focusRun(run));
    place.addEventListener('pointerleave', () => focusRun(null));
  }
  for (const dot of document.querySelectorAll('circle[data-tip]')) {
    dot.querySelector('title').remove();
    dot.addEventListener('pointermove', event => {
      tip.textContent = dot.dataset.tip;
      placeTip(event);
      focusRun(dot.dataset.run);
    });
    dot.addEventListener('pointerleave', () => { tip.hidden = true; focusRun(null); });
  }
}

function sortBy(table, column, heading) {
  const down = heading.getAttribute('aria-sort') === 'ascending';
  for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
  heading.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const key = row => {
    const value = row.cells[column].dataset.v, text = row.cells[column].textContent.trim();
    return value !== undefined ? Number(value) : text !== '' && !isNaN(text) ? Number(text) : text;
  };
  const compare = (a, b) => {
    const x = key(a), y = key(b);
    if (x === '' || y === '') return (x === '') - (y === '');  // nothing to compare: behind
    const order = typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y));
    return down ? -order : order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

function watchControls() {
  const along = document.getElementById('along'), smoothing = document.getElementById('smoothing');
  if (!along) return;
  const add = (value, text) => along.append(new Option(text, value));
  if (data.runs.every(run => run.tokens > 0)) add('tokens', 'tokens');
  if (data.runs.every(run => run.clock)) add('time', 'time in steps');
  along.addEventListener('change', () => { state.along = along.value; zoomTo(null); });
  const shares = [0, 0.005, 0.01, 0.02, 0.04, 0.07, 0.12];
  const say = () => {
    const share = state.smoothing = shares[smoothing.value];
    document.getElementById('smoothed').value = share === 0 ? 'none' : 100 * share + ' % of run';
  };
  smoothing.addEventListener('input', () => { say(); drawAll(); });
  say();
  document.getElementById('whole').addEventListener('click', () => zoomTo(null));
}

function watchTheme() {
  const button = document.getElementById('theme'), root = document.documentElement;
  const isDark = () => (root.dataset.theme || (matchMedia('(prefers-color-scheme:dark)').matches ? 'dark' : '')) === 'dark';
  const say = () => { button.textContent = isDark() ? 'Light' : 'Dark'; };
  button.hidden = false;
  button.addEventListener('click', () => { root.dataset.theme = isDark() ? 'light' : 'dark'; say(); });
  say();
}

document.documentElement.classList.add('js');
watchTheme();
watchControls();
watchRuns();
for (const table of document.querySelectorAll('table')) {
  [...table.tHead.rows[0].cells].forEach((heading, i) => {
    const button = heading.querySelector('button');
    if (button) button.addEventListener('click', () => sortBy(table, i, heading));
  });
}
for (const item of figures) {
  addLogButton(item);
  addCurveSwitches(item);
  watch(item);
}
drawAll();
let width = innerWidth;
addEventListener('resize', () => { if (width !== innerWidth) { width = innerWidth; drawAll(); } });
)js";
}

}  // namespace hearth
