"""Nodes of libtorrent, driven line by line: a JSON object comes in, and one goes out with the same "call".

Bytes travel as hexadecimal, values as bencoded strings of bytes.
"""

import hashlib
import json
import os
import sys
import tempfile
import threading

import libtorrent as lt

# All nodes are on one host, where libtorrent by itself takes them for one node that would be many. The limits of how many
# queries it takes from one address, and of how many bytes a second it answers with, are out of reach: it drops what is above.
SETTINGS = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_block_ratelimit": 1000000,
    "dht_upload_rate_limit": 500000000,
    "dht_sample_infohashes_interval": 0,
    "alert_mask": lt.alert.category_t.dht_notification
    | lt.alert.category_t.dht_operation_notification
    | lt.alert.category_t.status_notification
    | lt.alert.category_t.stats_notification,
}
DEADLINE = 30


class Node:
    """A session, and who waits for which of its alerts."""

    def __init__(self):
        self.session = lt.session(SETTINGS)
        self.changed = threading.Condition()
        self.alerts = []
        self.is_ending = False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while not self.is_ending:
            self.session.wait_for_alert(1000)
            alerts = self.session.pop_alerts()
            with self.changed:
                # Alerts are gone with the next pop: what they say is kept.
                self.alerts.extend(said for said in map(say, alerts) if said)
                self.changed.notify_all()

    def end(self):
        self.is_ending = True
        # Has an alert come, for which the reader waits.
        self.session.post_dht_stats()
        self.reader.join(DEADLINE)
        # Is over when all of its threads are.
        del self.session

    def wait(self, wanted, begin=lambda: None):
        """Begins something, and waits for what is wanted of the alerts that come from then on."""
        with self.changed:
            start = len(self.alerts)
        begin()
        found = []

        def is_there():
            found[:] = [alert for alert in self.alerts[start:] if wanted(alert)]
            return found

        with self.changed:
            if not self.changed.wait_for(is_there, DEADLINE):
                raise TimeoutError(str(self.alerts[start:])[:2000])
        return found[0]


def say(alert):
    kind = type(alert).__name__
    if kind == "dht_immutable_item_alert":
        return {"kind": kind, "target": str(alert.target), "item": value(alert.item)}
    if kind == "dht_mutable_item_alert":
        return {
            "kind": kind,
            "key": bytes(alert.key).hex(),
            "salt": bytes(alert.salt).hex() if isinstance(alert.salt, bytes) else alert.salt.encode().hex(),
            "item": value(alert.item),
            "seq": alert.seq,
            "authoritative": alert.authoritative,
        }
    if kind == "dht_put_alert":
        return {"kind": kind, "success": alert.num_success, "message": alert.message()}
    if kind == "dht_get_peers_reply_alert":
        return {"kind": kind, "info_hash": str(alert.info_hash), "peers": [list(peer) for peer in alert.peers()]}
    if kind == "dht_sample_infohashes_alert":
        return {"kind": kind, "samples": [str(hash) for hash in alert.samples], "num": alert.num_infohashes}
    return None


def value(item):
    inner = item.get("value", item) if isinstance(item, dict) else item
    if isinstance(inner, str):
        inner = inner.encode()
    return inner.hex() if isinstance(inner, bytes) else None


NODES = {}
FOLDER = tempfile.TemporaryDirectory()


def start(node):
    NODES[node] = made = Node()
    return {"port": made.session.listen_port()}


def bootstrap(node, ports):
    for port in ports:
        NODES[node].session.add_dht_node(("127.0.0.1", port))


def meet(node, addresses):
    """Has the node ask each of them something: who answers enters its table."""
    for host, port in addresses:
        NODES[node].session.add_dht_node((host, port))


def process(node):
    return os.getpid()


def table(node):
    """The ports of all whom the node keeps in its table."""
    state = lt.bdecode(lt.write_session_params_buf(NODES[node].session.session_state()))
    return [int.from_bytes(address[-2:], "big") for address in state[b"dht state"].get(b"nodes", [])]


def put_immutable(node, value):
    made = NODES[node]
    target = []
    done = made.wait(
        lambda alert: alert["kind"] == "dht_put_alert",
        lambda: target.append(made.session.dht_put_immutable_item(bytes.fromhex(value))),
    )
    return {"target": str(target[0]), **done}


def get_immutable(node, target):
    made = NODES[node]
    hash = lt.sha1_hash(bytes.fromhex(target))
    done = made.wait(
        lambda alert: alert["kind"] == "dht_immutable_item_alert" and alert["target"] == target,
        lambda: made.session.dht_get_immutable_item(hash),
    )
    return done["item"]


def put_mutable(node, seed, public, value, salt):
    made = NODES[node]
    secret = bytearray(hashlib.sha512(bytes.fromhex(seed)).digest())
    secret[0] &= 248
    secret[31] &= 63
    secret[31] |= 64
    return made.wait(
        lambda alert: alert["kind"] == "dht_put_alert",
        lambda: made.session.dht_put_mutable_item(
            bytes(secret), bytes.fromhex(public), bytes.fromhex(value), bytes.fromhex(salt)
        ),
    )


def get_mutable(node, public, salt):
    made = NODES[node]
    return made.wait(
        lambda alert: alert["kind"] == "dht_mutable_item_alert" and alert["key"] == public and alert["authoritative"],
        lambda: made.session.dht_get_mutable_item(bytes.fromhex(public), bytes.fromhex(salt)),
    )


def announce(node, info_hash, port):
    NODES[node].session.dht_announce(lt.sha1_hash(bytes.fromhex(info_hash)), port, 0)


def get_peers(node, info_hash, port):
    """All whom one answer names, of the first answer that names who is at this port."""
    made = NODES[node]
    return made.wait(
        lambda alert: alert["kind"] == "dht_get_peers_reply_alert"
        and alert["info_hash"] == info_hash
        and any(peer[1] == port for peer in alert["peers"]),
        lambda: made.session.dht_get_peers(lt.sha1_hash(bytes.fromhex(info_hash))),
    )["peers"]


def add_torrent(node, info_hash):
    """Has the node look for a torrent, and so announce that it does, when it will."""
    wanted = lt.add_torrent_params()
    wanted.info_hashes = lt.info_hash_t(lt.sha1_hash(bytes.fromhex(info_hash)))
    wanted.save_path = FOLDER.name
    wanted.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    NODES[node].session.add_torrent(wanted)


def sample(node, port, target):
    made = NODES[node]
    return made.wait(
        lambda alert: alert["kind"] == "dht_sample_infohashes_alert",
        lambda: made.session.dht_sample_infohashes(("127.0.0.1", port), lt.sha1_hash(bytes.fromhex(target))),
    )


CALLS = {
    call.__name__: call
    for call in (
        start,
        bootstrap,
        meet,
        process,
        table,
        put_immutable,
        get_immutable,
        put_mutable,
        get_mutable,
        announce,
        get_peers,
        add_torrent,
        sample,
    )
}
OUTPUT = threading.Lock()


def answer(request):
    call = request.pop("call")
    try:
        reply = {"call": call, "result": CALLS[request.pop("do")](**request)}
    except Exception as error:  # Told to whoever asked.
        reply = {"call": call, "error": repr(error)}
    with OUTPUT:
        print(json.dumps(reply), flush=True)


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
# The threads of sessions must be over before the interpreter is.
for node in NODES.values():
    node.end()
