#!/usr/bin/env bash
# Bundle TanStack Virtual, which the trial browser's table uses, into
# scripts/lib/trial_browser/virtual-core.js. Needs npm; nothing else of Grace does.
#
#   scripts/setup/trial_browser.sh            # from the lock file: the same bytes
#   scripts/setup/trial_browser.sh --renew    # after an edit of trial_browser/package.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/trial_browser"
target=../../lib/trial_browser/virtual-core.js

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json entry.js "$work"
if [[ ${1:-} == --renew ]]; then
  # The lock file names no registry: npm asks the one that it is configured with.
  (cd "$work" && npm install --omit-lockfile-registry-resolved --no-audit --no-fund --silent)
  cp "$work/package-lock.json" .
else
  cp package-lock.json "$work"
  (cd "$work" && npm ci --no-audit --no-fund --silent)
fi
cd "$work"
name=node_modules/@tanstack/virtual-core
version=$(node -p "require('./$name/package.json').version")
npx --no-install esbuild entry.js --bundle --minify --format=iife --global-name=TanStackVirtual \
  --target=es2020 --legal-comments=none --log-level=warning --outfile=bundle.js
cd - > /dev/null
{
  echo "/*! @tanstack/virtual-core $version, bundled by scripts/setup/trial_browser.sh."
  cat "$work/$name/LICENSE"
  echo "*/"
  cat "$work/bundle.js"
} > "$target"
echo "wrote $(wc -c < "$target") bytes to scripts/lib/trial_browser/virtual-core.js"
