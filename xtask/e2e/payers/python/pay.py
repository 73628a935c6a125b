"""Pays a BIP 21 code by BIP 78 with the PyPI package payjoin, from one of bitcoind's wallets.

    python pay.py WALLET_URL COOKIE_FILE FEE_RATE CODE

FEE_RATE in sat/vB. The last line printed is JSON: `txid` of the payjoin and `original`, the plain payment in hex. A
certificate that is its own root comes by SSL_CERT_FILE.
"""

import base64
import json
import sys
import urllib.parse
import urllib.request

import payjoin

wallet_url, cookie_file, rate, code = sys.argv[1:]


def rpc(method, *params):
    with open(cookie_file, "rb") as cookie:
        authorization = "Basic " + base64.b64encode(cookie.read()).decode()
    body = json.dumps({"jsonrpc": "1.0", "id": 0, "method": method, "params": params}).encode()
    request = urllib.request.Request(wallet_url, body, {"Authorization": authorization})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["result"]


def sign(psbt):
    """Signs what is the wallet's, without key paths, and gives the PSBT in base64."""
    return rpc("walletprocesspsbt", psbt, True, "DEFAULT", False)["psbt"]


def pay():
    request = payjoin.Uri(code).check_pj_supported()
    payee, amount = request.address().as_string(), request.amount().to_sat()
    options = {"fee_rate": int(rate), "change_type": "bech32"}
    outputs = [{payee: f"{amount // 10**8}.{amount % 10**8:08}"}]
    funded = rpc("walletcreatefundedpsbt", [], outputs, 0, options, False)["psbt"]
    original = sign(funded)
    script = payjoin.ScriptBuf(list(bytes.fromhex(rpc("getaddressinfo", payee)["scriptPubKey"])))
    sender = request.create_pj_request(
        payjoin.PartiallySignedTransaction.from_string(original),
        payjoin.Configuration.recommended(
            payjoin.PartiallySignedTransaction.from_string(original),
            [script],
            payjoin.FeeRate.from_sat_per_kwu(int(rate) * 250),
        ),
    )
    # The bindings tell of the request's address its query alone.
    endpoint = urllib.parse.parse_qs(code.partition("?")[2])["pj"][0] + "?" + sender.request.url.query()
    post = urllib.request.Request(endpoint, bytes(sender.request.body), {"Content-Type": "text/plain"})
    with urllib.request.urlopen(post) as reply:
        proposal = sender.context.process_response(reply.read().decode())
    final = rpc("finalizepsbt", sign(proposal.as_string()))
    plain = rpc("finalizepsbt", original)
    print(json.dumps({"txid": rpc("sendrawtransaction", final["hex"]), "original": plain["hex"]}))


pay()
