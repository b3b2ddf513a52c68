"""Chromium without a window, as a test or a picture needs it."""

import os
import shutil
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

# The driver is given below. Nothing is to be looked for, downloaded or told to anybody.
os.environ["SE_OFFLINE"] = "true"
os.environ["SE_AVOID_STATS"] = "true"

SIZES = {"desk": (1200, 900), "phone": (360, 740)}


def found(*names):
    for name in names:
        if path := shutil.which(name):
            return path
    sys.exit(f"none of {', '.join(names)} is installed: apt-get install chromium chromium-driver")


def start(size="desk", dark=False, scale=1):
    """Starts it, with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = found("chromium", "chromium-browser", "google-chrome")
    service = Service(found("chromedriver"))
    width, height = SIZES[size]
    for argument in [
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "disable-component-update",
        "no-first-run",
        "hide-scrollbars",
        f"user-data-dir={tempfile.mkdtemp(prefix='dht-page-')}",
        f"window-size={width},{height}",
        # Whatever the page asks for that is not on this host fails.
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    driver.profile = next(one[len("--user-data-dir=") :] for one in options.arguments if "user-data-dir" in one)
    shape(driver, size, scale)
    paint(driver, dark)
    # What the browser's own first page has asked for is of no interest.
    driver.get("about:blank")
    for log in ["browser", "performance"]:
        driver.get_log(log)
    return driver


def shape(driver, size, scale=1):
    """Gives the page this many pixels, as a phone has them or a screen. (A window cannot be as narrow as a phone.)"""
    width, height = SIZES[size] if isinstance(size, str) else size
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.width = width


def paint(driver, dark):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def end(driver):
    driver.quit()
    shutil.rmtree(driver.profile, ignore_errors=True)
