#include "runtime/report/page.h"

namespace hearth {

// Draws charts as chart_svg.cpp does, at the width they have. Text from files is set as text only.
std::string_view PageChartScript() {
  return R"js('use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const state = {
  along: 'step', smoothing: 0.01, hidden: new Set(), zoom: null, cross: null,
  log: data.charts.map(chart => chart.log), off: data.charts.map(() => new Set())
};

function tickDistance(least) {
  const power = Math.pow(10, Math.floor(Math.log10(least)));
  for (const factor of [1, 2, 5]) if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

function exponentText(value, digits) {
  const text = value.toExponential(digits);
  const [mantissa, exponent] = text.split('e');
  return Number(mantissa) + 'e' + Number(exponent);
}

function tickText(value, distance, largest) {
  if (value === 0) return '0';
  if (largest >= 1e6 || largest < 2e-3) return exponentText(value, 2);
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(distance) + 1e-9)));
}

function countText(value) {
  let unit = 0;
  while (Math.abs(value) >= 1000 && unit < 4) { value /= 1000; ++unit; }
  return Number(value.toPrecision(4)) + ['', 'k', 'M', 'G', 'T'][unit];
}

function hoursText(seconds) {
  if (seconds < 120) return Number(seconds.toPrecision(3)) + ' s';
  if (seconds < 7200) return Number((seconds / 60).toPrecision(3)) + ' min';
  return Number((seconds / 3600).toPrecision(3)) + ' h';
}

function linearAxis(low, high, count) {
  const least = Math.max(Math.abs(low), Math.abs(high)) * 1e-6 + 1e-12;
  if (high - low < least) { low -= least; high += least; }
  const distance = tickDistance((high - low) / count);
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const ticks = [];
  for (let k = Math.ceil(low / distance - 1e-9); k <= Math.floor(high / distance + 1e-9); ++k) {
    ticks.push({value: k * distance, label: tickText(k * distance, distance, largest)});
  }
  const place = value => Math.min(4, Math.max(-3, (value - low) / (high - low)));
  return {low, high, ticks, place};
}

function logAxis(low, high) {
  if (high / low < 1.02) { low /= 1.2; high *= 1.2; }
  const decades = Math.log10(high / low);
  const every = Math.max(1, Math.ceil(decades / 8));
  let ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power) {
    for (const factor of [1, 2, 5]) {
      if (factor > 1 ? decades > 2.5 : power % every !== 0) continue;
      const value = factor * Math.pow(10, power);
      if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
      const plain = value >= 1e-4 && value < 1e6;
      ticks.push({value, label: plain ? String(Number(value.toPrecision(3))) : exponentText(value, 2)});
    }
  }
  if (ticks.length < 2) ticks = linearAxis(low, high, 4).ticks.filter(tick => tick.value > 0);
  const place = value => value <= 0 ? -3
      : Math.min(4, Math.max(-3, Math.log(value / low) / Math.log(high / low)));
  return {low, high, ticks, place};
}

// Along the bottom: steps, tokens or the time spent in steps.
function alongAxis(low, high, width) {
  const count = Math.max(3, Math.min(9, Math.floor(width / 75)));
  if (high <= low) high = low + 1;
  let least = (high - low) / count;
  const unit = state.along !== 'time' ? 1 : high < 120 ? 1 : high < 7200 ? 60 : 3600;
  let distance = tickDistance(least / unit) * unit;
  if (state.along !== 'time') distance = Math.max(1, distance);
  const text = state.along === 'time' ? hoursText : countText;
  const ticks = [];
  for (let k = Math.ceil(low / distance - 1e-9); k <= Math.floor(high / distance + 1e-9); ++k) {
    ticks.push({value: k * distance, label: k === 0 ? '0' : text(k * distance)});
  }
  return {low, high, ticks, place: value => (value - low) / (high - low)};
}

// The first index whose value is at least `value`.
function lowerBound(values, value) {
  let begin = 0, end = values.length;
  while (begin < end) {
    const middle = (begin + end) >> 1;
    if (values[middle] < value) begin = middle + 1; else end = middle;
  }
  return begin;
}

for (const grid of data.grids) {
  if (!grid.b) grid.b = grid.a;
  grid.middle = grid.a.map((step, i) => (step + grid.b[i]) / 2);
}

