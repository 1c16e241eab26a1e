// SPDX-License-Identifier: Apache-2.0
// What Grafana keeps inside its own panels and does not publish: state timeline, heatmap and bar
// chart, drawn here from the same options with the same theme, units and colours.
import React from 'react';
import * as D from '@grafana/data';
import { scaleSequential } from 'd3-scale';
import * as chromatic from 'd3-scale-chromatic';
import { VizLegend } from '@grafana/ui';
import { colourOf, textOf } from './fields.js';

const FONT = 12;
const LEGEND = 30;
const AXIS = 22;
const style = (theme) => ({ fontFamily: theme.typography.fontFamily, fontSize: FONT });
const text = (theme) => ({ fill: theme.colors.text.primary });

function Legend({ items }) {
  const shown = items.map((item) => ({ yAxis: 1, ...item }));
  return <VizLegend items={shown} placement="bottom" displayMode="list" />;
}

function Ticks({ page, x, left, right, y, theme, height }) {
  const every = [900, 1800, 3600, 7200, 10800, 14400].find((s) => (page.to - page.from) / s <= 8);
  const ticks = [];
  for (let at = Math.ceil(page.from / every) * every; at < page.to; at += every) {
    ticks.push(at);
  }
  return ticks.map((at) => (
    <g key={at}>
      <line x1={x(at)} x2={x(at)} y1={0} y2={height} stroke={theme.colors.border.weak} />
      <text x={Math.min(Math.max(x(at), left + 16), right - 16)} y={y} textAnchor="middle" {...text(theme)}>
        {D.dateTimeFormat(at * 1000, { format: 'HH:mm', timeZone: 'utc' })}
      </text>
    </g>
  ));
}

const names = (frames) => frames.map((frame) => D.getFieldDisplayName(frame.fields[1], frame));
const room = (labels, most) => Math.min(most, 12 + 6.6 * Math.max(0, ...labels.map((l) => l.length)));

export function StateTimeline({ panel, frames, width, height, theme, page, marks }) {
  const rows = frames.slice(0, panel.options.perPage ?? 20);
  const labels = names(rows);
  const left = room(labels, width / 3);
  const h = height - LEGEND - AXIS;
  const band = h / rows.length;
  const x = (at) => left + ((at - page.from) / (page.to - page.from)) * (width - left - 4);
  const bars = rows.flatMap((frame, row) => {
    const [time, value] = frame.fields;
    const found = [];
    for (let i = 0; i < frame.length; ) {
      let end = i + 1;
      while (end < frame.length && value.values[end] === value.values[i]) {
        end += 1;
      }
      if (value.values[i] !== null) {
        const from = x(time.values[i] / 1000);
        const to = x(Math.min(page.to, time.values[Math.min(end, frame.length - 1)] / 1000));
        const place = { x: from, y: row * band + band * 0.1, height: band * panel.options.rowHeight };
        const fill = value.display(value.values[i]).color;
        found.push(<rect key={`${row}-${i}`} {...place} width={Math.max(1, to - from)} fill={fill} />);
      }
      i = end;
    }
    return found;
  });
  const shown = marks.map((mark, i) => (
    <line
      key={`m${i}`}
      x1={x(mark.at / 1000)}
      x2={x(mark.at / 1000)}
      y1={0}
      y2={h + 4}
      stroke={theme.visualization.getColorByName(mark.colour)}
      strokeDasharray="3 3"
    />
  ));
  const states = Object.values(panel.fieldConfig.defaults.mappings[0].options);
  const items = states.map((s) => ({ label: s.text, color: theme.visualization.getColorByName(s.color) }));
  return (
    <div style={{ width, height }}>
      <svg width={width} height={height - LEGEND} style={style(theme)}>
        <Ticks {...{ page, x, theme, left, right: width, y: h + 17, height: h }} />
        {bars}
        {shown}
        {labels.map((label, row) => (
          <text key={label} x={left - 8} y={(row + 0.5) * band + 4} textAnchor="end" {...text(theme)}>
            {label}
          </text>
        ))}
      </svg>
      <Legend items={items} />
    </div>
  );
}

