// SPDX-License-Identifier: Apache-2.0
// Units, thresholds, mappings and overrides of a panel, laid on its frames by Grafana's own code.
import * as D from '@grafana/data';

const property = (id, process, path) => ({
  id,
  path: path ?? id,
  name: id,
  process: process ?? D.identityOverrideProcessor,
  shouldApply: () => true,
  override: () => null,
  editor: () => null,
  settings: {},
});

const standard = [
  property('unit', D.unitOverrideProcessor),
  property('min', D.numberOverrideProcessor),
  property('max', D.numberOverrideProcessor),
  property('decimals', D.numberOverrideProcessor),
  property('displayName', D.displayNameOverrideProcessor),
  property('mappings', D.valueMappingsOverrideProcessor),
  property('thresholds', D.thresholdsOverrideProcessor),
  property('noValue'),
  property('color'),
  property('links'),
];
const custom = [
  ...['drawStyle', 'lineWidth', 'fillOpacity', 'showPoints', 'stacking', 'lineInterpolation'],
  ...['lineStyle', 'spanNulls', 'axisPlacement', 'axisLabel', 'axisSoftMin', 'axisSoftMax'],
  ...['thresholdsStyle', 'gradientMode', 'pointSize', 'hideFrom', 'scaleDistribution'],
  ...['width', 'minWidth', 'cellOptions', 'align', 'barAlignment', 'barWidthFactor', 'barMaxWidth'],
].map((name) => ({ ...property(`custom.${name}`, null, name), isCustom: true }));
const registry = new D.Registry(() => [...standard, ...custom]);
D.standardFieldConfigEditorRegistry.setInit(() => standard);

export function applied(panel, frames, theme) {
  const made = D.applyFieldOverrides({
    data: frames,
    fieldConfig: panel.fieldConfig,
    replaceVariables: (text) => text,
    theme,
    fieldConfigRegistry: registry,
    timeZone: 'utc',
  });
  D.cacheFieldDisplayNames(made);
  return made;
}

export const textOf = (field, value) => D.formattedValueToString(field.display(value));
export const colourOf = (field, theme, index = 0) => {
  const mode = D.getFieldColorModeForField(field);
  const name = D.getFieldSeriesColor({ ...field, state: { seriesIndex: index, ...field.state } }, theme);
  return mode ? name.color : theme.visualization.getColorByName('blue');
};
