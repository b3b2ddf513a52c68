"""Does with the page what people do, in Chromium, against nodes that run: clicks.py PROGRAM SCENE"""

import json
import os
import re
import sys
import tempfile
import time
import traceback

import browser
from network import Network
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

# Far more than anything takes.
DEADLINE = 60


class Page:
    """The page of a node, and what is to be seen on it."""

    def __init__(self, driver, node):
        self.driver = driver
        self.node = node
        self.driver.get(node.url + "/")
        self.until(lambda: self.text("id") == node.id, "the node's id")

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, name):
        return self.driver.execute_script("return document.getElementById(arguments[0]).textContent", name)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, holds, what):
        end = time.monotonic() + DEADLINE
        while not (got := holds()):
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not in time; the page says {self.one('body').text!r}")
            time.sleep(0.05)
        return got

    def fill(self, name, words):
        field = self.one(f"#{name}")
        field.clear()
        field.send_keys(words)

    def press(self, what):
        """Presses a button of the form, and gives what the page says when it is done."""
        self.run("document.getElementById('words').textContent = ''")
        self.one(f"[name=do][value={what}]").click()
        if what == "delete":
            self.until(lambda: self.one("#sure").is_displayed(), "the question")
            self.one("#remove").click()
        return self.said()

    def said(self):
        done = lambda: (words := self.text("words")) and not words.endswith("…") and words
        return self.until(done, "an answer")

    def has_no_scrollbar(self):
        wide = self.run("return document.documentElement.scrollWidth")
        assert wide <= self.driver.width, f"{wide} pixels are wider than the window's {self.driver.width}"

    def check(self, *expected):
        """Nothing went wrong that is not expected, was blocked, or went anywhere else."""
        for line in self.driver.get_log("browser"):
            words = line["message"]
            assert any(re.search(one, words) for one in expected), words
        asked = set()
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.add(message["params"]["request"]["url"])
            assert message["method"] != "Network.loadingFailed" or "csp" not in json.dumps(message), message
        assert any(url == self.node.url + "/" for url in asked), asked
        elsewhere = [url for url in asked if not url.startswith((self.node.url + "/", "data:"))]
        assert not elsewhere, elsewhere


def network(program, nodes=8):
    return Network(program, nodes, "--k", "4")