export function Heatmap({ panel, frames, width, height, theme, page }) {
  const bound = (frame) => Number(frame.fields[1].labels.le.replace('+Inf', 'Infinity'));
  const sorted = [...frames].sort((a, b) => bound(a) - bound(b));
  const times = sorted[0].fields[0].values;
  const counts = sorted.map((frame, row) =>
    times.map((_, i) => {
      const below = row ? (sorted[row - 1].fields[1].values[i] ?? 0) : 0;
      return Math.max(0, (frame.fields[1].values[i] ?? 0) - below);
    })
  );
  const most = Math.max(1e-9, ...counts.flat());
  const unit = D.getValueFormat(panel.options.yAxis.unit);
  const label = (frame) => (bound(frame) === Infinity ? '+Inf' : D.formattedValueToString(unit(bound(frame))));
  const left = room(sorted.map(label), 90);
  const h = height - AXIS - LEGEND;
  const band = h / sorted.length;
  const x = (at) => left + ((at - page.from) / (page.to - page.from)) * (width - left - 4);
  const step = times.length > 1 ? (times[1] - times[0]) / 1000 : 60;
  // Grafana's schemes begin at the end that fades into the background.
  const scheme = chromatic[`interpolate${panel.options.color.scheme}`];
  const scale = scaleSequential(theme.isDark ? (v) => scheme(1 - v) : scheme);
  const shade = (count) => scale((count / most) ** (panel.options.color.exponent ?? 1));
  const cells = counts.flatMap((row, r) =>
    row.map((count, i) =>
      count > (panel.options.filterValues?.le ?? 0) ? (
        <rect
          key={`${r}-${i}`}
          x={x(times[i] / 1000 - step)}
          y={h - (r + 1) * band}
          width={Math.max(1, x(step + page.from) - x(page.from) - 1)}
          height={Math.max(1, band - 1)}
          fill={shade(count)}
        />
      ) : null
    )
  );
  const every = Math.ceil(sorted.length / 8);
  return (
    <svg width={width} height={height} style={style(theme)}>
      <Ticks {...{ page, x, theme, left, right: width, y: h + 17, height: h }} />
      {cells}
      {sorted.map((frame, row) =>
        row % every ? null : (
          <text key={row} x={left - 8} y={Math.max(10, h - (row + 1) * band + 4)} textAnchor="end" {...text(theme)}>
            {label(frame)}
          </text>
        )
      )}
      {[...Array(60).keys()].map((i) => (
        <rect key={i} x={left + i * 3} y={h + AXIS + 8} width={3} height={8} fill={shade((i / 60) * most)} />
      ))}
      <text x={left + 188} y={h + AXIS + 16} {...text(theme)}>
        0 to {Math.round(most)} requests
      </text>
    </svg>
  );
}

export function BarChart({ panel, frames, width, height, theme }) {
  const frame = frames[0];
  const byName = frame.fields.find((field) => D.getFieldDisplayName(field, frame) === panel.options.xField);
  const values = frame.fields.filter((field) => field.type === D.FieldType.number && field !== byName);
  const labels = byName.values.map((value) => textOf(byName, value));
  const sums = labels.map((_, i) => values.reduce((sum, field) => sum + (field.values[i] ?? 0), 0));
  const most = Math.max(1e-9, ...sums);
  const items = values.map((field, i) => ({
    label: D.getFieldDisplayName(field, frame),
    color: colourOf(field, theme, i),
  }));
  const h = height - LEGEND - AXIS;
  const flat = panel.options.orientation === 'horizontal';
  const left = flat ? room(labels, width / 3) : 44;
  const right = width - (flat ? 60 : 8);
  const band = (flat ? h : right - left) / labels.length;
  const thick = band * panel.options.barWidth * (flat ? 0.8 : 1);
  const long = (value) => (value / most) * (flat ? right - left : h - 18);
  const shapes = labels.flatMap((_, i) => {
    let done = 0;
    const bars = values.map((field, k) => {
      const size = long(field.values[i] ?? 0);
      const across = i * band + (band - thick) / 2;
      const place = flat
        ? { x: left + done, y: across, width: size, height: thick }
        : { x: left + across, y: h - done - size, width: thick, height: size };
      done += size;
      return <rect key={`${i}-${k}`} {...place} fill={items[k].color} fillOpacity={0.9} />;
    });
    const total = textOf(values[0], sums[i]);
    const where = flat
      ? { x: left + done + 6, y: (i + 0.5) * band + 4 }
      : { x: left + (i + 0.5) * band, y: h - done - 5, textAnchor: 'middle' };
    return [...bars, <text key={`t${i}`} {...where} {...text(theme)}>{total}</text>];
  });
  const every = flat ? 1 : Math.ceil((9 * Math.max(...labels.map((l) => l.length)) + 4) / band / 1.4);
  return (
    <div style={{ width, height }}>
      <svg width={width} height={height - LEGEND} style={style(theme)}>
        {shapes}
        {labels.map((label, i) =>
          i % every && i !== labels.length - 1 ? null : (
            <text
              key={i}
              x={flat ? left - 8 : left + (i + 0.5) * band}
              y={flat ? (i + 0.5) * band + 4 : h + 16}
              textAnchor={flat ? 'end' : 'middle'}
              {...text(theme)}
            >
              {label}
            </text>
          )
        )}
      </svg>
      <Legend items={items} />
    </div>
  );
}
