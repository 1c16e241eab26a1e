// SPDX-License-Identifier: Apache-2.0
// Lists the units that Grafana knows: make dashboard-units.
globalThis.navigator ??= { language: 'en-GB', languages: ['en-GB'] }; // of a browser
const { getValueFormats } = require('@grafana/data');

const ids = getValueFormats().flatMap((group) => group.submenu.map((unit) => unit.value));
console.log(JSON.stringify([...new Set(ids)].sort(), null, 1));
