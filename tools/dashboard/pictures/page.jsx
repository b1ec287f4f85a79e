// /edgeq.json and /api/v1 (Prometheus) -> the dashboard's rows, by Grafana's own panels.
//
// Query string: from, to (titles of rows: the first that is shown, the first that is not), start, end
// (Unix seconds), rate (what stands for $__rate_interval), width, theme. The title becomes `ready`, or
// what went wrong. Not Grafana's: the grid, the rows' titles, and the marks of annotations.
import { Global } from '@emotion/react';
import {
  applyFieldOverrides, createTheme, dateTime, displayNameOverrideProcessor, EventBusSrv, FieldConfigOptionsRegistry,
  FieldType, getDisplayValueAlignmentFactors, getFieldDisplayValues, identityOverrideProcessor, numberOverrideProcessor,
  standardEditorsRegistry, standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry,
  ThemeContext, thresholdsOverrideProcessor, toDataFrame, transformDataFrame, unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, PanelContextProvider, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';
import 'uplot/dist/uPlot.min.css';

const given = new URLSearchParams(location.search);
const START = Number(given.get('start'));
const END = Number(given.get('end'));
const WIDTH = Number(given.get('width') || 1600);
const RATE = given.get('rate') || '15s';
const THEME = createTheme({ colors: { mode: given.get('theme') || 'dark' } });
const RANGE = { from: dateTime(START * 1000), to: dateTime(END * 1000), raw: { from: 'now-1h', to: 'now' } };
const HEIGHT_OF_ROW = 30; // Grafana's cell, and the gap between two
const GAP = 8;
const POINTS = 400;
const asIs = (text) => text;

// ---- what Grafana's server page would register

const CUSTOM = [
  'align', 'axisSoftMax', 'axisSoftMin', 'cellOptions', 'drawStyle', 'fillOpacity', 'lineStyle', 'lineWidth', 'minWidth',
  'scaleDistribution', 'showPoints', 'spanNulls', 'stacking', 'thresholdsStyle', 'width',
];
const STANDARD = {
  color: identityOverrideProcessor, decimals: numberOverrideProcessor, displayName: displayNameOverrideProcessor,
  mappings: valueMappingsOverrideProcessor, max: numberOverrideProcessor, min: numberOverrideProcessor,
  noValue: identityOverrideProcessor, thresholds: thresholdsOverrideProcessor, unit: unitOverrideProcessor,
};
const option = (path, process, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, isCustom, name: path, process, settings: {},
  editor: () => null, override: () => null, shouldApply: () => true, getItemsCount: () => 1,
});
const standardOptions = () => Object.entries(STANDARD).map(([path, process]) => option(path, process, false));
const allOptions = () => [...standardOptions(), ...CUSTOM.map((path) => option(path, identityOverrideProcessor, true))];
const registry = new FieldConfigOptionsRegistry(allOptions);
standardEditorsRegistry.setInit(() => []);
standardFieldConfigEditorRegistry.setInit(standardOptions);
standardTransformersRegistry.setInit(() => {
  const known = Object.values(standardTransformers).filter((each) => each?.id);
  const byId = new Map(known.map((each) => [each.id, each]));
  return [...byId.values()].map((each) => ({ id: each.id, name: each.name, transformation: each, editor: () => null }));
});

// ---- Prometheus -> frames

async function ask(path, query) {
  const answer = await (await fetch(`/api/v1/${path}?${new URLSearchParams(query)}`)).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data.result;
}

const filled = (expression) => expression
  .replaceAll('$__rate_interval', RATE).replaceAll('$instance', '.*').replaceAll('$model', '.*');
const called = (legend, labels) => legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');

async function tableFrame(target, isOneOfMany) {
  const rows = await ask('query', { query: filled(target.expr), time: END });
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.metric)))].filter((name) => name !== '__name__').sort();
  return toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: rows.map(() => END * 1000) },
    ...names.map((name) => ({ name, type: FieldType.string, values: rows.map((row) => row.metric[name] ?? '') })),
    { name: isOneOfMany ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: rows.map((row) => Number(row.value[1])) },
  ] });
}

