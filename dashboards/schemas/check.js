// SPDX-License-Identifier: Apache-2.0
// Holds dashboards against JSON schemas made from the types that Grafana publishes, panel by panel:
// an option that is misspelt is silent in Grafana, and found here.
//
// node check.js FILE...
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import Ajv from 'ajv';
import { createGenerator } from 'ts-json-schema-generator';

const require = createRequire(import.meta.url);
const raw = join(dirname(require.resolve('@grafana/schema/package.json')), 'dist/types/raw');
const folders = {
  barchart: 'barchart',
  bargauge: 'bargauge',
  heatmap: 'heatmap',
  stat: 'stat',
  'state-timeline': 'statetimeline',
  table: 'table',
  timeseries: 'timeseries',
};
const ajv = new Ajv({ strict: false, allErrors: true });

// Fields with a default are marked as required in the types; dashboards may leave them out.
function relaxed(schema) {
  if (Array.isArray(schema)) {
    return schema.map(relaxed);
  }
  if (schema && typeof schema === 'object') {
    const { required, ...rest } = schema;
    const kept = Object.entries(rest).map(([key, value]) => [key, relaxed(value)]);
    return Object.fromEntries(kept);
  }
  return schema;
}

function validator(file, type, relax) {
  const config = { path: join(raw, file), type, skipTypeCheck: true, additionalProperties: false };
  const schema = createGenerator(config).createSchema(type);
  return ajv.compile(relax ? relaxed(schema) : schema);
}

const made = new Map();
function of(file, type, relax = true) {
  const key = `${file} ${type}`;
  if (!made.has(key)) {
    made.set(key, validator(file, type, relax));
  }
  return made.get(key);
}

let checked = 0;
const problems = [];
function check(where, validate, value) {
  checked += 1;
  if (!validate(value)) {
    for (const error of validate.errors) {
      const extra = error.params.additionalProperty ?? '';
      problems.push(`${where}${error.instancePath}: ${error.message} ${extra}`);
    }
  }
}

for (const file of process.argv.slice(2)) {
  const dashboard = JSON.parse(readFileSync(file, 'utf8'));
  const { panels, ...rest } = dashboard;
  // Known to Grafana and missing in its types: what the Prometheus data source reads of an
  // annotation (their `target` is that of Grafana's own source), and the text of a variable's query.
  for (const mark of rest.annotations.list) {
    for (const field of ['expr', 'step', 'tagKeys', 'target', 'textFormat', 'titleFormat', 'useValueForTime']) {
      delete mark[field];
    }
  }
  for (const variable of rest.templating.list) {
    delete variable.definition;
  }
  check(dashboard.title, of('dashboard/x/types.gen.d.ts', 'Dashboard'), rest);
  const nested = panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  for (const panel of nested) {
    const where = `${dashboard.title}: ${panel.title}`;
    // The query's own type is not published: tests/unit/dashboards/test_dashboards.py knows its keys.
    const { options, fieldConfig, targets, ...own } = panel;
    if (panel.type === 'row') {
      check(where, of('dashboard/x/types.gen.d.ts', 'RowPanel'), { ...panel, panels: [] });
      continue;
    }
    const kind = `composable/${folders[panel.type]}/panelcfg/x/types.gen.d.ts`;
    check(where, of('dashboard/x/types.gen.d.ts', 'Panel'), own);
    check(`${where} options`, of(kind, 'Options'), options);
    const { custom, ...defaults } = fieldConfig.defaults;
    check(`${where} defaults`, of('dashboard/x/types.gen.d.ts', 'FieldConfig'), defaults);
    if (custom) {
      check(`${where} custom`, of(kind, 'FieldConfig'), custom);
    }
    for (const override of fieldConfig.overrides) {
      for (const { id, value } of override.properties) {
        const [first, second] = id.split('.');
        const [type, field] = first === 'custom' ? [kind, { [second]: value }] : ['dashboard/x/types.gen.d.ts', { [id]: value }];
        check(`${where} override ${override.matcher.options} ${id}`, of(type, 'FieldConfig'), field);
      }
    }
  }
}
for (const problem of problems) {
  console.error(problem);
}
console.log(`${checked} parts checked against ${made.size} schemas, ${problems.length} problems`);
process.exitCode = problems.length || !checked ? 1 : 0;
