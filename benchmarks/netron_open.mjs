// Open a model file as Netron does, without a browser, and print what it makes of it; fails where Netron would.
//
//     node benchmarks/netron_open.mjs NETRON_FOLDER MODEL
//
// NETRON_FOLDER is the folder `netron` of the Python package, with a package.json that holds {"type": "module"}.
import { readFileSync } from 'fs';
import { basename, dirname, join, resolve } from 'path';
import { pathToFileURL } from 'url';

const [folder, file] = process.argv.slice(2).map((path) => resolve(path));
const load = (name) => import(pathToFileURL(join(folder, name)).href);
const fail = (error) => {
    throw error;
};

const { BinaryStream } = await load('base.js');
const { ModelFactoryService } = await load('view.js');

const require = (id) => load(`${id.replace('./', '')}.js`);
const asset = async (name) => readFileSync(join(folder, name), 'utf-8');
const stream = (path) => new BinaryStream(readFileSync(path));
const host = { environment: () => null, event: () => {}, update: () => {}, exception: fail, require, request: asset };
const context = {
    identifier: basename(file),
    stream: stream(file),
    entries: new Map(),
    request: async (name) => stream(join(dirname(file), name)),
    error: fail,
    require,
    asset,
};
const model = await new ModelFactoryService(host).open(context);
const names = (values) => values.map((value) => value.name);
const graphs = model.modules.map((graph) => ({
    name: graph.name,
    nodes: graph.nodes.length,
    inputs: names(graph.inputs),
    outputs: names(graph.outputs),
}));
console.log(JSON.stringify({ format: model.format, graphs }));
