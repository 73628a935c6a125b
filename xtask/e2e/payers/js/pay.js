// Pays a BIP 21 code by BIP 78 with the npm package payjoin-client, from one of bitcoind's wallets.
//
//   node pay.js WALLET_URL COOKIE_FILE FEE_RATE CODE [offer]
//
// FEE_RATE in sat/vB. With `offer` the change contributes what one input costs, and the fee rate may not fall. The last
// line printed is JSON: `txid` of the payjoin and `original`, the plain payment in hex. A certificate that is its own
// root comes by NODE_EXTRA_CA_CERTS.
'use strict';

const fs = require('fs');
const { Psbt, Transaction, address, networks } = require('bitcoinjs-lib');
const { PayjoinClient } = require('payjoin-client');

const network = networks.regtest;
/** Of a P2WPKH input, as payjoin-client counts it. */
const INPUT_VBYTES = 68;

const [walletUrl, cookieFile, rate, code, offer] = process.argv.slice(2);

async function rpc(method, ...params) {
  const authorization = `Basic ${Buffer.from(fs.readFileSync(cookieFile)).toString('base64')}`;
  const body = JSON.stringify({ jsonrpc: '1.0', id: 0, method, params });
  const reply = await (await fetch(walletUrl, { method: 'POST', headers: { authorization }, body })).json();
  if (reply.error) throw new Error(`bitcoind refuses ${method}: ${reply.error.message}`);
  return reply.result;
}

/** Signs what is the wallet's; the finished PSBT where `finalize` says so. */
async function sign(psbt, finalize) {
  const signed = await rpc('walletprocesspsbt', psbt, true, 'ALL', false, finalize);
  return Psbt.fromBase64(signed.psbt, { network });
}

async function pay() {
  const [payee, query] = code.slice('bitcoin:'.length).split('?');
  const asked = new URLSearchParams(query);
  const options = { fee_rate: Number(rate), change_type: 'bech32' };
  const outputs = [{ [payee.toLowerCase()]: asked.get('amount') }];
  const funded = await rpc('walletcreatefundedpsbt', [], outputs, 0, options, false);
  const told = {};
  const wallet = {
    getPsbt: () => sign(funded.psbt, false),
    signPsbt: async (proposal) => {
      const inputs = proposal.data.inputs;
      // payjoin-client leaves fields without a value, which no PSBT can have, and later looks at the PSBT that it gave.
      for (const input of inputs) {
        for (const key of Object.keys(input)) if (input[key] === undefined) delete input[key];
      }
      const signed = await sign(proposal.toBase64(), true);
      signed.data.inputs.forEach((input, index) => {
        inputs[index].finalScriptWitness = input.finalScriptWitness;
      });
      return proposal;
    },
    broadcastTx: async (hex) => {
      told.txid = await rpc('sendrawtransaction', hex);
      return '';
    },
    scheduleBroadcastTx: async (hex) => {
      told.original = hex;
    },
  };
  const offered = {
    additionalFeeOutputIndex: funded.changepos,
    maxAdditionalFeeContribution: Math.ceil(Number(rate) * INPUT_VBYTES),
    minimumFeeRate: Number(rate) - 1,
  };
  const client = new PayjoinClient({
    wallet,
    paymentScript: address.toOutputScript(payee.toLowerCase(), network),
    payjoinUrl: asked.get('pj'),
    payjoinParameters: offer ? offered : undefined,
  });
  await client.run();
  if (Transaction.fromHex(told.original).getId() === told.txid) throw new Error('it paid plainly');
  console.log(JSON.stringify(told));
}

pay().catch((error) => {
  console.error(error);
  process.exit(1);
});