// Seconds spent in steps up to each record of a run.
function makeClock(run) {
  for (const chart of data.charts) {
    for (const curve of chart.curves) {
      if (curve.run !== run || curve.metric !== 'train/step_time_ms/total') continue;
      const steps = [0], seconds = [0], grid = data.grids[curve.grid];
      curve.y.forEach((time, i) => {
        if (time === null) return;
        seconds.push(seconds[seconds.length - 1] + time / 1e3 * (grid.b[i] - steps[steps.length - 1]));
        steps.push(grid.b[i]);
      });
      return step => {
        const i = Math.min(steps.length - 1, Math.max(1, lowerBound(steps, step)));
        if (steps.length < 2) return 0;
        const share = (step - steps[i - 1]) / (steps[i] - steps[i - 1] || 1);
        return seconds[i - 1] + Math.min(1, share) * (seconds[i] - seconds[i - 1]);
      };
    }
  }
  return null;
}
data.runs.forEach((run, i) => { run.clock = makeClock(i); });

// Where a curve's points lie along the bottom.
function places(curve) {
  if (curve.along === state.along) return curve.x;
  const run = data.runs[curve.run], middle = data.grids[curve.grid].middle;
  curve.along = state.along;
  curve.x = state.along === 'step' ? middle
      : middle.map(state.along === 'tokens' ? step => step * run.tokens : run.clock);
  return curve.x;
}

// Means under a bell whose standard deviation is a share of the curve's steps.
function smoothed(chart, curve) {
  if (!chart.smooth || curve.dots || state.smoothing === 0) return curve.y;
  if (curve.smoothedBy === state.smoothing) return curve.smooth;
  const grid = data.grids[curve.grid], x = grid.middle, n = x.length;
  const width = state.smoothing * (grid.b[n - 1] - grid.a[0]) || 1;
  let begin = 0;
  curve.smooth = curve.y.map((value, i) => {
    if (value === null) return null;
    while (x[begin] < x[i] - 3 * width) ++begin;
    let sum = 0, weights = 0;
    for (let k = begin; k < n && x[k] <= x[i] + 3 * width; ++k) {
      if (curve.y[k] === null) continue;
      const distance = (x[k] - x[i]) / width;
      const weight = (grid.b[k] - grid.a[k] + 1) * Math.exp(-0.5 * distance * distance);
      sum += weight * curve.y[k];
      weights += weight;
    }
    return sum / weights;
  });
  curve.smoothedBy = state.smoothing;
  return curve.smooth;
}

function shownCurves(index) {
  const chart = data.charts[index];
  return chart.curves.filter((curve, i) => !state.off[index].has(i) && !state.hidden.has(curve.run));
}

function alongRange(curves) {
  if (state.zoom) return state.zoom;
  let low = Infinity, high = -Infinity;
  for (const curve of curves) {
    const x = places(curve), grid = data.grids[curve.grid];
    low = Math.min(low, x[0]);
    high = Math.max(high, x[x.length - 1], state.along === 'step' ? grid.b[x.length - 1] : 0);
  }
  if (low < 0.02 * high) low = 0;
  return low <= high ? [low, high] : [0, 1];
}

function valueAxis(index, curves, range) {
  const chart = data.charts[index], log = state.log[index], highs = [];
  let low = Infinity;
  for (const curve of curves) {
    const x = places(curve), lows = curve.lo || curve.y, tops = curve.hi || curve.y;
    for (let i = 0; i < x.length; ++i) {
      if (lows[i] === null || x[i] < range[0] || x[i] > range[1]) continue;
      const least = lows[i] / chart.div;
      if (log && least <= 0) continue;
      low = Math.min(low, least);
      highs.push(tops[i] / chart.div);
    }
  }
  if (highs.length === 0) return log ? logAxis(1, 10) : linearAxis(0, 1, 5);
  highs.sort((a, b) => a - b);
  const highest = highs[highs.length - 1];
  if (log) return logAxis(low, highest);
  // A few values that would press everything else flat lie beyond the axis.
  const usual = highs[Math.floor(0.98 * (highs.length - 1))];
  const beyond = chart.smooth && highest - low > 4 * (usual - low) && usual > low;
  let high = beyond ? low + 1.25 * (usual - low) : highest;
  if (chart.zero && low > 0) low = 0;
  if (chart.zero && high < 0) high = 0;
  const margin = 0.04 * (high - low);
  if (high > low) high += margin;
  if (!chart.zero) low -= margin;
  return Object.assign(linearAxis(low, high, 5), {beyond: beyond ? highest : null});
}

