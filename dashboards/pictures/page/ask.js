// SPDX-License-Identifier: Apache-2.0
// A panel's queries, asked of a Prometheus as Grafana's data source asks them, and what its
// transformations make of the answers.
import * as D from '@grafana/data';
import { lastValueFrom } from 'rxjs';

const transformers = D.standardTransformers;
D.standardTransformersRegistry.setInit(() =>
  ['merge', 'organizeFields', 'sortBy', 'convertFieldType'].map((name) => {
    const transformation = transformers[`${name}Transformer`];
    return { id: transformation.id, name: transformation.name, transformation: async () => transformation };
  })
);

const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };
const seconds = (text) => Number.parseFloat(text) * UNITS[text.slice(-1)];

// The step of a graph: as wide as a few pixels, and no smaller than panel and scrapes allow.
const STEPS = [15, 30, 60, 120, 300, 600, 900, 1800, 3600];
function stepOf(panel, page, width) {
  const least = Math.max(page.scrape, panel.interval ? seconds(panel.interval) : 0);
  const wanted = (page.to - page.from) / (panel.type === 'heatmap' ? width / 9 : width / 3);
  return STEPS.find((step) => step >= Math.max(least, wanted)) ?? 3600;
}

export function filled(expression, page, step) {
  const values = {
    ...page.variables,
    __rate_interval: `${Math.max(step + page.scrape, 4 * page.scrape)}s`,
    __interval: `${step}s`,
    __range: `${Math.round(page.to - page.from)}s`,
  };
  return expression.replace(/\$\{?([A-Za-z_]\w*)\}?/g, (all, name) => values[name] ?? all);
}

async function get(page, path, parameters) {
  const answer = await fetch(`${page.prometheus}${path}?${new URLSearchParams(parameters)}`);
  const said = await answer.json();
  if (said.status !== 'success') {
    throw new Error(said.error);
  }
  return said.data.result;
}

function nameOf(target, labels) {
  const legend = target.legendFormat;
  if (!legend) {
    return undefined;
  }
  return legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');
}

// NaN stands for 0 / 0: no point, as in Grafana.
const number = (text) => {
  const value = text === '+Inf' ? Infinity : Number(text);
  return Number.isNaN(value) ? null : value;
};

function overTime(target, series, page, step) {
  const { __name__, ...labels } = series.metric;
  const displayNameFromDS = nameOf(target, labels);
  const samples = new Map(series.values.map(([at, value]) => [Math.round(at), number(value)]));
  const times = [];
  for (let at = Math.ceil(page.from / step) * step; at <= page.to; at += step) {
    times.push(at);
  }
  return D.toDataFrame({
    refId: target.refId,
    name: displayNameFromDS,
    fields: [
      { name: 'Time', type: D.FieldType.time, values: times.map((at) => at * 1000) },
      {
        name: 'Value',
        type: D.FieldType.number,
        values: times.map((at) => samples.get(at) ?? null),
        labels,
        config: { displayNameFromDS },
      },
    ],
  });
}

function atOnce(target, series) {
  const { __name__, ...labels } = series.metric;
  const displayNameFromDS = nameOf(target, labels);
  return D.toDataFrame({
    refId: target.refId,
    name: displayNameFromDS,
    fields: [
      { name: 'Time', type: D.FieldType.time, values: [series.value[0] * 1000] },
      {
        name: 'Value',
        type: D.FieldType.number,
        values: [number(series.value[1])],
        labels,
        config: { displayNameFromDS },
      },
    ],
  });
}

function asTable(target, result, many) {
  const labels = [...new Set(result.flatMap((series) => Object.keys(series.metric)))].sort();
  return D.toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: D.FieldType.time, values: result.map((s) => s.value[0] * 1000) },
      ...labels.map((name) => ({
        name,
        type: D.FieldType.string,
        values: result.map((series) => series.metric[name] ?? ''),
      })),
      {
        name: many ? `Value #${target.refId}` : 'Value',
        type: D.FieldType.number,
        values: result.map((series) => number(series.value[1])),
      },
    ],
  });
}

export async function framesOf(panel, page, width) {
  const step = stepOf(panel, page, width);
  const frames = [];
  for (const target of panel.targets) {
    const query = filled(target.expr, page, step);
    if (target.range) {
      const start = Math.ceil(page.from / step) * step;
      const asked = { query, start, end: page.to, step };
      const result = await get(page, '/api/v1/query_range', asked);
      frames.push(...result.map((series) => overTime(target, series, page, step)));
    } else {
      const result = await get(page, '/api/v1/query', { query, time: page.to });
      if (target.format === 'table') {
        frames.push(asTable(target, result, panel.targets.length > 1));
      } else {
        frames.push(...result.map((series) => atOnce(target, series)));
      }
    }
  }
  const context = { interpolate: (text) => text };
  const changed = D.transformDataFrame(panel.transformations ?? [], frames, context);
  return (await lastValueFrom(changed)).filter((frame) => frame.length);
}

// The moments that the annotations mark: their value is the moment, in milliseconds.
export async function marksOf(dashboard, page) {
  const marks = [];
  for (const each of dashboard.annotations.list.filter((each) => each.enable)) {
    const asked = { query: filled(each.expr, page, 60), start: page.from, end: page.to, step: 60 };
    for (const series of await get(page, '/api/v1/query_range', asked)) {
      const moments = new Set(series.values.map(([, value]) => Number(value)));
      for (const at of moments) {
        if (at >= page.from * 1000 && at <= page.to * 1000) {
          marks.push({ at, colour: each.iconColor, panels: each.filter.ids, ...series.metric });
        }
      }
    }
  }
  return marks;
}
