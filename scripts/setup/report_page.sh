#!/usr/bin/env bash
# Write sortable (npm's sortable-tablesort), which sorts the report's tables, to
# scripts/lib/report_page/sortable.js. Needs npm; a run does not.
#
#   scripts/setup/report_page.sh            # from the lock file: the same bytes
#   scripts/setup/report_page.sh --renew    # after an edit of report_page/package.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/report_page"
target=../../lib/report_page/sortable.js

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json "$work"
if [[ ${1:-} == --renew ]]; then
  # The lock file names no registry: npm asks the one that it is configured with.
  (cd "$work" && npm install --omit-lockfile-registry-resolved --no-audit --no-fund --silent)
  cp "$work/package-lock.json" .
else
  cp package-lock.json "$work"
  (cd "$work" && npm ci --no-audit --no-fund --silent)
fi
name=$work/node_modules/sortable-tablesort
version=$(node -p "require('$name/package.json').version")
{
  echo "/*! sortable-tablesort $version, written by scripts/setup/report_page.sh."
  cat "$name/LICENSE"
  echo "*/"
  cat "$name/dist/sortable.min.js"
} > "$target"
echo "wrote $(wc -c < "$target") bytes to scripts/lib/report_page/sortable.js"