async function seriesFrames(target) {
  const step = Math.max(1, Math.round((END - START) / POINTS));
  const series = await ask('query_range', { query: filled(target.expr), start: START, end: END, step });
  return series.map(({ metric, values }) => toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: values.map(([time]) => time * 1000) },
    {
      name: 'Value', type: FieldType.number, labels: metric,
      values: values.map(([, value]) => (value === 'NaN' ? null : Number(value))),
      config: { displayNameFromDS: target.legendFormat === '__auto' ? '' : called(target.legendFormat, metric) },
    },
  ] }));
}

async function framesOf(panel) {
  const isMany = panel.targets.length > 1;
  const asked = panel.targets.map((each) => (each.format === 'table' ? tableFrame(each, isMany) : seriesFrames(each)));
  let data = (await Promise.all(asked)).flat();
  if (panel.transformations) {
    data = await firstValueFrom(transformDataFrame(panel.transformations, data, { interpolate: asIs }));
  }
  return applyFieldOverrides({
    data, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry, replaceVariables: asIs, theme: THEME, timeZone: 'utc',
  });
}

// ---- annotations

// The dashboard looks 2 to 12 minutes back; a scene of minutes, scraped every second, looks seconds back.
const hastened = (expression) => filled(expression).replaceAll('[10m] offset 2m', '[40s] offset 4s').replaceAll('[2m]', '[10s]');

async function marksOf(annotation) {
  const series = await ask('query_range', { query: hastened(annotation.expr), start: START, end: END, step: 1 });
  const colour = THEME.visualization.getColorByName(annotation.iconColor);
  return series.flatMap(({ values }) => {
    const spans = [];
    for (const [time] of values) {
      const last = spans[spans.length - 1];
      if (last && time - last.until <= 3) last.until = time;
      else spans.push({ since: time, until: time, colour, isShaded: annotation.name === 'Drift' });
    }
    return spans;
  });
}

const drawn = (marks) => (plot) => {
  const { ctx, bbox } = plot;
  const bottom = bbox.top + bbox.height;
  for (const { since, until, colour, isShaded } of marks) {
    const [left, right] = [since, until].map((time) => plot.valToPos(time * 1000, 'x', true));
    if (right < bbox.left || left > bbox.left + bbox.width) continue;
    ctx.save();
    ctx.fillStyle = ctx.strokeStyle = colour;
    ctx.globalAlpha = 0.12;
    if (isShaded) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.globalAlpha = 0.9;
    ctx.setLineDash([5, 4]);
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bottom);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(left - 5, bottom + 6);
    ctx.lineTo(left + 5, bottom + 6);
    ctx.lineTo(left, bottom);
    ctx.fill();
    ctx.restore();
  }
};

// ---- panels

const displayed = (panel, frames, sparkline) => getFieldDisplayValues({
  data: frames, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: asIs,
  sparkline, theme: THEME, timeZone: 'utc',
});
const Nothing = ({ height }) => (
  <div style={{ display: 'grid', placeItems: 'center', height, color: THEME.colors.text.secondary }}>No data</div>
);

function Graph({ panel, frames, marks, width, height }) {
  const mark = (config) => {
    if (!config.isMarked) config.addHook('draw', drawn(marks));
    config.isMarked = true;
    return null;
  };
  return (
    <TimeSeries frames={frames} structureRev={1} timeRange={RANGE} timeZone="utc" width={width} height={height}
      legend={panel.options.legend} options={panel.options}>{mark}</TimeSeries>
  );
}

function Stat({ panel, frames, width, height }) {
  const [value] = displayed(panel, frames, true);
  return (
    <BigValue value={value.display} sparkline={value.sparkline} {...panel.options} width={width} height={height} theme={THEME} count={1} />
  );
}

