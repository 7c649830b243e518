"""Take ``docs/tensorboard.png``: TensorBoard as a browser shows it, the runs in ``tb_logs``.

apt-get install chromium        # as root; any Chromium will do
python -m docs.scripts.screenshot
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORT = 6011
URL = f"http://127.0.0.1:{PORT}/?darkMode=false&tagFilter=over_epochs#timeseries"
CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-3d-apis",  # TensorBoard then draws with SVG, which is in the picture
    "--hide-scrollbars",
    "--window-size=1500,1000",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--timeout=30000",
    "--virtual-time-budget=30000",
]


def main() -> None:
    """Start TensorBoard, let the page load, take the picture, stop TensorBoard."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("there is no chromium on the PATH")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "tb_logs", "--port", str(PORT)]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        for _ in range(60):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/data/runs", timeout=5).close()
                break
            except urllib.error.URLError:
                time.sleep(1)
        time.sleep(10)  # reading the runs
        with tempfile.TemporaryDirectory() as profile:
            picture = f"--screenshot={ROOT / 'docs' / 'tensorboard.png'}"
            subprocess.run(
                [chromium, *CHROMIUM, f"--user-data-dir={profile}", picture, URL],
                check=True,
                timeout=120,
                stderr=subprocess.DEVNULL,
            )
    finally:
        server.terminate()
        server.wait(timeout=30)


if __name__ == "__main__":
    main()
