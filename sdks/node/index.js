'use strict';

const { Client, Features } = require('./lib/client');
const { DomainName, normalize, covers } = require('./lib/domains');
const { verifyLicense, judge } = require('./lib/licenses');
const { express, fastify } = require('./lib/middleware');
const { FakeClient } = require('./lib/testing');
const { KeySet, TokenRefused, InvalidKeySet } = require('./lib/tokens');
const { verifyVerdict } = require('./lib/verdicts');

module.exports = {
  Client, Features, DomainName, normalize, covers, verifyLicense, judge, express, fastify, FakeClient, KeySet,
  TokenRefused, InvalidKeySet, verifyVerdict,
};