def clicks(program, driver):
    """Save, query, trace, delete, and a look at what the node knows."""
    with network(program) as nodes:
        page = Page(driver, nodes.nodes[3])
        page.until(lambda: page.text("health") == "well", "a node that is well")
        assert [one.text for one in page.all("#listening code")] == page.node.listening
        page.until(lambda: int(page.text("known_peers")) > 2, "contacts")

        page.fill("key", "smørrebrød/1 %?#")
        page.fill("value", "bread\nand butter ✓ <b>")
        assert re.match(r"Saved under “smørrebrød/1 %\?#”: kept by [45] nodes", page.press("save")), page.text("words")
        path = "/dht/sm%C3%B8rrebr%C3%B8d%2F1%20%25%3F%23"
        value = "bread\nand butter ✓ <b>".encode()
        assert nodes.nodes[6].ask("GET", path) == (200, value)
        assert f"Found a text of {len(value)} bytes, version " in page.press("query")
        assert page.text("found").encode() == value

        # Only in the place of the version that is known, and once.
        version = re.search(r"version (\d+)", page.text("words"))[1]
        page.one("#condition-details summary").click()
        for expected, said in [("17", f"The newest version is {version}, and not the expected one."), (version, "Saved under")]:
            page.fill("expected", expected)
            page.fill("value", value.decode())
            assert page.press("save").startswith(said), page.text("words")
        assert page.one("#expected").get_attribute("value") == ""

        # The record is in the list of those that the node publishes; a click shows what is in it.
        record = page.until(lambda: page.all("#own-records button"), "the published record")[0]
        record.click()
        assert f"Found a text of {len(value)} bytes" in page.said()
        assert len(page.one("#key").get_attribute("value")) == 40
        assert not page.one("[value=save]").is_enabled() and not page.one("[value=delete]").is_enabled()
        Select(page.one("#as")).select_by_value("key")
        assert page.one("[value=save]").is_enabled()

        nodes.nodes[1].ask("PUT", "/dht/one", b"hi there")
        page.fill("key", "one")
        assert re.match(r"Found a value of 8 bytes: \d+ of \d+ nodes answered", page.press("trace"))
        assert page.text("trace-title") == "The way to “one”"
        dots, rows = len(page.all("#trace circle")), len(page.all("#trace-rows tr"))
        if "holds it itself" not in page.text("words"):
            assert dots == rows > 0, (dots, rows)
            assert "had the value" in page.text("trace-legend")
        page.fill("key", "nothing")
        assert page.press("trace").startswith("Not found: ")
        assert len(page.all("#trace circle")) == len(page.all("#trace-rows tr")) > 3
        assert "named nearer contacts" in page.text("trace-legend")
        assert re.match(r"Not found; \d+ of \d+ nodes that were asked answered\.", page.press("query"))
        page.until(lambda: "nodes were asked" in page.text("happened"), "the event of a search in vain")

        # Who thinks better of it deletes nothing.
        page.fill("key", "one")
        page.one("[value=delete]").click()
        page.until(lambda: page.one("#sure").is_displayed(), "the question")
        page.one("#keep").click()
        assert nodes.nodes[6].ask("GET", "/dht/one")[0] == 200
        assert re.match(r"Deleted “one”: noted by [45] nodes", page.press("delete")), page.text("words")
        assert nodes.nodes[6].ask("GET", "/dht/one")[0] == 404
        assert page.press("query").startswith("The value was deleted;")

        bucket = page.one("#buckets details")
        assert not page.all(f"#{bucket.find_element(By.TAG_NAME, 'tbody').get_attribute('id')} tr")
        bucket.find_element(By.TAG_NAME, "summary").click()
        page.until(lambda: bucket.find_elements(By.CSS_SELECTOR, "tbody tr"), "the contacts of a bucket")
        titles = [one.get_attribute("title") for one in bucket.find_elements(By.CSS_SELECTOR, "tbody td:first-child code")]
        assert set(titles) <= {node.id for node in nodes.nodes}, titles
        page.until(lambda: page.all("#traffic path"), "the curve")
        page.check(r"/dht/(nothing|one) - Failed to load resource.*404", r"/dht/sm.* - Failed to load resource.*412")


def torrents(program, driver):
    """Who has a torrent, by a node of BitTorrent's DHT; no other node offers to look."""
    info_hash = "0123456789abcdef0123456789abcdef01234567"
    with Network(program, 3, "--network", "mainline") as nodes:
        page = Page(driver, nodes.nodes[2])
        page.until(lambda: page.one("#peers").is_displayed(), "the button")
        page.fill("key", info_hash)
        assert page.press("peers").startswith("Nobody was found who has it")
        assert nodes.nodes[1].ask("PUT", f"/peers/{info_hash}?port=5555", b"")[0] == 200
        assert page.press("peers").startswith("Found 1 peer in ")
        assert page.text("found") == "127.0.0.1:5555"
        page.fill("key", "no info hash")
        assert page.press("peers") == "An info hash is 40 hexadecimal digits."
        page.check(r"/peers/no.* - Failed to load resource.*400")
    with Network(program, 1) as nodes:
        page = Page(driver, nodes.nodes[0])
        page.until(lambda: page.text("health") == "alone", "a node that is alone")
        assert not page.one("#peers").is_displayed()


