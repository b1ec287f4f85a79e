// page.jsx and Grafana's libraries -> page.js, page.css
//
// Grafana's files end in .mjs, by which esbuild reads `import x from` a CommonJS package as node does,
// not as a browser's bundler: half the widgets would be objects. Under a name that ends in .js they are
// read as Grafana reads them.
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { build } from 'esbuild';

const plain = {
  name: 'grafana-as-js',
  setup(on) {
    on.onResolve({ filter: /.*/ }, async (asked) => {
      if (asked.pluginData === 'asked') return undefined;
      const from = asked.pluginData?.real ?? asked.importer;
      const found = await on.resolve(asked.path, {
        kind: asked.kind, importer: from, resolveDir: asked.resolveDir, pluginData: 'asked',
      });
      if (!/@grafana\/.*\.mjs$/.test(found.path)) return found;
      return { path: found.path.replace(/\.mjs$/, '.js'), namespace: 'grafana', pluginData: { real: found.path } };
    });
    on.onLoad({ filter: /.*/, namespace: 'grafana' }, async ({ pluginData }) => ({
      contents: await readFile(pluginData.real, 'utf8'), resolveDir: dirname(pluginData.real), loader: 'js', pluginData,
    }));
  },
};

await build({
  entryPoints: ['page.jsx'], outfile: 'out/page.js', bundle: true, jsx: 'automatic', logLevel: 'error', plugins: [plain],
  loader: { '.svg': 'dataurl', '.ttf': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
});
