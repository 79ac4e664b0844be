#!/usr/bin/env bash
# Installs the client libraries, by name, into a directory outside the sources, unless they are
# there already. Usage: install.sh DIRECTORY
set -euo pipefail
clients="$(cd "$(dirname "$0")" && pwd)"
directory="${1:?usage: install.sh DIRECTORY}"
requirements="$clients/python/requirements.txt"
packages="$clients/node/packages.txt"
agents="$clients/agents/packages.txt"
aider="$clients/agents/aider.txt"

mkdir -p "$directory"
directory="$(cd "$directory" && pwd)"
wanted="$(python3 --version; node --version; cat "$requirements" "$packages" "$agents" "$aider")"
if [[ -f "$directory/installed" && "$(cat "$directory/installed")" == "$wanted" ]]; then exit 0; fi
rm -rf "${directory:?}"/{installed,python,node,agents,aider,pip,pycache}

# Prints the command to run pip; some systems ship Python without it.
find_pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        echo 'python3 -m pip'
    elif python3 -m venv "$directory/pip" >/dev/null 2>&1; then
        echo "$directory/pip/bin/python -m pip"
    else
        return 1
    fi
}

if ! pip="$(find_pip)"; then
    if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends python3-pip </dev/null >/dev/null
    fi
    if ! pip="$(find_pip)"; then
        echo 'the clients need pip: install python3-pip or python3-venv' >&2
        exit 1
    fi
fi

# install_python NAME REQUIREMENTS_FILE
install_python() {
    # shellcheck disable=SC2086 # a command of several words
    PIP_USER=0 $pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore \
        --no-deps --no-compile --target "$directory/$1" --requirement "$2"
}

# It isn't available for every Python version.
install_aider() {
    if python3 -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))'; then
        install_python aider "$aider"
    fi
}

# install_node NAME PACKAGES_FILE
install_node() {
    mkdir -p "$directory/$1"
    printf '{"private": true}\n' >"$directory/$1/package.json"
    # shellcheck disable=SC2046 # one word for each package
    npm install --prefix "$directory/$1" --silent --no-audit --no-fund --no-package-lock --ignore-scripts \
        $(cat "$2")
}

# The command-line clients are binaries of several hundred megabytes each.
install_all_node() {
    install_node node "$packages"
    install_node agents "$agents"
}

# Installations mostly wait for the registry, so they run in parallel.
install_all_node &
node=$!
install_aider &
aider_installed=$!
install_python python "$requirements"
wait "$node"
wait "$aider_installed"
printf '%s\n' "$wanted" >"$directory/installed"
