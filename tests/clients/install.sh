#!/usr/bin/env bash
# Installs the client libraries, by name, into a directory outside the sources. Usage: install.sh DIRECTORY
set -euo pipefail
python_packages=(openai==3.52.0)
node_packages=(openai@7.55.0 zod@4.6.7)

directory="${1:?usage: install.sh DIRECTORY}"
mkdir -p "$directory"
wanted="${python_packages[*]} ${node_packages[*]}"
if [[ -f "$directory/installed" && "$(cat "$directory/installed")" == "$wanted" ]]; then
    exit 0
fi

rm -rf "$directory/python" "$directory/node" "$directory/installed"
python3 -m venv "$directory/python"
"$directory/python/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}"
mkdir -p "$directory/node"
printf '{"private": true}\n' >"$directory/node/package.json"
npm install --prefix "$directory/node" --silent --no-audit --no-fund --no-package-lock "${node_packages[@]}"
printf '%s' "$wanted" >"$directory/installed"
