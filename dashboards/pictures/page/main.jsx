// SPDX-License-Identifier: Apache-2.0
// Draws a dashboard's JSON with Grafana's own components. The address says which, and when:
// ?dashboard=FILE&mode=dark|light&prometheus=URL&from=S&to=S&scrape=S&variables=JSON
import React from 'react';
import { createRoot } from 'react-dom/client';
import * as D from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PortalContainer, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { framesOf, marksOf } from './ask.js';
import { applied } from './fields.js';
import { BarChart, Heatmap, StateTimeline } from './svg.jsx';

const asked = Object.fromEntries(new URLSearchParams(location.search));
const page = {
  prometheus: asked.prometheus,
  from: Number(asked.from),
  to: Number(asked.to),
  scrape: Number(asked.scrape),
  variables: JSON.parse(asked.variables),
};
const theme = D.createTheme({ colors: { mode: asked.mode } });
const ROW = 38;
const GAP = 8;
const HEAD = 44;
const COLUMN = window.innerWidth / 24;
const timeRange = {
  from: D.dateTime(page.from * 1000),
  to: D.dateTime(page.to * 1000),
  raw: { from: 'now-6h', to: 'now' },
};

class Guarded extends React.Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    return this.state.error ? <pre style={{ color: 'red' }}>{String(this.state.error.stack)}</pre> : this.props.children;
  }
}

function Lines({ panel, frames, width, height, marks }) {
  const draw = (config) => {
    config.addHook('draw', (u) => {
      u.ctx.save();
      u.ctx.setLineDash([4, 4]);
      for (const mark of marks) {
        const x = u.valToPos(mark.at, 'x', true);
        u.ctx.strokeStyle = theme.visualization.getColorByName(mark.colour);
        u.ctx.beginPath();
        u.ctx.moveTo(x, u.bbox.top);
        u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
        u.ctx.stroke();
      }
      u.ctx.restore();
    });
    return null;
  };
  const legend = { ...panel.options.legend };
  return (
    <TimeSeries
      {...{ frames, width, height, timeRange, legend }}
      timeZone="utc"
      options={panel.options}
      structureRev={1}
    >
      {(config) => <Once config={config} draw={draw} />}
    </TimeSeries>
  );
}

function Once({ config, draw }) {
  React.useLayoutEffect(() => {
    draw(config);
  }, [config]);
  return null;
}

function valuesOf(panel, frames) {
  return D.getFieldDisplayValues({
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
    data: frames,
    timeZone: 'utc',
  });
}

function Numbers({ panel, frames, width, height }) {
  const values = valuesOf(panel, frames);
  const shared = { theme, height, justifyMode: panel.options.justifyMode, count: values.length };
  return (
    <div style={{ display: 'flex' }}>
      {values.map((value, i) => (
        <BigValue
          key={i}
          {...shared}
          width={width / values.length}
          value={{ ...value.display, title: value.display.title }}
          colorMode={panel.options.colorMode}
          graphMode="none"
          textMode={panel.options.textMode}
        />
      ))}
    </div>
  );
}

function Ranking({ panel, frames, width, height }) {
  const values = valuesOf(panel, frames);
  const most = Math.max(...values.map((value) => value.display.numeric));
  const room = Math.min(34, height / Math.max(1, values.length));
  return values.slice(0, Math.floor(height / 24)).map((value, i) => (
    <BarGauge
      key={i}
      width={width}
      height={Math.max(24, room) - 4}
      theme={theme}
      value={value.display}
      field={{ max: most, ...value.field, min: 0 }}
      display={value.view?.getFieldDisplayProcessor(value.colIndex)}
      orientation="horizontal"
      displayMode={panel.options.displayMode}
      alignmentFactors={D.getDisplayValueAlignmentFactors(values)}
      namePlacement="left"
      showUnfilled={false}
      itemSpacing={4}
    />
  ));
}

function Table({ panel, frames, width, height }) {
  const sortBy = panel.options.sortBy ?? [];
  return (
    <TableNG
      data={frames[0]}
      {...{ width, height }}
      initialSortBy={sortBy}
      cellHeight="sm"
      timeRange={timeRange}
      structureRev={1}
    />
  );
}

