'use strict';
// Real servers of node:http, and an application's own tests with the double.

const assert = require('node:assert/strict');
const http = require('node:http');
const { test } = require('node:test');
const { FakeClient, express } = require('..');

async function serve(fake, options, handler) {
  const middleware = express(fake, options);
  const server = http.createServer((request, response) => middleware(request, response, (error) => {
    if (error) {
      response.statusCode = 500;
      response.end();
    } else {
      handler(request, response);
    }
  }));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

function get(server, headers) {
  return new Promise((resolve, reject) => {
    http.get({ port: server.address().port, host: '127.0.0.1', headers, agent: false }, (response) => {
      let body = '';
      response.on('data', (chunk) => { body += chunk; });
      response.on('end', () => resolve({ status: response.statusCode, type: response.headers['content-type'], body }));
    }).on('error', reject);
  });
}

test('a server lets requests through while the license holds', async () => {
  const fake = new FakeClient({ features: ['analytics'] });
  const server = await serve(fake, { trustedProxies: ['127.0.0.0/8'] }, (request, response) => {
    response.end(String(request.license.features.has('analytics')));
  });
  const answer = await get(server, { host: 'inner:8080', 'x-forwarded-host': 'shop.example' });
  assert.deepEqual([answer.status, answer.body, fake.asked], [200, 'true', ['shop.example']]);
  fake.set({ valid: false, code: 'expired' });
  const refused = await get(server, { host: 'shop.example' });
  assert.deepEqual([refused.status, refused.type, JSON.parse(refused.body).code], [403, 'application/problem+json', 'expired']);
  server.close();
});

test('an error of the client goes to the server and ends nothing', async () => {
  const broken = { validate: async () => { throw new Error('broken'); } };
  const server = await serve(broken, {}, () => assert.fail('let through'));
  assert.equal((await get(server, { host: 'shop.example' })).status, 500);
  server.close();
});

test('the double remembers usage', () => {
  const fake = new FakeClient();
  assert.equal(fake.record('exports', 3, { feature: 'pdf' }), true);
  assert.deepEqual(fake.recorded, [{ meter: 'exports', quantity: 3, feature: 'pdf' }]);
});
