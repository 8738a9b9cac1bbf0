// Reads files with a reader of npm: read.js READER FILE... prints one line of JSON for each.
const fs = require('node:fs');

const dotenv = (version) => (path) => require(`dotenv${version}`).parse(fs.readFileSync(path));

const readers = {
  'npm-dotenv-16': dotenv(16),
  'npm-dotenv-17': dotenv(17),
  'npm-dotenv-18': dotenv(18),
  dotenvx: (path) => require('@dotenvx/dotenvx').parse(fs.readFileSync(path, 'utf8'), { processEnv: {} }),
  'node-parseenv': (path) => require('node:util').parseEnv(fs.readFileSync(path, 'utf8')),
  'node-json': (path) => JSON.parse(fs.readFileSync(path, 'utf8')),
};

const [reader, ...paths] = process.argv.slice(2);
for (const file of paths) {
  let line;
  try {
    line = { file, values: { ...readers[reader](file) } };
  } catch (error) {
    line = { file, error: String(error).slice(0, 400) };
  }
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
