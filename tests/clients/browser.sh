#!/usr/bin/env bash
# Web pages in a real browser against the daemon, and its own page. Usage: browser.sh BINARY [FOLDER]
# With a folder, screenshots are written there: the page in its states, and a terminal session (requires jq).
# Those in docs/ are light-top.png as page-light.png, dark-top.png as page-dark.png, and terminal.png.
# Chromium is installed from the system's packages if possible; otherwise the check is skipped.
set -euo pipefail
clients="$(cd "$(dirname "$0")" && pwd)"
binary="$(realpath "${1:?usage: browser.sh BINARY [FOLDER]}")"
pictures="${2:+$(mkdir -p "$2" && realpath "$2")}"

find_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if ! find_browser >/dev/null && [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --no-install-recommends chromium; } </dev/null >/dev/null 2>&1; then
        echo 'chromium could not be installed'
    fi
fi
if ! browser="$(find_browser)"; then
    echo 'skipped browser: there is no Chromium here (Debian: apt-get install chromium)'
    exit 0
fi
"$clients/isolate.sh" python3 -B "$clients/browser/check.py" "$binary" "$browser" </dev/null
"$clients/isolate.sh" python3 -B "$clients/browser/page.py" "$binary" "$browser" ${pictures:+"$pictures"} </dev/null
if [[ -n "$pictures" ]]; then
    "$clients/isolate.sh" python3 -B "$clients/browser/terminal.py" "$binary" "$browser" "$pictures" </dev/null
fi
