#!/usr/bin/env python3
"""Makes demo.png: runs the demo in a terminal of its own and photographs what it printed.

In: nothing; needs what `cargo demo` needs, and chromium. Out: demo.png beside this file.
"""

import html
import os
import pathlib
import pty
import re
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
COLOURS = {"1;32": "color:#3fb950;font-weight:bold", "1;36": "color:#58a6ff;font-weight:bold", "1": "font-weight:bold;color:#ffffff", "2": "color:#8b949e"}
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #0d1117 }}
pre {{ margin: 0; padding: 18px 22px; color: #c9d1d9; font: 14px/1.35 "DejaVu Sans Mono", monospace }}
</style><pre>{}</pre>"""
CHARACTER, LINE = 8.43, 18.9
# Sharp where GitHub shows it, and below the 400 kB of a picture in a README.
SCALE = 1.25


def terminal_output():
    """Standard output is a terminal, so the demo uses colours; progress goes elsewhere."""
    main, terminal = pty.openpty()
    demo = subprocess.Popen(["cargo", "demo", "--", "--exit"], cwd=HERE.parent.parent, stdout=terminal)
    os.close(terminal)
    chunks = []
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:
            break
        if not chunk:
            break
        chunks.append(chunk)
    if demo.wait() != 0:
        raise SystemExit("the demo failed")
    return b"".join(chunks).decode().replace("\r\n", "\n").strip("\n")


def as_html(text):
    text = html.escape(text)
    text = re.sub("\x1b\\[([0-9;]+)m", lambda match: "</span>" if match[1] == "0" else f'<span style="{COLOURS.get(match[1], "")}">', text)
    return PAGE.format(text)


def main():
    text = terminal_output()
    shown = re.sub("\x1b\\[[0-9;]+m", "", text).split("\n")
    width, height = round(max(map(len, shown)) * CHARACTER) + 48, round(len(shown) * LINE) + 36
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder, "demo.html")
        page.write_text(as_html(text))
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}", f"--force-device-scale-factor={SCALE}"]
        subprocess.run(["chromium", *options, f"--screenshot={HERE / 'demo.png'}", page.as_uri()], check=True, stderr=subprocess.DEVNULL)


main()