def values(program, driver):
    """What is no short text: nothing, bytes, files, much of it, owned records, and keys of all kinds."""
    with network(program, 5) as nodes, tempfile.TemporaryDirectory() as folder:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": folder})
        page = Page(driver, nodes.nodes[2])
        bytes_ = bytes(range(256)) * 3000
        file = os.path.join(folder, "picture.bin")
        with open(file, "wb") as out:
            out.write(bytes_)
        page.fill("key", "a/picture")
        page.one("#file").send_keys(file)
        assert page.press("save").startswith("Saved the file “picture.bin” under “a/picture”: ")
        assert not page.one("#file").get_attribute("value")
        assert "Found a binary value of 768,000 bytes, " in page.press("query")
        assert page.text("found").startswith("0000  00 01 02 03 04 05 06 07  ········\n")
        assert page.text("left-out") == "The first 512 B are shown."
        assert page.text("download") == "Download all 750.0 KiB"
        page.one("#download").click()
        loaded = os.path.join(folder, "a_picture")
        page.until(lambda: os.path.exists(loaded) and os.path.getsize(loaded) == len(bytes_), "the download")
        with open(loaded, "rb") as got:
            assert got.read() == bytes_

        # A long text is cut within a letter, and is a text for all that.
        page.node.ask("PUT", "/dht/long", ("x" + "ø" * 40000).encode())
        page.fill("key", "long")
        assert "Found a text of 80,001 bytes, " in page.press("query")
        assert page.text("found") == "x" + "ø" * 8191 and page.text("left-out") == "The first 16.0 KiB are shown."
        page.has_no_scrollbar()

        page.node.ask("PUT", "/dht/empty", b"")
        page.fill("key", "empty")
        assert "The value is empty, version " in page.press("query")
        assert not page.one("#found").is_displayed() and not page.one("#more").is_displayed()

        page.node.ask("PUT", "/dht/page", b"<script>document.title='taken'</script>")
        page.fill("key", "page")
        page.press("query")
        assert page.text("found") == "<script>document.title='taken'</script>"
        assert page.driver.title.startswith("well – dht node " + page.node.id[:8])

        page.fill("key", "..")
        assert page.press("query").startswith("No browser can ask for the key “..”")
        page.fill("key", "not hexadecimal")
        Select(page.one("#as")).select_by_value("id")
        assert page.press("query").startswith("An id is 1 to 20 bytes in hexadecimal")
        page.check(r"/dht/empty - Failed to load resource.*416", r"/dht/not%20hex.* - Failed to load resource.*400")


def states(program, driver):
    """Alone, isolated, unreachable, with another id, and wanting a token."""
    with Network(program) as nodes, tempfile.TemporaryDirectory() as folder:
        node = nodes.start(alone=True)
        port = node.url.rsplit(":", 1)[1]
        page = Page(driver, node)
        page.until(lambda: page.text("health") == "alone", "a node that is alone")
        assert page.text("notices").endswith(f"dht node --connect {node.listening[0]}")
        for name in ["held", "own-records", "lookups", "requests"]:
            assert page.text(name).startswith("None"), name
        assert page.one("#no-contacts").is_displayed()
        page.fill("key", "one")
        page.fill("value", "hi there")
        assert "kept by this node alone, as it knows no other" in page.press("save")
        assert page.press("trace").startswith("Found a value of 8 bytes: 0 of 0 nodes answered")
        assert "This node asked nobody." in page.text("trace-rows")

        other = nodes.start()
        page.until(lambda: page.text("health") == "well", "a node that is well")
        assert not page.one("#notices").is_displayed()
        page.until(lambda: f"contact {other.id[:10]}… at {other.listening[0]} has answered" in page.text("happened"), "the event")

        node.end()
        page.until(lambda: page.text("health") == "unreachable", "that the node is gone")
        assert "The node has not answered since" in page.text("notices")
        page.fill("key", "two")
        assert page.press("query").startswith("The node does not answer")
        assert page.one("#key").get_attribute("value") == "two"

        # Another comes in its place, which wants a token and finds nobody whom it could join.
        other.end()
        token = os.path.join(folder, "token")
        with open(token, "w") as out:
            out.write("secret words")
        started = nodes.start("--http-token-file", token, port=port)
        page.until(lambda: page.text("health") == "isolated", "a node that is isolated")
        assert "It knows no other node, though it should" in page.text("notices")
        assert page.text("id") == started.id
        page.until(lambda: page.text("following").startswith("Since"), "events again")

        page.fill("key", "one")
        assert page.press("save").startswith("Writes need the header `Authorization: Bearer TOKEN`")
        assert page.run("return document.activeElement.id") == "token"
        page.fill("token", "guessed")
        assert page.press("save") == "The token is not the right one."
        page.fill("token", "secret words")
        assert page.press("save").startswith("Saved under “one”: ")
        page.check("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_SOCKET_NOT_CONNECTED", "ERR_EMPTY_RESPONSE", "/dht/(two|one) - Failed to load resource.*40[14]")


# What a node says that is not well, as none can be made to be for a test; and one that has very much to say.
PRETENDED = """
const ask = window.fetch;
window.fetch = async (path, options) => {
  const answer = await ask(path, options), change = window.pretended?.[path];
  if (!answer.ok || !change) return answer;
  const body = await answer.json();
  change(body);
  return new Response(JSON.stringify(body), { headers: { "content-type": "application/json" } });
};
"""


