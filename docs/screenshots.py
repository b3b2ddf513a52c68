"""Makes the pictures in docs/images/: screenshots.py PROGRAM [PICTURE ...]. `screenshots.sh` gives it what it needs.

The page is that of a node among thirty on this machine; the terminals show what the program prints there.
"""

import base64
import html
import io
import os
import pathlib
import pty
import random
import select
import signal
import struct
import sys
import threading
import time
from fcntl import ioctl
from termios import TIOCSWINSZ
from urllib.parse import quote

import pyte
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cli" / "tests" / "page"))

import browser  # noqa: E402
from network import Network  # noqa: E402

IMAGES = HERE / "images"
NODES = 30
# How long the network works before the picture, so that there is a curve.
TRAFFIC = 75
COLUMNS = 100
# What is run.
TERMINALS = {
    "testnet": ["testnet"],
    "simulate": ["simulate", "lookups"],
}
RECORDS = ["one", "smørrebrød", "photos/2026/07/harbour.jpg", "config/production", "leader", "releases/1.4.2/SHA256SUMS"]


def wait(holds, seconds=60):
    end = time.monotonic() + seconds
    while not (got := holds()):
        if time.monotonic() > end:
            raise TimeoutError("it is not there in time")
        time.sleep(0.02)
    return got


def image(driver, height, top=0):
    """What is on the page, of this height, as the bytes of a PNG."""
    clip = {"x": 0, "y": top, "width": driver.width, "height": height, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(shot["data"])


def keep(name, png):
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    # A page has few colours: with a palette the file has a third of the bytes.
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"docs/images/{name}.png: {path.stat().st_size // 1024} KiB")


def height(driver):
    return driver.execute_script("return Math.ceil(document.querySelector('main').getBoundingClientRect().bottom + scrollY)")


def composed(driver, body, width, page_height):
    """A picture of a page that is made for it."""
    browser.shape(driver, (width, page_height))
    driver.get("data:text/html;charset=utf-8;base64," + base64.b64encode(body.encode()).decode())
    return image(driver, driver.execute_script("return document.documentElement.scrollHeight"))


def work(nodes, chance, until):
    """Saves and queries here and there until it is time."""
    while time.monotonic() < until:
        node = chance.choice(nodes)
        if chance.random() < 0.1:
            node.ask("PUT", f"/dht/note-{chance.randrange(20)}", b"something new" * chance.randrange(1, 20))
        else:
            node.ask("GET", f"/dht/{chance.choice(['record', 'note', 'nothing'])}-{chance.randrange(60)}")
        time.sleep(chance.random() * 0.2)


