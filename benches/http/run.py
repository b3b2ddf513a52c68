#!/usr/bin/env python3
"""HTTP under load: what does a node of `dht node` do when many clients ask it at once, beside OpenDHT's REST proxy?

Starts a network of three nodes of each, saves values, and has wrk ask one node of each, by turns: GETs of values that are
there, and PUTs. Then every value is read through another node. See docs/benchmarks.md, "HTTP".

Needs Linux, Python 3.9 or later, a Rust toolchain, and wrk; and dhtnode for what it is compared with:
    apt-get install wrk dhtnode
It installs nothing. All of it runs in a network namespace of its own (unshare, of util-linux), where there is nothing
but a loopback interface, as dhtnode listens at every address.

Exit status: 0 if all is well, 1 if a request failed, a value was not found unchanged, or the memory of a node kept
growing (what OpenDHT does is told, but does not count), 2 if the arguments are wrong, 3 if something is missing.
"""

import argparse
import base64
import concurrent.futures
import ctypes
import fcntl
import http.client
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INSIDE = "DHT_BENCH_INSIDE"
NODES = 3
VALUE_BYTES = 100
# What all values begin with: a multiple of three bytes, so that its base64 is the beginning of theirs.
BEGIN = b"value of "
TICKS = os.sysconf("SC_CLK_TCK")
# The memory of a node that has seen all keys may grow by so much in the second half of a load.
GROWTH_SHARE, GROWTH_KIB = 0.10, 4096


class Missing(Exception):
    """Something that cannot be done without."""


class Ended(Exception):
    """A node that should run."""


def value_of(key):
    filler = random.Random(key).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=VALUE_BYTES)
    return (BEGIN + key.encode() + b" " + "".join(filler).encode())[:VALUE_BYTES]


def keys_of(word, count):
    return [f"{word}-{number:05}" for number in range(count)]


def die_with_parent():
    """A node does not outlive this program, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Node:
    """A process, and what the kernel says of it."""

    def __init__(self, arguments, log):
        self.log = log
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RUST_LOG": "warn"},
                preexec_fn=die_with_parent,
            )
        self.port = None

    def said(self):
        return Path(self.log).read_text(errors="replace")

    def is_alive(self):
        return self.process.poll() is None

    def processor_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_kib(self, name):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def begin_peak(self):
        """From now on, the peak of memory is counted anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self):
        if self.is_alive():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Network:
    """Three nodes, of which the first is known to the others."""

    def __init__(self, folder, seconds_to_start=20):
        self.folder, self.seconds_to_start, self.nodes = folder, seconds_to_start, []
        try:
            self.start()
            self.until("all nodes know others", lambda: all(self.knows(node) >= self.enough for node in self.nodes))
        except BaseException:
            self.stop()
            raise

    def until(self, what, is_so):
        end = time.monotonic() + self.seconds_to_start
        while not is_so():
            if time.monotonic() > end or not all(node.is_alive() for node in self.nodes):
                logs = "".join(node.said() for node in self.nodes)
                raise Missing(f"{self.name}: waited in vain until {what}\n{logs}")
            time.sleep(0.05)

    def stop(self):
        for node in self.nodes:
            node.stop()

    def save(self, node, key):
        method, path, body = self.request("PUT", key)
        status, answer = node.ask(method, path, body)
        if status != 200:
            raise Missing(f"{self.name}: {key} could not be saved: {status} {answer[:300]!r}")

    def raw(self, node, kind, key):
        """A request as it is sent."""
        method, path, body = self.request(kind, key)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\n"
        if body is not None:
            head += f"Content-Type: {self.content_type}\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + (body or b"")


