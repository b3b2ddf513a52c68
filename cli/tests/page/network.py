"""A small network of real nodes, each a process, which end with the block that has started them."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request


class Node:
    """A node that runs, with HTTP."""

    def __init__(self, program, arguments, port):
        command = [program, "node", "--http", f"127.0.0.1:{port}", "--json", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.listening = []
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"{command} has ended with {self.process.wait()}")
            said = json.loads(line)
            self.id = said.get("id") or getattr(self, "id", None)
            self.url = said.get("http") or getattr(self, "url", None)
            self.listening += [said["listening"]] if "listening" in said else []
            if "ready" in said:
                return

    def ask(self, method, path, body=None, headers=None):
        """One request; gives the status and the body."""
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, path):
        return json.loads(self.ask("GET", path)[1])

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Network:
    """Nodes that have joined each other."""

    def __init__(self, program, size=0, *arguments):
        self.program = program
        self.size = size
        self.arguments = arguments
        self.nodes = []

    def start(self, *arguments, alone=False, port=0):
        joins = [] if alone or not self.nodes else ["--connect", self.nodes[0].listening[0]]
        node = Node(self.program, [*joins, *arguments], port)
        self.nodes.append(node)
        return node

    def __enter__(self):
        # Whoever ends this script ends the nodes with it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        try:
            for _ in range(self.size):
                self.start(*self.arguments)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.end()