// Where everything of a chart lies; kept for the pointer.
function layout(index, plot) {
  const chart = data.charts[index], curves = shownCurves(index);
  const width = Math.max(240, plot.clientWidth);
  const height = chart.tall ? (width < 600 ? 250 : 340) : (width < 600 ? 220 : 240);
  const range = alongRange(curves);
  const values = valueAxis(index, curves, range);
  const longest = Math.max(1, ...values.ticks.map(tick => tick.label.length));
  const left = 16 + 6.6 * longest, right = 14, top = 10, bottom = 26;
  const along = alongAxis(range[0], range[1], width - left - right);
  return {
    chart, curves, width, height, left, right, top, bottom, along, values, log: state.log[index],
    x: value => left + (width - right - left) * along.place(value),
    y: value => height - bottom - (height - bottom - top) * values.place(value)
  };
}

const round = value => Math.round(value * 10) / 10;

function axesSvg(at) {
  const base = at.height - at.bottom, end = at.width - at.right;
  let svg = '';
  for (const tick of at.values.ticks) {
    const y = round(at.y(tick.value));
    svg += `<path class="grid" d="M${round(at.left)} ${y}H${end}"/>` +
        `<text class="end" x="${round(at.left - 7)}" y="${y + 3.8}">${tick.label}</text>`;
  }
  svg += `<path class="axis" d="M${round(at.left)} ${base}H${end}"/>`;
  for (const tick of at.along.ticks) {
    const x = round(at.x(tick.value));
    svg += `<path class="axis" d="M${x} ${base}v4"/>` +
        `<text class="middle" x="${x}" y="${base + 17}">${tick.label}</text>`;
  }
  if (at.values.beyond) {
    const highest = Number(at.values.beyond.toPrecision(4));
    svg += `<text class="beyond" x="${end}" y="6">\u25b2 up to ${highest}</text>`;
  }
  return svg;
}

// Indices of the points inside the axis, and one more on either side.
function inside(at, x) {
  return [Math.max(0, lowerBound(x, at.along.low) - 1), Math.min(x.length, lowerBound(x, at.along.high) + 1)];
}

function linePath(at, curve, values) {
  const x = places(curve), [begin, end] = inside(at, x);
  let path = '', drawing = false;
  for (let i = begin; i < end; ++i) {
    const ok = values[i] !== null && (!at.log || values[i] > 0);
    if (ok) path += (drawing ? 'L' : 'M') + round(at.x(x[i])) + ' ' + round(at.y(values[i] / at.chart.div));
    drawing = ok;
  }
  return path;
}

function bandPath(at, curve) {
  const x = places(curve), [begin, end] = inside(at, x);
  let forth = '', back = '';
  for (let i = begin; i < end; ++i) {
    if (curve.y[i] === null) continue;
    const left = round(at.x(x[i]));
    forth += (forth ? 'L' : 'M') + left + ' ' + round(at.y(curve.hi[i] / at.chart.div));
    back = 'L' + left + ' ' + round(at.y(curve.lo[i] / at.chart.div)) + back;
  }
  return forth && forth + back + 'Z';
}

function curvesSvg(at) {
  const many = at.curves.length > 4 ? ' many' : '';
  let below = '', above = '';
  for (const curve of at.curves) {
    const mark = `data-r="${curve.run}" style="`;
    if (curve.hi) {
      below += `<path class="band${many}" ${mark}fill:var(${curve.color})" d="${bandPath(at, curve)}"/>`;
    } else if (smoothed(at.chart, curve) !== curve.y) {
      below += `<path class="raw${many}" ${mark}stroke:var(${curve.color})" d="${linePath(at, curve, curve.y)}"/>`;
    }
    above += `<path class="line" ${mark}stroke:var(${curve.color})" d="` +
        linePath(at, curve, smoothed(at.chart, curve)) + '"/>';
    const x = places(curve), [begin, end] = inside(at, x);
    if (!(curve.dots && end - begin <= 80) && curve.y.length > 1) continue;
    for (let i = begin; i < end; ++i) {
      if (curve.y[i] === null || x[i] < at.along.low || x[i] > at.along.high) continue;
      above += `<circle r="2.6" ${mark}fill:var(${curve.color})" cx="${round(at.x(x[i]))}" ` +
          `cy="${round(at.y(curve.y[i] / at.chart.div))}"/>`;
    }
  }
  return below + above;
}
)js";
}

}  // namespace hearth
