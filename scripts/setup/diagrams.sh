#!/usr/bin/env bash
# Draw the Mermaid diagrams of README.md and docs/ as docs/images/diagrams/*.svg, for the site (make docs).
# Needs npm and Debian's package chromium; only whoever edits a diagram runs it.
#
#   scripts/setup/diagrams.sh            # from the lock file; with a folder, into it
#   scripts/setup/diagrams.sh --renew    # after an edit of diagrams/package.json
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root/scripts/setup/diagrams"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json "$work"
if [[ ${1:-} == --renew ]]; then
  # The lock file names no registry: npm asks the one that it is configured with.
  (cd "$work" && npm install --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund --silent)
  cp "$work/package-lock.json" .
  shift
else
  cp package-lock.json "$work"
  (cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --silent)
fi
cd "$root"
python3 scripts/tools/diagrams.py "$work/node_modules/mermaid/dist/mermaid.min.js" "$@"