def page(program):
    chance = random.Random(7)
    with Network(program, NODES, "--k", "4", "--request-timeout", "2s") as network:
        nodes = network.nodes
        own = nodes[20]
        for n in range(60):
            words = f"value {n}\n" * chance.randrange(1, 400)
            chance.choice(nodes[:20]).ask("PUT", f"/dht/record-{n}", words.encode())
        for name in RECORDS:
            own.ask("PUT", f"/dht/{quote(name, safe='')}", b"hi there" * len(name))
        # The way that is the longest to tell of, among some that end with a value.
        ways = [f"record-{n}" for n in range(60)]
        traces = {key: own.json(f"/trace/{key}") for key in ways}
        fits = lambda trace: trace["found"] and not trace["found"]["held_here"] and len(trace["requests"]) < 16
        key = max((key for key in ways if fits(traces[key])), key=lambda key: (max(one["hop"] for one in traces[key]["requests"]), len(traces[key]["requests"])))
        driver = browser.start()
        try:
            driver.get(own.url + "/")
            until = time.monotonic() + TRAFFIC
            workers = [threading.Thread(target=work, args=(nodes, random.Random(n), until)) for n in range(3)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            driver.execute_script("document.querySelectorAll('#buckets summary')[1].click()")
            # Some fall silent, so that requests wait for them.
            asked = {one["id"] for one in traces[key]["requests"] if one["answer"]["kind"] != "value"}
            silent = [node for node in nodes[1:] if node is not own and node.id not in asked][:4]
            for node in silent:
                node.process.send_signal(signal.SIGSTOP)
            driver.execute_script("document.getElementById('key').value = arguments[0]; document.querySelector('[value=trace]').click()", key)
            wait(lambda: driver.execute_script("return !document.getElementById('trace-section').hidden"))
            looks = [threading.Thread(target=own.ask, args=("GET", f"/dht/{node.id}?as=id")) for node in silent]
            for look in looks:
                look.start()
            wait(lambda: driver.execute_script("return document.querySelectorAll('#requests code').length > 0 && document.getElementById('requests_in_flight').textContent !== '0'"))
            driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
            keep("page", image(driver, height(driver)))
            browser.paint(driver, True)
            time.sleep(0.6)
            keep("page-dark", image(driver, height(driver)))
            browser.paint(driver, False)
            for look in looks:
                look.join()
            browser.shape(driver, "phone")
            time.sleep(1)
            driver.execute_script("document.querySelector('#buckets details[open]').open = false")
            time.sleep(0.2)
            tops = driver.execute_script("""return ["body", "#try", "#trace-title", "#held-title"].map((name) => {
              const one = document.querySelector(name); return Math.max(0, one.getBoundingClientRect().top + scrollY - 20); })""")
            screens = [image(driver, 740, top) for top in tops]
            phones = "".join(f'<img src="data:image/png;base64,{base64.b64encode(one).decode()}">' for one in screens)
            style = "body{margin:0;padding:24px;display:flex;gap:24px;background:#c9d1da;width:max-content}img{border-radius:18px;display:block;width:360px}"
            keep("page-phone", composed(driver, f"<!doctype html><style>{style}</style>{phones}", 4 * 384 + 24, 788))
            for node in silent:
                node.process.send_signal(signal.SIGCONT)
        finally:
            browser.end(driver)


def printed(command):
    """Runs it in a terminal, and gives what is on the screen at its end: lines of pieces, each with its colour."""
    screen = pyte.Screen(COLUMNS, 200)
    stream = pyte.ByteStream(screen)
    process, terminal = pty.fork()
    if process == 0:
        os.execvp(command[0], command)
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    while True:
        select.select([terminal], [], [])
        try:
            some = os.read(terminal, 65536)
        except OSError:
            break
        if not some:
            break
        stream.feed(some)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        raise RuntimeError(f"{command} has ended with {status}:\n" + "\n".join(screen.display).rstrip())
    lines = []
    for row in range(screen.cursor.y + 1):
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        pieces = []
        for cell in cells:
            look = (cell.fg, cell.bold)
            if pieces and pieces[-1][0] == look:
                pieces[-1][1] += cell.data
            else:
                pieces.append([look, cell.data])
        lines.append(pieces)
    while lines and not "".join(text for _, text in lines[-1]).strip():
        lines.pop()
    return lines


COLOURS = {"default": "inherit", "red": "#ff8a80", "green": "#63d18f", "brown": "#f0b849", "blue": "#7db4ff", "cyan": "#6fd6e0", "magenta": "#d8a4ff"}


def terminal(program, name):
    arguments = TERMINALS[name]
    lines = printed([program, *arguments])
    shown = "\n".join("".join(f'<span style="color:{COLOURS.get(colour, "inherit")};font-weight:{700 if bold else 400}">{html.escape(text)}</span>' for (colour, bold), text in pieces) for pieces in lines)
    wide = max(len("".join(text for _, text in pieces).rstrip()) for pieces in lines)
    command = f'<b>$ dht {" ".join(arguments)}</b>\n'
    style = "body{margin:0;background:#171e26;color:#e4e9ee}pre{margin:0;padding:20px 24px;font:15px/1.164 'DejaVu Sans Mono',monospace}b{color:#7db4ff}"
    driver = browser.start()
    try:
        keep(name, composed(driver, f"<!doctype html><meta charset=utf-8><style>{style}</style><pre>{command}{shown}</pre>", round(wide * 9.04) + 60, 100))
    finally:
        browser.end(driver)


def main():
    program, *wanted = sys.argv[1:]
    for name in wanted or ["page", *TERMINALS]:
        page(program) if name == "page" else terminal(program, name)


main()