class Own(Network):
    """Nodes of this project."""

    key, name, content_type, is_durable = "dht", "this library", "application/octet-stream", False
    program, enough = None, NODES - 1
    # Of a write: another node has it.
    marks = {"GET": BEGIN.decode(), "PUT": '"accepted":[{'}

    def start(self):
        for number in range(NODES):
            arguments = [self.program, "node", "--http", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/udp/0"]
            if self.nodes:
                arguments += ["--connect", self.word(self.nodes[0], "listening")]
            if self.is_durable:
                arguments += ["--data-dir", self.folder / f"{self.key}-{number}"]
            node = Node(arguments, self.folder / f"{self.key}-{number}.log")
            self.nodes.append(node)
            self.until("a node is ready", lambda: node.said().endswith("ready\n"))
            node.port = int(self.word(node, "http").rsplit(":", 1)[1])

    @staticmethod
    def word(node, name):
        return next(line.split(" ", 1)[1] for line in node.said().splitlines() if line.startswith(name + " "))

    @staticmethod
    def knows(node):
        return len(json.loads(node.ask("GET", "/neighbours")[1])["neighbours"])

    @classmethod
    def version(cls):
        return subprocess.run([cls.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    @staticmethod
    def request(kind, key):
        return kind, f"/dht/{key}", value_of(key) if kind == "PUT" else None

    @staticmethod
    def value(body):
        return body

    def ills(self, node):
        """What is not well. All that a node says but the lines of the beginning is a complaint."""
        words = ("id ", "listening ", "http ", "ready")
        complaints = [line for line in node.said().splitlines() if not line.startswith(words)]
        status, health = node.ask("GET", "/healthz") if node.is_alive() else (None, b"a node has ended")
        return complaints + ([] if status == 200 else [health.decode(errors="replace")])


class OwnDurable(Own):
    """Nodes of this project that keep what they have on disk; an answer to a write waits for that."""

    key, name, is_durable = "dht_durable", "this library, on disk", True
    marks = {"GET": BEGIN.decode(), "PUT": '"durable":true'}


class OpenDht(Network):
    """Nodes of OpenDHT with its REST proxy."""

    key, name, content_type = "opendht", "OpenDHT", "application/json"
    # What a node tells of those that it knows is of the moment when it met the first.
    program, enough = None, 1
    marks = {"GET": base64.b64encode(BEGIN).decode(), "PUT": base64.b64encode(BEGIN).decode()}

    def start(self):
        for number in range(NODES):
            udp, tcp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
            arguments = [self.program, "-s", "-n", "4242", "-p", str(udp), "--proxyserver", str(tcp)]
            # Its nodes else answer an address so and so often a second only.
            arguments += ["--no-rate-limit"]
            if self.nodes:
                arguments += ["-b", f"127.0.0.1:{self.udp}"]
            else:
                self.udp = udp
            node = Node(arguments, self.folder / f"{self.key}-{number}.log")
            node.port = tcp
            self.nodes.append(node)

    @staticmethod
    def knows(node):
        try:
            known = json.loads(node.ask("GET", "/")[1]).get("ipv4", {})
            return known.get("good", 0) + known.get("dubious", 0)
        except (OSError, http.client.HTTPException):
            return 0

    @staticmethod
    def version():
        shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "dhtnode"], capture_output=True, text=True)
        return "dhtnode " + (shown.stdout or "of unknown version")

    @staticmethod
    def request(kind, key):
        if kind == "GET":
            return "GET", f"/{key}", None
        # With an id of its own a value takes the place of the one before; without, there would be one more each time.
        number = int(key.rsplit("-", 1)[1]) + 1
        data = base64.b64encode(value_of(key)).decode()
        return "POST", f"/{key}", json.dumps({"data": data, "id": str(number), "type": 3}).encode()

    @staticmethod
    def value(body):
        lines = body.splitlines()
        return base64.b64decode(json.loads(lines[0])["data"]) if len(lines) == 1 else body

    @staticmethod
    def ills(node):
        return [] if node.is_alive() and node.ask("GET", "/")[0] == 200 else ["a node has ended, or does not answer"]


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def datagrams():
    """That were sent in all, within this namespace."""
    names, figures = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")]
    return int(figures[names.index("OutDatagrams")])


class Watch(threading.Thread):
    """Looks at a node's memory each half second."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.kib, self.ended = node, [node.memory_kib("VmRSS")], threading.Event()

    def run(self):
        while not self.ended.wait(0.5) and self.node.is_alive():
            self.kib.append(self.node.memory_kib("VmRSS"))

    def end(self):
        self.ended.set()
        self.join()


def load(network, kind, keys, options, seed):
    """Has wrk ask the first node, and tells what came of it."""
    node = network.nodes[0]
    path = network.folder / "requests"
    path.write_bytes(b"\0".join(network.raw(node, kind, key) for key in keys))
    command = ["wrk", "-t", "1", "-c", str(options.connections), "-d", f"{options.seconds}s", "--timeout", "10s"]
    command += ["-s", str(HERE / "load.lua"), f"http://127.0.0.1:{node.port}", "--"]
    command += [str(path), network.marks[kind], str(seed)]
    # What the stage before has left to do is not part of this one.
    time.sleep(1)
    node.begin_peak()
    before, sent = [other.processor_s() for other in network.nodes], datagrams()
    watch = Watch(node)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent
    ) as wrk:
        watch.start()
        try:
            told, _ = wrk.communicate(timeout=options.seconds + 60)
        finally:
            wrk.kill()
            watch.end()
    if not all(other.is_alive() for other in network.nodes):
        raise Ended(f"{network.name}: a node has ended\n" + "".join(other.said() for other in network.nodes))
    took = [other.processor_s() - first for other, first in zip(network.nodes, before)]
    results = [line for line in told.splitlines() if line.startswith("RESULT ")]
    if not results:
        raise Missing(f"wrk has failed: {told}")
    figures = json.loads(results[0].split(" ", 1)[1])
    requests = max(figures["requests"], 1)
    refused = sum(count for status, count in figures["statuses"].items() if status != "200")
    half = watch.kib[len(watch.kib) // 2]
    figures.update(
        errors=refused + figures["wrong"] + sum(figures["socket_errors"].values()),
        per_s=figures["requests"] / figures["seconds"],
        cpu_us=took[0] / requests * 1e6,
        cpu_all_us=sum(took) / requests * 1e6,
        datagrams=(datagrams() - sent) / requests,
        rss_begin_kib=watch.kib[0],
        rss_half_kib=half,
        rss_end_kib=watch.kib[-1],
        rss_peak_kib=node.memory_kib("VmHWM"),
        # Only when each key was written before, more memory is not what it should be.
        settled=requests > 3 * len(keys),
        grows=requests > 3 * len(keys) and watch.kib[-1] - half > max(half * GROWTH_SHARE, GROWTH_KIB),
    )
    return figures


def check(network, keys):
    """Reads every value through a node that was not asked before, and gives the keys that are not as they should be."""

    def is_right(key):
        method, path, body = network.request("GET", key)
        status, answer = network.nodes[-1].ask(method, path, body)
        return status == 200 and network.value(answer) == value_of(key)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return [key for key, right in zip(keys, pool.map(is_right, keys)) if not right]


def round_of(kinds, options, number, folder):
    """One round: fresh networks, and each work on each of them by turns."""
    present, written = keys_of("get", options.present), keys_of("put", options.keys)
    random.Random(number).shuffle(written)
    networks, found = [], {}
    try:
        for kind in kinds:
            networks.append(kind(folder))
        for network in networks:
            found[network.key] = {}
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda key: network.save(network.nodes[0], key), present))
        # Who comes first in one round comes last in the next.
        turns = networks if number % 2 == 0 else networks[::-1]
        for work, keys in (("GET", present), ("PUT", written)):
            for network in turns:
                found[network.key][work] = load(network, work, keys, options, number)
        for network in turns:
            # wrk sends each of them once, in this order, before it begins to choose. What was under way when it ended may
            # not have been saved.
            done = max(found[network.key]["PUT"]["requests"] - options.connections, 0)
            keys = present + written[:done]
            lost = check(network, keys)
            ills = [ill for node in network.nodes for ill in network.ills(node)]
            found[network.key].update(checked=len(keys), lost=len(lost), lost_keys=lost[:10], ills=ills)
    finally:
        for network in networks:
            network.stop()
    return found


def middle(figures):
    """The median of each number, the sum of what is counted, and whether anything was so."""
    first = figures[0]
    if isinstance(first, dict):
        names = {name: None for figure in figures for name in figure}
        return {name: middle([figure[name] for figure in figures if name in figure]) for name in names}
    if isinstance(first, bool):
        return any(figures)
    if isinstance(first, int):
        return sum(figures)
    return statistics.median(figures) if isinstance(first, float) else first


def machine():
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": named[0].split(": ", 1)[1] if named else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": os.getloadavg(),
    }


def table(result):
    names = ["a second", "p50 ms", "p90 ms", "p99 ms", "CPU us", "all 3", "datagrams", "MiB", "peak", "errors"]
    rows = [["", "", "statuses", *names]]
    for contender in result["contenders"].values():
        for work in ("GET", "PUT"):
            one = contender["median"][work]
            row = [contender["name"], work, " ".join(f"{status}: {count}" for status, count in one["statuses"].items())]
            row += [f"{one['per_s']:.0f}"] + [f"{one[name]:.2f}" for name in ("p50_ms", "p90_ms", "p99_ms")]
            row += [f"{one['cpu_us']:.0f}", f"{one['cpu_all_us']:.0f}", f"{one['datagrams']:.1f}"]
            row += [f"{one[name] / 1024:.1f}" for name in ("rss_begin_kib", "rss_peak_kib")]
            rows.append(row + [str(one["errors"])])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:3], widths)]
        print("  ".join(words + [cell.rjust(width) for cell, width in zip(row[3:], widths[3:])]))
    print()
    for contender in result["contenders"].values():
        all_of = contender["median"]
        works = [(work, all_of[work]) for work in ("GET", "PUT")]
        grew = [work for work, one in works if one["grows"]]
        grew += [f"{work} was too short to tell" for work, one in works if not one["settled"]]
        print(
            f"{contender['name']} ({contender['version']}, {NODES} nodes): {all_of['lost']} of {all_of['checked']} values lost; "
            f"nodes: {'; '.join(contender['ills']) or 'well'}; memory still grew at the end: "
            + (", ".join(grew) or "no")
        )
        for work, one in works:
            if one["errors"]:
                print(f"  {work}: {one['wrong']} wrong, socket errors {one['socket_errors']}, the first: {one['example']}")
    print("\nload average, before and after:", *("%.1f" % result[when]["load_average"][0] for when in ("before", "after")))


def build(options):
    if options.program:
        return Path(options.program).resolve()
    command = ["cargo", "build", "--release", "--locked", "-p", "dht-cli", "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise Missing("the program could not be built")
    told = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return next(Path(one["executable"]) for one in told if one.get("executable") and one["target"]["name"] == "dht")


def go_inside(program):
    """Begins anew in a network namespace of its own. There, this does nothing but set its loopback interface up."""
    if INSIDE in os.environ:
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1 | 64))
        return
    command = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Missing("no network namespace can be made (unshare --net)")
    os.environ[INSIDE] = str(program)
    os.execvp(command[0], [*command, sys.executable, __file__, *sys.argv[1:]])


def main():
    parser = argparse.ArgumentParser(description="HTTP under load, beside OpenDHT's REST proxy.")
    parser.add_argument("--seconds", type=int, default=30, help="of each load (default 30)")
    parser.add_argument("--connections", type=int, default=64, help="of wrk (default 64)")
    parser.add_argument("--rounds", type=int, default=1, help="each with fresh networks; the figures are medians (default 1)")
    parser.add_argument("--present", type=int, default=1000, help="values that are asked for (default 1000)")
    parser.add_argument("--keys", type=int, default=10_000, help="that are written (default 10000)")
    parser.add_argument("--durable", action="store_true", help="also with nodes that keep their state on disk")
    parser.add_argument("--alone", action="store_true", help="without OpenDHT")
    parser.add_argument("--program", help="this `dht`, instead of one that is built")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    for name, most in (("seconds", 600), ("connections", 256), ("rounds", 20), ("present", 50_000), ("keys", 200_000)):
        if not 1 <= getattr(options, name) <= most:
            parser.error(f"--{name} must be 1 to {most}")
    missing = [tool for tool in ("wrk", "unshare") if not shutil.which(tool)]
    if missing:
        raise Missing(f"{' and '.join(missing)} missing: apt-get install wrk util-linux")
    go_inside(os.environ.get(INSIDE) or build(options))
    Own.program, OpenDht.program = os.environ[INSIDE], shutil.which("dhtnode")
    kinds = [Own] + ([OwnDurable] if options.durable else [])
    if not options.alone:
        if not OpenDht.program:
            raise Missing("dhtnode is missing: apt-get install dhtnode, or leave it out with --alone")
        kinds.append(OpenDht)
    result = {"seconds": options.seconds, "connections": options.connections, "rounds": options.rounds, "nodes": NODES}
    result["before"] = machine()
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="dht-http-") as folder:
            rounds.append(round_of(kinds, options, number, Path(folder)))
    result["after"] = machine()
    result["contenders"] = {
        kind.key: {
            "name": kind.name,
            "version": kind.version(),
            "ills": [ill for found in rounds for ill in found[kind.key]["ills"]],
            "median": middle([found[kind.key] for found in rounds]),
            "rounds": [found[kind.key] for found in rounds],
        }
        for kind in kinds
    }
    print(json.dumps(result, indent=2)) if options.json else table(result)
    own = [contender for key, contender in result["contenders"].items() if key != OpenDht.key]
    is_good = all(
        not contender["ills"]
        and not contender["median"]["lost"]
        and not any(contender["median"][work]["errors"] or contender["median"][work]["grows"] for work in ("GET", "PUT"))
        for contender in own
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Missing, Ended) as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        sys.exit(1 if isinstance(failure, Ended) else 3)
