#!/usr/bin/env bash
# Install axe-core from npm into .venv-axe, with which tests/long look for what makes pages hard to use.
# Needs npm; without it those tests are skipped.
#   scripts/setup/axe.sh            # from the lock file
#   scripts/setup/axe.sh --renew    # after an edit of axe/package.json
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ! command -v npm >/dev/null; then
    say "npm is missing, so that axe-core is not installed: sudo apt-get install npm"
    exit
fi
lock=scripts/setup/axe/package-lock.json
mkdir -p .venv-axe
if [ "${1:-}" = --renew ]; then
    cp scripts/setup/axe/package.json .venv-axe
    # The lock file names no registry: npm asks the one that it is configured with.
    (cd .venv-axe && npm install --omit-lockfile-registry-resolved --no-audit --no-fund --silent)
    cp .venv-axe/package-lock.json $lock
elif ! fresh .venv-axe/.stamp $lock; then
    say "Installing axe-core from npm (3 MB)"
    cp scripts/setup/axe/package.json $lock .venv-axe
    (cd .venv-axe && npm ci --no-audit --no-fund --silent)
    stamp .venv-axe/.stamp $lock
fi