const KINDS = {
  timeseries: Lines,
  stat: Numbers,
  bargauge: Ranking,
  table: Table,
  statetimeline: StateTimeline,
  'state-timeline': StateTimeline,
  heatmap: Heatmap,
  barchart: BarChart,
};

function Drawn({ panel, result, width, height, marks }) {
  if (result.error) {
    return <pre style={{ color: 'red' }}>{result.error}</pre>;
  }
  if (!result.frames.length) {
    const empty = panel.fieldConfig.defaults.noValue ?? 'No data';
    const middle = { display: 'flex', height: '100%', alignItems: 'center', justifyContent: 'center' };
    return <div style={{ ...middle, color: theme.colors.text.secondary, textAlign: 'center' }}>{empty}</div>;
  }
  const Kind = KINDS[panel.type];
  const frames = applied(panel, result.frames, theme);
  const mine = marks.filter((mark) => mark.panels.includes(panel.id));
  return <Kind {...{ panel, frames, width, height, theme, page }} marks={mine} />;
}

function Head({ dashboard }) {
  const chip = {
    border: `1px solid ${theme.colors.border.medium}`,
    borderRadius: 2,
    padding: '3px 8px',
    marginRight: 6,
  };
  const shown = dashboard.templating.list.map((variable) => {
    const value = page.variables[variable.name];
    const text = value === undefined || value === '.+' ? (variable.type === 'query' ? 'All' : 'default') : value;
    return (
      <span key={variable.name} style={chip}>
        <b>{variable.label}</b>&nbsp; {text}
      </span>
    );
  });
  const line = { display: 'flex', alignItems: 'center', height: HEAD, padding: '0 8px' };
  return (
    <div style={{ ...line, color: theme.colors.text.primary }}>
      <h4 style={{ margin: '0 18px 0 0' }}>{dashboard.title}</h4>
      {shown}
      <span style={{ marginLeft: 'auto', color: theme.colors.text.secondary }}>
        {dashboard.links.map((link) => link.title).join('   ·   ')}
      </span>
    </div>
  );
}

function place({ x, y, w, h }) {
  return { position: 'absolute', left: x * COLUMN + GAP / 2, top: HEAD + y * ROW, width: w * COLUMN - GAP, height: h * ROW - GAP };
}

function Page({ dashboard, results, marks }) {
  const height = Math.max(...dashboard.panels.map((p) => HEAD + (p.gridPos.y + p.gridPos.h) * ROW));
  const canvas = { position: 'relative', background: theme.colors.background.canvas, height };
  return (
    <D.ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <div id="page" style={canvas}>
        <Head dashboard={dashboard} />
        {dashboard.panels.map((panel, i) => {
          const where = place(panel.gridPos);
          if (panel.type === 'row') {
            return <h5 key={i} style={{ ...where, paddingTop: 8, paddingLeft: 8 }}>{panel.title}</h5>;
          }
          return (
            <div key={i} style={where}>
              <PanelChrome title={panel.title} description={panel.description} width={where.width} height={where.height}>
                {(width, inner) => (
                  <Guarded>
                    <Drawn {...{ panel, width, height: inner, marks }} result={results[i]} />
                  </Guarded>
                )}
              </PanelChrome>
            </div>
          );
        })}
      </div>
    </D.ThemeContext.Provider>
  );
}

async function main() {
  const dashboard = await (await fetch(asked.dashboard)).json();
  const results = await Promise.all(
    dashboard.panels.map(async (panel) => {
      if (panel.type === 'row') {
        return null;
      }
      try {
        return { frames: await framesOf(panel, page, panel.gridPos.w * COLUMN) };
      } catch (error) {
        return { error: String(error) };
      }
    })
  );
  const marks = await marksOf(dashboard, page);
  createRoot(document.getElementById('root')).render(<Page {...{ dashboard, results, marks }} />);
  const failed = results.filter((result) => result?.error).map((result) => result.error);
  setTimeout(() => {
    document.title = failed.length ? `failed: ${failed.join('; ')}` : 'ready';
  }, 2500);
}

main().catch((error) => {
  document.title = `failed: ${error}`;
});