function Gauges({ panel, frames, width, height }) {
  const values = displayed(panel, frames, false);
  const { minVizHeight, maxVizHeight, minVizWidth } = panel.options;
  const gauge = ({ value, width: w, height: h, alignmentFactors, orientation }) => (
    <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} {...panel.options}
      valueDisplayMode={panel.options.valueMode} orientation={orientation} width={w} height={h} theme={THEME} itemSpacing={6}
      lcdCellWidth={12} alignmentFactors={alignmentFactors} />
  );
  return (
    <VizRepeater source={values} getValues={() => values} getAlignmentFactors={getDisplayValueAlignmentFactors} renderValue={gauge}
      width={width} height={height} renderCounter={1} orientation="horizontal" itemSpacing={6}
      minVizHeight={minVizHeight} maxVizHeight={maxVizHeight} minVizWidth={minVizWidth} />
  );
}

function Rows({ panel, frames, width, height }) {
  return <Table data={frames[0]} width={width} height={height} cellHeight="sm" initialSortBy={panel.options.sortBy} />;
}

const KINDS = { bargauge: Gauges, stat: Stat, table: Rows, timeseries: Graph };

function Panel({ panel, frames, marks }) {
  const cell = (WIDTH - GAP) / 24;
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: GAP + x * cell, top: GAP + y * (HEIGHT_OF_ROW + GAP) };
  if (panel.type === 'row') {
    return <div style={{ ...place, font: '500 16px Inter, sans-serif', lineHeight: `${HEIGHT_OF_ROW}px` }}>⌄ {panel.title}</div>;
  }
  const Kind = frames.length ? KINDS[panel.type] : Nothing;
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={w * cell - GAP} height={h * (HEIGHT_OF_ROW + GAP) - GAP}>
        {(width, height) => <Kind panel={panel} frames={frames} marks={marks} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

// ---- the page

function shownOf(dashboard) {
  const rows = new Map(dashboard.panels.filter((each) => each.type === 'row').map((each) => [each.title, each.gridPos.y]));
  const first = rows.get(given.get('from')) ?? 0;
  const end = rows.get(given.get('to')) ?? Infinity;
  return dashboard.panels
    .filter(({ gridPos }) => gridPos.y >= first && gridPos.y < end)
    .map((each) => ({ ...each, gridPos: { ...each.gridPos, y: each.gridPos.y - first } }));
}

async function load() {
  const dashboard = await (await fetch('/edgeq.json')).json();
  const panels = shownOf(dashboard);
  const marks = (await Promise.all(dashboard.annotations.list.map(marksOf))).flat();
  const frames = await Promise.all(panels.map((each) => (each.type === 'row' ? [] : framesOf(each))));
  return { panels, marks, frames };
}

const STYLE = {
  '*': { boxSizing: 'border-box' },
  body: { margin: 0, background: THEME.colors.background.canvas, color: THEME.colors.text.primary, font: '14px Inter, sans-serif' },
  button: { font: 'inherit', color: 'inherit' },
  'h2, h6': { fontWeight: 500, fontSize: 14, margin: 0 },
  table: { borderCollapse: 'collapse' },
  'td, th': { textAlign: 'left' },
};

function Page() {
  const [loaded, setLoaded] = useState(null);
  useEffect(() => {
    load().then(setLoaded).then(() => setTimeout(() => { document.title = 'ready'; }, 1000), (error) => { document.title = `${error}`; });
  }, []);
  const bottom = Math.max(0, ...(loaded?.panels ?? []).map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <ThemeContext.Provider value={THEME}>
      <Global styles={STYLE} />
      <PanelContextProvider value={{ eventsScope: 'global', eventBus: new EventBusSrv() }}>
        <div id="board" style={{ position: 'relative', width: WIDTH, height: bottom * (HEIGHT_OF_ROW + GAP) + GAP }}>
          {loaded?.panels.map((each, i) => <Panel key={each.id} panel={each} frames={loaded.frames[i]} marks={loaded.marks} />)}
        </div>
      </PanelContextProvider>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<Page />);