def troubles(program, driver):
    """A node that has stopped or is deaf, a disk that is full, and a node that holds very much."""
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": PRETENDED})
    with network(program, 3) as nodes:
        page = Page(driver, nodes.nodes[1])

        def pretend(path, change, state, words):
            page.run(f"window.pretended = {{ '{path}': (body) => {{ {change} }} }};")
            page.until(lambda: page.text("health") == state, state)
            assert words in page.text("notices"), page.text("notices")

        pretend("/status", "body.failure = 'a panic: <oops>';", "stopped", "stopped of its own accord: a panic: <oops>. ")
        full = "body.persistence = { durable: false, failure: 'no space left', notices: ['a file was put aside'] };"
        pretend("/status", full, "impaired", "no space left")
        assert "a file was put aside" in page.text("notices") and "cannot write" in page.text("state")
        down = "for (const one of body.gateways) { one.state = 'failed'; one.cause = 'no such device'; }"
        pretend("/status", down, "deaf", "The gateway udp is failed: no such device.")
        page.run("window.pretended = {};")
        page.until(lambda: page.text("health") == "well", "a node that is well")

        much = """
          const id = (n) => n.toString(16).padStart(40, "0");
          body.records = Array.from({ length: 10000 }, (_, n) => ({ key: id(n), kind: "plain", version: "1", bytes: n, remaining_s: n }));
          body.records_left_out = 5000;
          body.operations = [{ name: "save", target: id(1), age_ms: 1234.5, maintenance: false, effort: { asked: 7, answered: 3 } }];
          body.requests = [{ name: "FIND_NODE", purpose: "lookup", to: "/ip4/127.0.0.1/udp/1", id: null, age_ms: 12, sent: 2, late: true }];
          body.lost = [{ id: id(9), addresses: [] }];
        """
        page.run(f"window.pretended = {{ '/dump': (body) => {{ {much} }} }};")
        page.until(lambda: "… and 14,800 more" in page.text("held"), "many records")
        assert len(page.all("#held tr")) == 201
        assert page.text("lookups") == "save0000000000…1.2 s3 of 7", page.text("lookups")
        assert "FIND_NODE, late" in page.text("requests") and "Fallen silent" in page.text("lost")
        for size in ["phone", "desk"]:
            browser.shape(driver, size)
            page.has_no_scrollbar()
        page.check()


def looks(program, driver):
    """On a phone and in the dark: nothing is wider than the window, and everything can be read."""
    with network(program) as nodes:
        browser.shape(driver, "phone")
        page = Page(driver, nodes.nodes[2])
        page.until(lambda: page.all("#buckets details"), "buckets")
        page.fill("key", "k" * 300)
        page.fill("value", "wide" * 300)
        page.press("save")
        page.press("query")
        page.press("trace")
        for summary in page.all("summary"):
            page.run("arguments[0].parentElement.open = true", summary)
        page.until(lambda: page.all("#buckets tbody tr"), "contacts")
        for size in ["phone", (320, 640), (600, 800), "desk", (2000, 1200)]:
            browser.shape(driver, size)
            page.has_no_scrollbar()
            # The pictures are drawn again to fit; no letter is scaled down with them.
            fits = "return [...document.querySelectorAll('.picture svg')].every((one) => Math.abs(one.clientWidth - one.parentElement.clientWidth) < 2)"
            page.until(lambda: page.run(fits), f"pictures that fit {size}")
        browser.shape(driver, "phone")
        small = """return [...document.querySelectorAll("button:not(.key), input, select, summary")].filter((one) => one.offsetParent && one.getBoundingClientRect().height < 20).map((one) => one.outerHTML)"""
        assert not page.run(small), "too small for a thumb"
        grounds = set()
        for dark in [False, True]:
            browser.paint(driver, dark)
            grounds.add(page.run("return getComputedStyle(document.body).backgroundColor"))
            for words, contrast in page.run(CONTRAST):
                assert contrast >= 4.5, f"{'dark' if dark else 'light'}: {words!r} has a contrast of {contrast:.1f}"
        assert len(grounds) == 2, grounds
        page.check()


# The contrast of each text with what is behind it, by the rule of WCAG 2.
CONTRAST = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([red, green, blue]) => [red, green, blue].map((one) => one / 255).map((one) => one <= .03928 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
  .reduce((all, one, n) => all + one * [.2126, .7152, .0722][n], 0);
const behind = (node) => { for (; node; node = node.parentElement) { const colour = parts(getComputedStyle(node).backgroundColor); if (colour.length === 3) return colour; } };
return [...document.querySelectorAll("body *")].filter((one) => one.offsetParent && !one.disabled && [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()))
  .map((one) => { const [a, b] = [light(parts(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => b - a); return [one.textContent.slice(0, 30), (a + .05) / (b + .05)]; });
"""


def keyboard(program, driver):
    """Without a mouse; and nothing is taken out of one's hands when the page asks the node again."""
    with network(program) as nodes:
        page = Page(driver, nodes.nodes[4])
        page.until(lambda: page.all("#buckets details"), "buckets")
        focused = lambda: page.run("const one = document.activeElement; return one.id || one.value || one.className || one.getAttribute('aria-label') || one.textContent")

        def type_(*keys):
            ActionChains(driver).send_keys(*keys).perform()

        def tab(to):
            """Goes on until something has the focus, which is to be seen wherever it is."""
            for _ in range(60):
                type_(Keys.TAB)
                outline = page.run("const style = getComputedStyle(document.activeElement); return [style.outlineStyle, style.outlineWidth]")
                assert outline == ["solid", "3px"], (focused(), outline)
                if focused() == to:
                    return
            raise AssertionError(f"{to} cannot be reached")

        tab("key")
        type_("one")
        tab("value")
        type_("hi there")
        tab("save")
        type_(Keys.ENTER)
        assert page.said().startswith("Saved under “one”")
        page.run("document.getElementById('words').textContent = ''; document.getElementById('key').focus()")
        type_(Keys.ENTER)
        assert "Found a text of 8 bytes" in page.said()
        tab("trace")
        page.run("document.getElementById('words').textContent = ''")
        type_(Keys.SPACE)
        assert "Found a value of 8 bytes" in page.said()
        tab("delete")
        type_(Keys.ENTER)
        page.until(lambda: focused() == "keep", "the question, with the harmless answer at hand")
        type_(Keys.ESCAPE)
        page.until(lambda: focused() == "delete", "the focus where it was")
        assert nodes.nodes[0].ask("GET", "/dht/one")[0] == 200
        type_(Keys.ENTER)
        page.until(lambda: focused() == "keep", "the question again")
        tab("remove")
        page.run("document.getElementById('words').textContent = ''")
        type_(Keys.ENTER)
        assert page.said().startswith("Deleted “one”")

        tab("bucket")
        type_(Keys.ENTER)
        bucket = page.until(lambda: page.all("#buckets details[open]"), "an open bucket")[0]
        page.until(lambda: bucket.find_elements(By.CSS_SELECTOR, "tbody tr"), "its contacts")
        # The node is asked again a few times. What is open stays so, and is the same element.
        page.run("window.asked = 0; const ask = window.fetch; window.fetch = (...all) => { window.asked += 1; return ask(...all); }; getSelection().selectAllChildren(document.getElementById('id'))")
        scrolled = page.run("scrollTo(0, 300); return scrollY")
        row = bucket.find_element(By.CSS_SELECTOR, "tbody tr")
        page.until(lambda: page.run("return window.asked") >= 6, "new answers")
        assert bucket.get_attribute("open") and row.is_displayed() and focused() == "bucket"
        assert page.run("return [scrollY, String(getSelection())]") == [scrolled, page.node.id]
        # A screen reader is told of results and troubles, and of nothing that changes by itself.
        told = page.run("return [...document.querySelectorAll('[role=status], [aria-live]')].map((one) => one.id)")
        assert told == ["health", "notices", "words"], told
        nameless = """return [...document.querySelectorAll("input, select, textarea, button, [tabindex='0'], svg[role=img]")].filter((one) => !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim())).map((one) => one.outerHTML)"""
        assert not page.run(nameless), page.run(nameless)
        page.check()


SCENES = {scene.__name__: scene for scene in [clicks, torrents, values, states, troubles, looks, keyboard]}


def main():
    program, name = sys.argv[1:]
    driver = browser.start()
    try:
        SCENES[name](program, driver)
    except BaseException:
        traceback.print_exc()
        for line in driver.get_log("browser"):
            print(line, file=sys.stderr)
        sys.exit(1)
    finally:
        browser.end(driver)


main()
